"""The watermark of one partition: what a reader was handed of it, and how far it is done without a gap.

Business of this file: counting. Whoever moves the group over what is done (and first asks whether it still
may) is the adapter of the log.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Watermark:
    """Begins at `next_offset`, the first that is handed out. Offsets come in rising order, gaps between them
    are allowed; they are marked done in any order, more than once if need be."""

    next_offset: int
    handed: deque[int] = field(default_factory=deque)
    _apart: set[int] = field(default_factory=set)

    def hand_out(self, *offsets: int) -> None:
        self.handed.extend(offsets)
        self.next_offset = offsets[-1] + 1

    def mark(self, *offsets: int) -> bool:
        """These are done; False if one of them was never handed out, and the others are done all the same."""
        known = [offset for offset in offsets if offset < self.next_offset]
        if self.handed:
            first = self.handed[0]
            self._apart.update([offset for offset in known if offset >= first])
        return len(known) == len(offsets)

    def reached(self) -> int:
        """The first offset that is not done: everything below it is, or was never there."""
        for offset in self.handed:
            if offset not in self._apart:
                return offset
        return self.next_offset

    def settle(self, reached: int) -> None:
        """The group was moved there: what lies below is forgotten. What `handed` holds now is undone, or
        done and not moved over."""
        while self.handed and self.handed[0] < reached:
            self._apart.discard(self.handed.popleft())
