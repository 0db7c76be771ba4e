"""Evidence (preuve): what a partner's server answered to an attempt, sealed under the key of its submission.

Business of this room: sealing it before it is stored, and opening it for an operator who asks. It may hold anything: a
server may say again what it was sent. So it is bound to its attempt, kept nowhere else, and gone with its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from hub.domain.delivery import Attempt
from hub.domain.errors import MissingKey, Tampered, UnknownKey
from hub.ports.evidence import Evidence, SealedAnswer
from hub.ports.keyring import Keyring

log = structlog.get_logger()


def seal_answer(keyring: Keyring, wrapped_key: bytes, attempt: Attempt, answer: bytes | None) -> bytes | None:
    """As it may be stored. None where nothing was said, or where it cannot be sealed, for whatever reason: what came of
    the attempt must be written all the same."""
    if not answer or not wrapped_key:
        return None
    try:
        return keyring.seal(keyring.unwrap(wrapped_key), answer, _said_to(attempt))
    except (MissingKey, Tampered, UnknownKey):
        return None
    except Exception as error:  # our own fault: without this, an outcome would be lost for an answer
        log.error("answer.unsealed", delivery=str(attempt.delivery), error=type(error).__name__)
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is None where it cannot be opened any more."""

    told: SealedAnswer
    text: bytes | None = field(repr=False)


class EvidenceRoom:
    def __init__(self, evidence: Evidence, keyring: Keyring) -> None:
        self._evidence = evidence
        self._keyring = keyring

    async def answers(self, delivery: UUID, operator: str, most: int) -> Sequence[Answer]:
        """The newest of a delivery, oldest first."""
        found = await self._evidence.answers(delivery, f"operator:{operator}", most)
        return [Answer(told, self._open(told)) for told in found]

    def _open(self, told: SealedAnswer) -> bytes | None:
        if not told.wrapped_key:
            return None
        try:
            key = self._keyring.unwrap(told.wrapped_key)
            return self._keyring.open(key, told.sealed, _said_to(told.attempt))
        except (MissingKey, Tampered, UnknownKey):
            return None


def _said_to(attempt: Attempt) -> bytes:
    return b"answer %b %d.%d" % (attempt.delivery.bytes, attempt.sending, attempt.number)
