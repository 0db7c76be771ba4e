"""Records that the library cannot read, so that those behind them are read all the same.

Business of this file: going on where the library raises while it takes a batch apart. Brokers let no damaged batch
in, but they do not look at the names of headers, which the library wants in UTF-8. It then fails at that record and,
as it takes a batch apart from its beginning, at each one behind it in its batch: they are handed out as records of
which nothing is known but their place.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

POISON = UnicodeDecodeError

# A broker that takes longer is asked again.
_PATIENCE_MS = 200


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In the place of a record of the library's."""

    partition: int
    offset: int
    key: None = None
    value: None = None
    headers: Sequence[Any] = ()


async def past_poison(consumer: Any, ready: Mapping[Any, int]) -> Mapping[Any, Sequence[Any]]:
    """To be called when the consumer raised POISON: the next record of one of these partitions, each with the offset
    it is read from. Of the others nothing is taken; so it may be cut off at any moment."""
    for where, offset in ready.items():
        # Also where all went well: what was taken before it raised is lost else.
        consumer.seek(where, offset)
    # In any order: one that always has something must not keep the others waiting.
    for where, offset in random.sample(list(ready.items()), len(ready)):
        try:
            page: Mapping[Any, Sequence[Any]] = await consumer.getmany(
                where, timeout_ms=_PATIENCE_MS, max_records=1
            )
        except POISON:
            consumer.seek(where, offset + 1)
            return {where: [Unreadable(where.partition, offset)]}
        if page:
            return page
    return {}
