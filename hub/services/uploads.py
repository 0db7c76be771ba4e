"""Uploads: files that come ahead of the deposit that names them. They are sealed as they stream in, under one key
for each upload, and wait for at least ten days.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog

from hub.domain.errors import HubError
from hub.ports.attachments import Attachments, StoredFile
from hub.ports.keyring import DataKey, Keyring
from hub.ports.uploads import Upload, UploadedFile, Uploads

log = structlog.get_logger()


@dataclass(slots=True)
class Loading:
    """An upload being received."""

    sender: str
    key: DataKey = field(repr=False)
    files: list[StoredFile] = field(default_factory=list)


class UploadRoom:
    """`senders`: those that have a topic for deposits; nobody else has a use for uploads."""

    def __init__(
        self, uploads: Uploads, attachments: Attachments, keyring: Keyring, senders: frozenset[str]
    ) -> None:
        self._uploads = uploads
        self._attachments = attachments
        self._keyring = keyring
        self._senders = senders

    def is_for(self, sender: str) -> bool:
        return sender in self._senders

    def begin(self, sender: str) -> Loading:
        return Loading(sender, self._keyring.fresh())

    async def store_file(self, loading: Loading, chunks: AsyncIterator[bytes]) -> None:
        """Seal and store the bytes of the next file as they come."""
        loading.files.append(await self._attachments.put(chunks, loading.key))

    async def keep(self, loading: Loading) -> tuple[UUID, Sequence[StoredFile]]:
        """Its name and its files, of which there must be one: durable when this returns."""
        files = [
            UploadedFile(file.name, file.size, self._keyring.digest(file.sha256)) for file in loading.files
        ]
        name = uuid4()
        await self._uploads.keep(Upload(name, loading.sender, loading.key.wrapped, files))
        log.info("upload.received", upload=str(name), sender=loading.sender, files=len(files))
        return name, loading.files

    async def give_up(self, loading: Loading) -> None:
        """Remove its files, even while this task is being cancelled; what cannot be removed is left to the sweep.
        Never after `keep` was called."""
        try:
            await asyncio.shield(self._attachments.remove([file.name for file in loading.files]))
        except (HubError, OSError) as error:
            log.warning("upload.left_to_the_sweep", sender=loading.sender, error=type(error).__name__)
