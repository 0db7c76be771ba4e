"""Relocating an embedded hub: all that is against it is told before anything is changed, and wherever it ends,
only one side can be opened."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from hub.adapters.objects.local import LocalAttachments
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.relocation import Copied, copy_store
from hub.assembly import ground, relocate, relocation, reopen
from hub.domain.errors import SettingsError
from hub.domain.submission import AttachmentFacts, StoredAttachment, Submission
from hub.settings import Settings
from tests.conformance.attachment_places import chunked
from tests.conformance.samples import execute, rows, submission

FILES = 5
PASSWORD = "un-mot-de-passe-d-ailleurs"


class Killed(BaseException):
    """At this very line."""


class Worlds:
    """`here`: an embedded hub in a folder, with accepted submissions; `there`: where it may go."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.here = Settings(folder=folder / "here")
        self.there = Settings(
            folder=folder / "there", database_url=SecretStr(dsn), key_file=self.here.folder / "hub.key"
        )
        self.said: list[str] = []

    async def relocate(self, *, dry: bool = False, **other: Any) -> relocation.Relocated:
        there = self.there.model_copy(update=other)
        return await relocate(self.here, there, dry=dry, say=self.said.append)

    async def open_here(self) -> int:
        """How many submissions are here. Raises SettingsError when the folder is closed."""
        async with ground(self.here, alone=True) as base:
            return len(await rows(base.database, "SELECT FROM submission"))

    async def count_there(self) -> int:
        assert self.there.database_url is not None
        database = await Database.open(self.there.database_url.get_secret_value())
        try:
            return len(await rows(database, "SELECT FROM submission"))
        finally:
            await database.close()

    async def order_there(self, statement: str) -> None:
        assert self.there.database_url is not None
        database = await Database.open(self.there.database_url.get_secret_value())
        await execute(database, statement)
        await database.close()

    def files_there(self) -> set[str]:
        return {path.name for path in (self.there.folder / "attachments").rglob("*") if path.is_file()}

    async def live(self) -> None:
        async with ground(self.here, alone=True) as base:
            attachments = LocalAttachments(self.here.folder / "attachments")
            accepted = []
            for number in range(FILES):
                key = base.keyring.fresh()
                kept = await attachments.put(chunked(b"contenu" * 1000), key)
                accepted.append(_with_file(submission(number), kept.name, kept.size))
            await PostgresIntake(base.database).accept(accepted)


def _with_file(one: Submission, name: str, size: int) -> Submission:
    return Submission(
        id=one.id,
        sender=one.sender,
        external_id=one.external_id,
        procedure=one.procedure,
        facts=one.facts,
        digest=one.digest,
        sealed=one.sealed,
        wrapped_key=one.wrapped_key,
        attachments=(StoredAttachment(AttachmentFacts(1, "acte", None), size, name),),
    )


@pytest.fixture
def worlds(fresh_database: Callable[[], str]) -> Iterator[Worlds]:
    # Where the account that runs the embedded server gets through.
    folder = Path(tempfile.mkdtemp(prefix="hub-relocation-", dir="/tmp"))
    folder.chmod(0o711)
    yield Worlds(folder, fresh_database())
    shutil.rmtree(folder, ignore_errors=True)


async def test_all_that_is_against_it_is_told_at_once_and_nothing_is_changed(worlds: Worlds) -> None:
    with pytest.raises(SettingsError, match="no store in"):
        await worlds.relocate()
    await worlds.live()
    await worlds.order_there("INSERT INTO partner (subscriber, name, channel) VALUES ('x', 'x', 'x')")
    worlds.there.folder.mkdir()
    (worlds.there.folder / "attachments.store").write_text(str(uuid4()))
    with pytest.raises(SettingsError) as told:
        await worlds.relocate(
            key_file=None,
            key=SecretStr(base64.b64encode(bytes(32)).decode()),
            log_partitions=7,
            tls_key=Path("key.pem"),
        )
    assert len(str(told.value).splitlines()) == 4
    for words in ("another key", "is not empty", "HUB_LOG_PARTITIONS", "HUB_TLS_CERTIFICATE"):
        assert words in str(told.value)
    with pytest.raises(SettingsError, match="those of another store"):
        await worlds.relocate()
    nowhere = SecretStr(f"postgresql://hub:{PASSWORD}@127.0.0.1:9/hub")
    with pytest.raises(SettingsError) as told:
        await worlds.relocate(database_url=nowhere)
    assert "postgresql://127.0.0.1:9/hub: the database does not serve" in str(told.value)
    assert PASSWORD not in str(told.value)
    with pytest.raises(SettingsError, match="HUB_DATABASE_URL"):
        await worlds.relocate(database_url=None)
    with pytest.raises(SettingsError, match="name no key"):
        await worlds.relocate(key_file=None)
    async with ground(worlds.here, alone=True):
        with pytest.raises(SettingsError, match="another hub"):
            await worlds.relocate()
    assert await worlds.open_here() == FILES
    assert await worlds.count_there() == 0
    assert worlds.files_there() == set()


async def test_wherever_it_ends_at_most_one_side_is_open_and_begun_again_it_goes_on(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worlds.live()
    # Of a template's copies each is the same store: this one is to be another, never used.
    await worlds.order_there("UPDATE store SET id = gen_random_uuid()")
    told = await worlds.relocate(dry=True)
    assert told.files is not None
    assert (told.rows, told.files.files, told.files.named, told.lost) == (None, FILES, FILES, 0)
    assert await worlds.open_here() == FILES

    with monkeypatch.context() as patch:
        patch.setattr(relocation, "claim", _killed)
        with pytest.raises(Killed):
            await worlds.relocate()
    await _assert_closed(worlds, "is being relocated")
    # Nothing is there yet: one may go back.
    assert await reopen(worlds.here, worlds.there)
    assert await worlds.open_here() == FILES

    with monkeypatch.context() as patch:
        patch.setattr(relocation, "copy_store", _killed)
        with pytest.raises(Killed):
            await worlds.relocate()
    await _assert_closed(worlds, "is being relocated")
    assert await worlds.count_there() == 0
    assert len(worlds.files_there()) == FILES

    async def killed_after(*given: Any, **named: Any) -> Copied:
        await copy_store(*given, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(relocation, "copy_store", killed_after)
        with pytest.raises(Killed):
            await worlds.relocate()
    await _assert_closed(worlds, "is being relocated")
    assert await worlds.count_there() == FILES
    with pytest.raises(SettingsError, match="two would both deliver"):
        await reopen(worlds.here, worlds.there)
    with pytest.raises(SettingsError, match="is not where this store went"):
        await worlds.relocate(database_url=SecretStr("postgresql://hub@/autre?host=/nulle/part"))

    told = await worlds.relocate()
    assert told.files is not None
    assert (told.rows, told.files.before, told.lost) == (None, FILES, 0)
    await _assert_closed(worlds, "was relocated to")
    # The way back, once the store there is gone.
    await worlds.order_there("UPDATE store SET id = gen_random_uuid()")
    assert await reopen(worlds.here, worlds.there)
    assert await worlds.open_here() == FILES
    # A copy that nobody remembers having made may be an old one.
    await worlds.order_there(f"UPDATE store SET id = '{await _store(worlds)}'")
    with pytest.raises(SettingsError, match="made otherwise"):
        await worlds.relocate()


async def test_files_that_were_missing_before_are_told(worlds: Worlds) -> None:
    await worlds.live()
    await worlds.order_there("UPDATE store SET id = gen_random_uuid()")
    [one, *_] = sorted((worlds.here.folder / "attachments").glob("*/*"))
    one.unlink()
    told = await worlds.relocate()
    assert told.lost == 1
    assert await worlds.count_there() == FILES


async def _killed(*_: Any, **__: Any) -> Any:
    raise Killed


async def _assert_closed(worlds: Worlds, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        await worlds.open_here()


async def _store(worlds: Worlds) -> str:
    async with ground(worlds.here, alone=True) as base:
        [row] = await rows(base.database, "SELECT id FROM store")
        return str(row["id"])
