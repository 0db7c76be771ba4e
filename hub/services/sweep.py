"""The sweep: removes files that no accepted submission names, a day after they were written.

A post takes at most an hour, so a file that is a day old and unnamed will never be named.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from hub.ports.attachments import Attachments
from hub.ports.store import Intake

UNNAMED_FOR = timedelta(days=1)

log = structlog.get_logger()


class SweepRoom:
    def __init__(self, attachments: Attachments, store: Intake, age: timedelta = UNNAMED_FOR) -> None:
        self._attachments = attachments
        self._store = store
        self._age = age

    async def run_once(self) -> int:
        """How many files were removed."""
        removed = 0
        async for names in self._attachments.names_older_than(self._age):
            named = await self._store.named(names)
            unnamed = [name for name in names if name not in named]
            await self._attachments.remove(unnamed)
            removed += len(unnamed)
        if removed:
            log.info("files.swept", files=removed)
        return removed
