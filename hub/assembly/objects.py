"""The attachment store: a folder of this machine, or a bucket; and that it belongs to this hub's store."""

from __future__ import annotations

from hub.adapters.objects.bucket import Bucket
from hub.adapters.objects.local import LocalAttachments
from hub.adapters.objects.s3 import S3Attachments
from hub.adapters.postgres.migrations import store_id
from hub.assembly.ground import Ground
from hub.domain.errors import SettingsError
from hub.settings import Settings


def attachment_store(settings: Settings) -> LocalAttachments | S3Attachments:
    """Raises SettingsError."""
    if settings.attachments is None:
        return LocalAttachments(settings.folder / "attachments")
    access, secret = settings.s3_access_key, settings.s3_secret_key
    return S3Attachments(
        Bucket(
            settings.attachments,
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key=None if access is None else access.get_secret_value(),
            secret_key=None if secret is None else secret.get_secret_value(),
            ca=settings.s3_ca,
            patience=settings.s3_patience,
        )
    )


async def check_owner(base: Ground) -> None:
    """The sweep removes what the store does not name: with another store it would remove everything. Raises
    SettingsError when the attachments here belong to another one."""
    store = await store_id(base.database)
    there = attachment_store(base.settings)
    if isinstance(there, S3Attachments):
        owner = await there.owner(store)
    else:
        mark = base.settings.folder / "attachments.store"
        owner = mark.read_text("ascii").strip() if mark.exists() else ""
        if not owner:
            mark.write_text(f"{store}\n", encoding="ascii")
            owner = store
    if owner != store:
        where = base.settings.attachments or base.settings.folder
        raise SettingsError(
            f"the attachments in {where} belong to another database than this one: set"
            " HUB_DATABASE_URL, HUB_FOLDER and HUB_ATTACHMENTS as they were"
        )
