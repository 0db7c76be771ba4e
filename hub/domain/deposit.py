"""Deposits: submissions that a form site writes into its own topic instead of posting them.

Business of this file: what such a record says once it is read, what it is answered when it is refused, and which
senders can have a topic. Whose deposit it is says the topic alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from hub.domain.document import Document
from hub.domain.errors import Flaw

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


def may_have_a_topic(sender: str) -> bool:
    """Letters, digits, `_` and `-`: with a dot, one sender's topic could be another's for refusals."""
    return _NAME.fullmatch(sender) is not None


@dataclass(frozen=True, slots=True)
class Deposit:
    """The bytes of file n are in `contents`, or they are the file `uploaded[n]` of `upload`. `sender`: who it
    says it is of, if it says so; believed is only the topic."""

    sender: str | None
    external_id: str
    document: Document
    contents: Mapping[int, bytes] = field(repr=False)
    upload: UUID | None = None
    uploaded: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the record at this place of a sender's topic is not accepted; never its bytes. `problem`: the kind, as
    the HTTP API names it."""

    partition: int
    offset: int
    external_id: str | None
    problem: str
    flaws: tuple[Flaw, ...]
