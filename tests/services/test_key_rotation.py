"""The hub's key is rotated while the hub is at work: whoever is killed at whichever step, everything opens, and what
begun is brought to its end by the same command."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from pydantic import SecretStr

from hub.adapters.keys.file import KeyFile
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.wrapped_keys import PLACES, PostgresWrappedKeys
from hub.assembly.ground import ground
from hub.domain.errors import SettingsError, Unavailable, UnknownKey
from hub.services.rotation import RotationRoom
from hub.settings import Settings

MANY = 2500
LIFETIME = timedelta(hours=72)


class Killed(BaseException):
    """As a process that is killed: nothing catches it."""


class World:
    """A store with wrapped keys in every place, and the plain keys to compare with."""

    def __init__(self, database: Database, path: Path) -> None:
        self.database = database
        self.path = path
        self.kept = PostgresWrappedKeys(database)
        self.plain: dict[tuple[str, object], bytes] = {}

    def keyring(self) -> LocalKeyring:
        """As a process that starts now has it."""
        return LocalKeyring.from_file(self.path, create=True)

    def room(self, keyring: LocalKeyring, *, shared: bool = True) -> RotationRoom:
        return RotationRoom(keyring, self.kept, KeyFile(self.path), shared=shared, lifetime=LIFETIME)

    async def write(self, statement: str, *given: object) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(statement, *given)

        await self.database.once(work)

    async def rotate(self) -> int:
        return (await self.room(self.keyring()).rotate(everywhere=False, told=lambda _: None)).done

    async def plant(self, keyring: LocalKeyring, submissions: int) -> None:
        await self.kept.root(keyring.root(), keyring.ids[0])
        ids = [uuid4() for _ in range(submissions)]
        keys = [keyring.fresh() for _ in ids]
        self.plain |= {("submission_key", id): key.plain for id, key in zip(ids, keys, strict=True)}
        await self.write(
            "INSERT INTO submission_key (submission, wrapped) SELECT * FROM unnest($1::uuid[], $2::bytea[])",
            ids,
            [key.wrapped for key in keys],
        )
        upload, loaded, kept = uuid4(), keyring.fresh(), keyring.fresh()
        for number in (1, 2):
            await self.write(
                "INSERT INTO upload (id, number, sender, location, size, digest, wrapped)"
                " VALUES ($1, $2, 's', $3, 1, '', $4)",
                upload,
                number,
                f"{upload}-{number}",
                loaded.wrapped,
            )
            self.plain["upload", (upload, number)] = loaded.plain
        name = f"{uuid4().int % 10**14:014d}-1"
        await self.write(
            "INSERT INTO partner (subscriber, name, channel, secrets, secrets_key) VALUES ($1, 'a', 'sftp', '', $2),"
            " ($3, 'b', 'mailbox', NULL, NULL)",
            name,
            kept.wrapped,
            f"{name}2",
        )
        self.plain["partner", name] = kept.plain

    async def opens(self, keyring: LocalKeyring) -> None:
        """Everything, under a keyring, and to what it was."""

        async def work(connection: Connection) -> dict[tuple[str, object], bytes]:
            found: dict[tuple[str, object], bytes] = {}
            for place in PLACES:
                rows = await connection.fetch(
                    f"SELECT {place.keys}, {place.column} FROM {place.table} WHERE {place.column} IS NOT NULL"
                )
                for row in rows:
                    key = tuple(row[name] for name, _ in place.key)
                    found[place.table, key[0] if len(key) == 1 else key] = row[place.column]
            return found

        found = await self.database.once(work)
        opened = {place: keyring.unwrap(wrapped).plain for place, wrapped in found.items()}
        assert opened.pop(("keyring", True))
        assert opened == self.plain


@pytest_asyncio.fixture
async def world(fresh_database: Callable[[], str], tmp_path: Path) -> AsyncIterator[World]:
    database = await Database.open(fresh_database())
    yield World(database, tmp_path / "hub.key")
    await database.close()


async def test_everything_is_wrapped_anew_in_pages_and_the_old_key_is_needed_no_more(world: World) -> None:
    old = world.keyring()
    await world.plant(old, MANY)
    before = old.ids
    # Each row of an upload, a partner and the root of digests beside the submissions.
    assert await world.rotate() == MANY + 4
    assert await world.rotate() == 0, "what is under way is gone on with: no third key is made"
    room = world.room(world.keyring())
    with pytest.raises(SettingsError, match="still good for 72 hours; --at-once"):
        await room.forget(at_once=False)
    assert await room.forget(at_once=True) == 1
    fresh = world.keyring()
    assert len(fresh.ids) == 1
    assert fresh.ids[0] not in before
    await world.opens(fresh)
    with pytest.raises(UnknownKey):
        await world.opens(LocalKeyring(bytes(32)))


async def test_what_came_under_the_old_key_meanwhile_keeps_it_from_being_forgotten(world: World) -> None:
    late = LocalKeyring.from_base64(_text(world))
    await world.plant(late, 3)
    await world.rotate()
    # A process that has its key from a setting and was not started again.
    await world.plant(late, 1)
    with pytest.raises(SettingsError, match="still wrapped under"):
        await world.room(world.keyring()).forget(at_once=True)
    assert len(world.keyring().ids) == 2
    assert await world.rotate() == 4
    await world.room(world.keyring()).forget(at_once=True)
    await world.opens(world.keyring())
    # From then on what it wraps is refused by the store, and not found out when it is to be opened.
    with pytest.raises(Unavailable, match="key"):
        await world.plant(late, 1)


def _text(world: World) -> str:
    world.keyring()
    return world.path.read_text()


async def test_a_process_that_knew_only_the_old_key_reads_the_file_again(world: World) -> None:
    other = world.keyring()
    await world.plant(other, 5)
    signed = other.sign("link", b"given out before")
    digest = other.digest(b"content")
    await world.rotate()
    await world.opens(other)
    newer = world.keyring()
    newer.take_root(await world.kept.root(newer.root(), newer.ids[0]))
    assert other.ids == newer.ids
    assert newer.verify("link", b"given out before", signed)
    assert other.verify("link", b"new", newer.sign("link", b"new"))
    assert not newer.verify("link", b"forged", signed)
    await world.room(newer).forget(at_once=True)
    last = world.keyring()
    last.take_root(await world.kept.root(last.root(), last.ids[0]))
    assert last.digest(b"content") == digest == other.digest(b"content")
    assert not last.verify("link", b"given out before", signed)


async def test_a_key_that_other_machines_must_learn_first_is_not_used_before_it_is_said(world: World) -> None:
    await world.plant(world.keyring(), 2)
    (old,) = world.keyring().ids
    for _ in range(2):
        told = await world.room(world.keyring(), shared=False).rotate(everywhere=False, told=lambda _: None)
        assert told.announced
        keyring = world.keyring()
        assert keyring.fresh().wrapped[1:9] == old == keyring.ids[0]
        assert len(keyring.ids) == 2
        with pytest.raises(SettingsError, match="rotate first"):
            await world.room(keyring, shared=False).forget(at_once=True)
    copied = LocalKeyring.from_base64(world.path.read_text())
    told = await world.room(keyring, shared=False).rotate(everywhere=True, told=lambda _: None)
    assert not told.announced
    assert told.done == 6
    await world.opens(copied)
    assert (
        await world.room(world.keyring(), shared=False).rotate(everywhere=False, told=lambda _: None)
    ).done == 0
    assert [(one.newest, one.known, one.wrapped) for one in await world.room(world.keyring()).standing()] == [
        (True, True, 6),
        (False, True, 0),
    ]


async def test_a_new_key_behind_the_old_in_a_setting_is_never_forgotten(world: World) -> None:
    old = os.urandom(32), os.urandom(32)
    await world.plant(LocalKeyring(old[0]), 1)

    def room(*keys: bytes) -> RotationRoom:
        return RotationRoom(LocalKeyring(*keys), world.kept, None, shared=False, lifetime=LIFETIME)

    with pytest.raises(SettingsError, match="HUB_KEY"):
        await room(old[0]).rotate(everywhere=True, told=lambda _: None)
    assert (await room(*old).rotate(everywhere=True, told=lambda _: None)).done == 0
    with pytest.raises(SettingsError, match="rotate first"):
        await room(*old).forget(at_once=True)
    with pytest.raises(SettingsError, match="rotate first"):
        await room(old[1], old[0]).forget(at_once=True)
    assert (await room(old[1], old[0]).rotate(everywhere=True, told=lambda _: None)).done == 5
    assert await room(old[1], old[0]).forget(at_once=True) == 1
    await world.opens(LocalKeyring(old[1]))


async def test_two_do_not_rotate_at_once(world: World) -> None:
    await world.plant(world.keyring(), 1)
    async with world.kept.alone() as alone:
        assert alone
        for act in (world.rotate(), world.room(world.keyring()).forget(at_once=True)):
            with pytest.raises(SettingsError, match="somebody else"):
                await act
    assert await world.rotate() == 5


async def test_what_does_not_open_is_told_and_stops_nothing(world: World) -> None:
    stranger = LocalKeyring(os.urandom(32))
    keyring = world.keyring()
    await world.plant(keyring, 2)
    for wrapped in (stranger.fresh().wrapped, keyring.fresh().wrapped[:-1] + b"?"):
        await world.write("INSERT INTO submission_key VALUES ($1, $2)", uuid4(), wrapped)
    told = await world.room(keyring).rotate(everywhere=False, told=lambda _: None)
    assert told.done == 6
    assert told.left == {stranger.ids[0]: 1, keyring.ids[1]: 1}
    standing = {one.id: (one.known, one.wrapped) for one in await world.room(keyring).standing()}
    assert standing[stranger.ids[0]] == (False, 1)


async def test_another_key_than_the_store_s_ends_the_start_with_a_sentence(
    fresh_database: Callable[[], str], tmp_path: Path
) -> None:
    def told(key: bytes) -> Settings:
        return Settings(
            folder=tmp_path, database_url=SecretStr(dsn), key=SecretStr(base64.b64encode(key).decode())
        )

    dsn = fresh_database()
    async with ground(told(bytes(32)), alone=False) as first:
        digest = first.keyring.digest(b"content")
    with pytest.raises(SettingsError, match="nothing would open"):
        async with ground(told(bytes(range(32))), alone=False):
            pass
    async with ground(told(bytes(32)), alone=False) as again:
        assert again.keyring.digest(b"content") == digest


# --- killed ---------------------------------------------------------------------------------------------


class Axe:
    """Counts calls, and is the end at one of them, before or after it."""

    def __init__(self, fall: int) -> None:
        self.fall = fall
        self.calls: list[str] = []

    def struck(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.fall:
            raise Killed(name)


@contextmanager
def axed(axe: Axe, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Before and after each of these, the process may be gone."""

    def before_and_after(owner: Any, name: str) -> None:
        found = getattr(owner, name)

        def called(*given: Any, **named: Any) -> Any:
            axe.struck(f"before {name}")
            result = found(*given, **named)
            axe.struck(f"after {name}")
            return result

        patch.setattr(owner, name, called)

    def transaction() -> None:
        run = Database.run

        async def called(self: Database, work: Any) -> Any:
            axe.struck("before a transaction")
            result = await run(self, work)
            axe.struck("after a transaction")
            return result

        patch.setattr(Database, "run", called)

    with monkeypatch.context() as patch:
        for name in ("rename", "fsync"):
            before_and_after(os, name)
        transaction()
        yield


async def _once(world: World, axe: Axe, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Rotate and forget, or as far as the axe lets it come. Whether it came to the end."""
    try:
        with axed(axe, monkeypatch):
            await world.rotate()
            await world.room(world.keyring()).forget(at_once=True)
    except Killed:
        return False
    return True


async def test_killed_at_any_step_everything_opens_and_the_same_commands_bring_it_to_an_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.adapters.postgres.wrapped_keys._PAGE", 100)
    running = world.keyring()
    await world.plant(running, 120)
    seen: set[str] = set()
    for fall in range(1, 200):
        (old,) = world.keyring().ids
        axe = Axe(fall)
        ended = await _once(world, axe, monkeypatch)
        seen.update(axe.calls)
        # As a process that starts now, and as one that was there before.
        await world.opens(world.keyring())
        await world.opens(running)
        assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
        # What is accepted right after is found as well.
        await world.plant(running, 1)
        assert await _once(world, Axe(0), monkeypatch)
        await world.opens(world.keyring())
        assert [one.name for one in world.path.parent.iterdir()] == ["hub.key"]
        assert old not in world.keyring().ids
        if ended:
            break
    else:
        raise AssertionError("it never came to its end")
    assert {"after rename", "before a transaction", "after fsync"} <= seen
    assert fall > 30


# --- nothing forgotten ----------------------------------------------------------------------------------


async def test_no_column_of_wrapped_keys_is_left_out(world: World) -> None:
    """Named as such columns are: whoever adds one under another name does not find this test."""

    async def work(connection: Connection) -> Sequence[Any]:
        return await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE data_type = 'bytea'"
            " AND table_schema = current_schema() AND column_name ~ '(^|_)(wrapped|key|root)$'"
            " AND table_name <> 'log_record'"
        )

    found = {(row["table_name"], row["column_name"]) for row in await world.database.once(work)}
    assert found == {(place.table, place.column) for place in PLACES}
