"""The attachment store: a folder of this machine, or a bucket; and that it belongs to this hub's store."""

from __future__ import annotations

from pathlib import Path

from hub.adapters.objects.bucket import Bucket
from hub.adapters.objects.local import LocalAttachments
from hub.adapters.objects.s3 import S3Attachments
from hub.adapters.objects.sealed import SealedBucket, SealedFolder
from hub.adapters.postgres.migrations import store_id
from hub.assembly.ground import Ground
from hub.domain.errors import SettingsError
from hub.ports.attachments import SealedFiles
from hub.settings import Settings


def attachment_store(settings: Settings) -> LocalAttachments | S3Attachments:
    """Raises SettingsError."""
    if settings.attachments is None:
        return LocalAttachments(_folder(settings))
    return S3Attachments(_bucket(settings))


def sealed_files(settings: Settings) -> SealedFiles:
    """The same store, as its files lie. Raises SettingsError."""
    return (
        SealedFolder(_folder(settings)) if settings.attachments is None else SealedBucket(_bucket(settings))
    )


def place_of_files(settings: Settings) -> tuple[str | None, str]:
    """What tells two places of attachments apart: endpoint and address, or the folder."""
    if settings.attachments is None:
        return None, str(_folder(settings).resolve())
    return settings.s3_endpoint, settings.attachments.rstrip("/")


def _folder(settings: Settings) -> Path:
    return settings.folder / "attachments"


def _bucket(settings: Settings) -> Bucket:
    assert settings.attachments is not None
    access, secret = settings.s3_access_key, settings.s3_secret_key
    return Bucket(
        settings.attachments,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=None if access is None else access.get_secret_value(),
        secret_key=None if secret is None else secret.get_secret_value(),
        ca=settings.s3_ca,
        patience=settings.s3_patience,
    )


async def known_owner(settings: Settings) -> str | None:
    """Which store the attachments belong to; None: to none yet. Raises SettingsError, Unavailable."""
    there = attachment_store(settings)
    if isinstance(there, S3Attachments):
        return await there.known_owner()
    mark = settings.folder / "attachments.store"
    return (mark.read_text("ascii").strip() or None) if mark.exists() else None


async def claim(settings: Settings, store: str) -> None:
    """They are this store's from now on. Raises SettingsError when they belong to another one, Unavailable."""
    owner = await known_owner(settings)
    if owner is None:
        there = attachment_store(settings)
        if isinstance(there, S3Attachments):
            owner = await there.owner(store)
        else:
            settings.folder.mkdir(parents=True, exist_ok=True)
            (settings.folder / "attachments.store").write_text(f"{store}\n", encoding="ascii")
            owner = store
    if owner != store:
        where = settings.attachments or settings.folder
        raise SettingsError(
            f"the attachments in {where} belong to another database than this one: set"
            " HUB_DATABASE_URL, HUB_FOLDER and HUB_ATTACHMENTS as they were"
        )


async def check_owner(base: Ground) -> None:
    """The sweep removes what the store does not name: with another store it would remove everything. Raises
    SettingsError when the attachments here belong to another one."""
    await claim(base.settings, await store_id(base.database))
