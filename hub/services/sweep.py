"""The sweep: forgets uploads that nobody can name any more, then removes files that neither an accepted submission
nor an upload names, a day after they were written.

A post takes at most an hour, so a file that is a day old and unnamed will never be named. A deposit may name an
upload for ten days: what is ten days older than everything its sender has written and intake has not read, no
deposit will name.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from hub.domain.errors import Unavailable
from hub.ports.attachments import Attachments
from hub.ports.deposits import Deposits
from hub.ports.intake import Intake
from hub.ports.uploads import Uploads

UNNAMED_FOR = timedelta(days=1)
UPLOADS_KEPT = timedelta(days=10)
# Intake is always a moment behind: whoever waited for it to have read everything would wait for ever.
BEHIND = timedelta(hours=1)

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


class UploadSweep:
    """Of uploads; their files go with the other unnamed ones. `behind`: how far intake may be behind a sender whose
    uploads are forgotten all the same."""

    def __init__(self, uploads: Uploads, deposits: Deposits, behind: timedelta = BEHIND) -> None:
        self._uploads = uploads
        self._deposits = deposits
        self._behind = behind

    async def run_once(self) -> int:
        """How many files nobody names from now on. A sender whose topic cannot be asked keeps its own."""
        forgotten = 0
        for sender, newest in (await self._uploads.newest_older_than(UPLOADS_KEPT + self._behind)).items():
            try:
                if await self._deposits.read_before(sender, newest + UPLOADS_KEPT):
                    forgotten += await self._uploads.forget(sender, newest)
            except Unavailable:
                log.warning("uploads.kept", sender=sender)
        if forgotten:
            log.info("uploads.forgotten", files=forgotten)
        return forgotten
