"""What every attachment store must hold: files are whole or absent, sealed at rest, and open by range.

Another adapter joins as one more param of `place`, with a Place of its own. What only a folder can be
asked (permissions, a full disk, a killed process) stands at the end.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from itertools import count, groupby
from pathlib import Path
from typing import Any, Protocol

import pytest

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.objects.local import LocalAttachments
from hub.adapters.objects.sealing import HEADER, SEGMENT, TAG
from hub.domain.errors import Tampered, Unavailable
from hub.ports.attachments import Attachments
from hub.ports.keyring import DataKey

KEYRING = LocalKeyring(bytes(range(32)))
KEY = KEYRING.fresh()
MARKER = b"AN UNMISTAKABLE MARKER OF WHAT THE CITIZEN WROTE. "
NOW = timedelta(0)
# Longer than one piece of work, several segments, and no multiple of anything.
LARGE = os.urandom(2_500_000)


class Place(Protocol):
    """An adapter, and the view of whoever holds what it stands on."""

    @property
    def attachments(self) -> Attachments: ...

    async def kept(self) -> dict[str, bytes]:
        """All that is kept at this moment, by name, as it lies there: unfinished things too."""
        ...

    async def overwrite(self, name: str, content: bytes) -> None: ...

    async def make_older(self, name: str, age: timedelta) -> None: ...


class LocalFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "attachments"
        self.attachments: Attachments = LocalAttachments(self.folder)

    async def kept(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    async def overwrite(self, name: str, content: bytes) -> None:
        self.path(name).write_bytes(content)

    async def make_older(self, name: str, age: timedelta) -> None:
        then = time.time() - age.total_seconds()
        os.utime(self.path(name), (then, then))

    def path(self, name: str) -> Path:
        [path] = self.folder.rglob(name)
        return path


@pytest.fixture(params=[pytest.param(LocalFolder, id="local-folder")])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made: Place = request.param(tmp_path)
    return made


@pytest.fixture
def attachments(place: Place) -> Attachments:
    return place.attachments


async def chunked(content: bytes, size: int = 70_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def whole(
    attachments: Attachments, name: str, start: int = 0, end: int | None = None, key: DataKey = KEY
) -> bytes:
    return b"".join([chunk async for chunk in attachments.read(name, key, start, end)])


async def old(attachments: Attachments, age: timedelta = NOW) -> list[str]:
    return [name async for page in attachments.names_older_than(age) for name in page]


# --- kept, and given back -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 1, 1000, SEGMENT - 1, SEGMENT, SEGMENT + 1, 4 * SEGMENT, 4 * SEGMENT + 1, len(LARGE)]
)
async def test_a_file_is_given_back_as_it_came_with_its_size_and_digest(
    attachments: Attachments, size: int
) -> None:
    content = LARGE[:size]
    stored = await attachments.put(chunked(content), KEY)
    assert stored.size == size
    assert stored.sha256 == hashlib.sha256(content).digest()
    assert await whole(attachments, stored.name) == content


@pytest.mark.parametrize("chunk", [1, 7, SEGMENT, len(LARGE)])
async def test_chunks_may_be_as_small_or_large_as_they_like(attachments: Attachments, chunk: int) -> None:
    content = LARGE if chunk > 7 else LARGE[:10_000]
    stored = await attachments.put(chunked(content, chunk), KEY)
    assert await whole(attachments, stored.name) == content


async def test_empty_chunks_are_no_end(attachments: Attachments) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"", b"one", b"", b"two", b""):
            yield chunk

    stored = await attachments.put(chunks(), KEY)
    assert (stored.size, await whole(attachments, stored.name)) == (6, b"onetwo")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 0),
        (0, 1),
        (10, 20),
        (SEGMENT - 1, SEGMENT + 1),
        (SEGMENT, 2 * SEGMENT),
        (5 * SEGMENT + 3, 9 * SEGMENT),
        (len(LARGE) - 1, len(LARGE)),
        (100, None),
        (len(LARGE) - 5, len(LARGE) + 5),
        (len(LARGE), None),
        (2 * len(LARGE), 3 * len(LARGE)),
    ],
)
async def test_a_range_is_given_back_as_a_slice(
    attachments: Attachments, start: int, end: int | None
) -> None:
    stored = await attachments.put(chunked(LARGE), KEY)
    assert await whole(attachments, stored.name, start, end) == LARGE[start:end]


async def test_a_large_file_comes_in_chunks_none_of_which_is_large_or_empty(attachments: Attachments) -> None:
    stored = await attachments.put(chunked(LARGE), KEY)
    sizes = [len(chunk) async for chunk in attachments.read(stored.name, KEY)]
    assert len(sizes) > 2
    assert 0 < min(sizes) <= max(sizes) <= 4 * SEGMENT


async def test_two_files_of_the_same_content_have_different_names_and_share_no_bytes(
    place: Place, attachments: Attachments
) -> None:
    one = await attachments.put(chunked(LARGE[:2000]), KEY)
    other = await attachments.put(chunked(LARGE[:2000]), KEY)
    assert one.name != other.name
    kept = await place.kept()
    assert set(kept) == {one.name, other.name}
    assert kept[one.name][8:64] not in kept[other.name]


async def test_many_files_come_and_go_at_once(attachments: Attachments) -> None:
    async def there_and_back(number: int) -> bool:
        content = LARGE[number : number + 300_000]
        stored = await attachments.put(chunked(content), KEY)
        return await whole(attachments, stored.name) == content

    assert all(await asyncio.gather(*(there_and_back(number) for number in range(30))))


async def test_a_reader_who_goes_away_early_leaves_a_file_that_can_be_read_again(
    attachments: Attachments,
) -> None:
    stored = await attachments.put(chunked(LARGE), KEY)
    async for chunk in attachments.read(stored.name, KEY):
        assert LARGE.startswith(chunk)
        break
    assert await whole(attachments, stored.name) == LARGE


# --- sealed at rest -----------------------------------------------------------------------------------


async def test_no_plain_byte_is_ever_kept_not_even_while_it_is_being_written(
    place: Place, attachments: Attachments
) -> None:
    looks: list[int] = []

    async def look() -> None:
        kept = await place.kept()
        for content in kept.values():
            assert MARKER[:20] not in content
        looks.append(sum(map(len, kept.values())))

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield MARKER * 2000
            await look()

    stored = await attachments.put(chunks(), KEY)
    await look()
    assert stored.size == 60 * 2000 * len(MARKER)
    # The looks before the last are worth something only if they saw the file grow.
    assert looks == sorted(looks)
    assert len(set(looks)) > 3


async def test_a_file_does_not_open_under_the_key_of_another_submission(attachments: Attachments) -> None:
    stored = await attachments.put(chunked(b"content"), KEY)
    with pytest.raises(Tampered):
        await whole(attachments, stored.name, key=KEYRING.fresh())


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "one bit of the header": lambda sealed: sealed[:5] + bytes([sealed[5] ^ 1]) + sealed[6:],
    "one bit of the content": lambda sealed: sealed[:-40] + bytes([sealed[-40] ^ 1]) + sealed[-39:],
    "the last byte is gone": lambda sealed: sealed[:-1],
    "cut between two segments": lambda sealed: sealed[: HEADER + 2 * (SEGMENT + TAG)],
    "cut in the header": lambda sealed: sealed[:20],
    "emptied": lambda sealed: b"",
    "a byte appended": lambda sealed: sealed + b"\x00",
    "itself appended": lambda sealed: sealed + sealed[HEADER:],
    "two segments changed places": lambda sealed: (
        sealed[:HEADER]
        + sealed[HEADER + SEGMENT + TAG : HEADER + 2 * (SEGMENT + TAG)]
        + sealed[HEADER : HEADER + SEGMENT + TAG]
        + sealed[HEADER + 2 * (SEGMENT + TAG) :]
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_was_changed_behind_the_hub_does_not_open(
    place: Place, attachments: Attachments, change: str
) -> None:
    stored = await attachments.put(chunked(LARGE), KEY)
    sealed = (await place.kept())[stored.name]
    await place.overwrite(stored.name, CHANGES[change](sealed))
    with pytest.raises(Tampered):
        await whole(attachments, stored.name)


async def test_two_files_of_one_submission_cannot_be_exchanged(
    place: Place, attachments: Attachments
) -> None:
    one = await attachments.put(chunked(b"for the town hall"), KEY)
    other = await attachments.put(chunked(b"for the prefecture"), KEY)
    await place.overwrite(one.name, (await place.kept())[other.name])
    with pytest.raises(Tampered):
        await whole(attachments, one.name)


async def test_damage_elsewhere_does_not_keep_a_range_from_opening(
    place: Place, attachments: Attachments
) -> None:
    stored = await attachments.put(chunked(LARGE), KEY)
    sealed = (await place.kept())[stored.name]
    await place.overwrite(stored.name, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert await whole(attachments, stored.name, 10, 20) == LARGE[10:20]
    with pytest.raises(Tampered):
        await whole(attachments, stored.name, len(LARGE) - 5)


# --- whole or absent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 40])
async def test_when_the_sender_fails_nothing_remains_and_the_error_is_the_senders(
    place: Place, attachments: Attachments, after: int
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(after):
            yield LARGE[:70_000]
        raise ConnectionResetError("the sender went away")

    with pytest.raises(ConnectionResetError):
        await attachments.put(chunks(), KEY)
    assert await place.kept() == {}


async def test_a_put_cancelled_while_it_waits_for_the_sender_leaves_nothing(
    place: Place, attachments: Attachments
) -> None:
    waiting = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield LARGE
        waiting.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(attachments.put(chunks(), KEY))
    await waiting.wait()
    assert len(await place.kept()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await place.kept() == {}


async def test_a_put_cancelled_at_any_moment_leaves_nothing_or_was_finished(
    place: Place, attachments: Attachments
) -> None:
    cancelled = 0
    for pause in range(40):
        task = asyncio.create_task(attachments.put(chunked(LARGE), KEY))
        await asyncio.sleep(pause / 2000)
        task.cancel()
        await asyncio.sleep(0)
        # Whoever is in a hurry cancels twice.
        task.cancel()
        try:
            stored = await task
        except asyncio.CancelledError:
            cancelled += 1
            assert await place.kept() == {}
        else:
            assert await whole(attachments, stored.name) == LARGE
            await attachments.remove([stored.name])
    assert cancelled


# --- forgetting ---------------------------------------------------------------------------------------


async def test_a_removed_file_is_unavailable_and_the_others_stay(
    place: Place, attachments: Attachments
) -> None:
    gone = await attachments.put(chunked(b"gone"), KEY)
    stays = await attachments.put(chunked(b"stays"), KEY)
    await attachments.remove([gone.name])
    with pytest.raises(Unavailable):
        await whole(attachments, gone.name)
    assert set(await place.kept()) == {stays.name}
    assert await whole(attachments, stays.name) == b"stays"


async def test_removing_what_is_not_there_is_no_error(attachments: Attachments) -> None:
    await attachments.remove([])
    await attachments.remove(["0" * 32])
    stored = await attachments.put(chunked(b""), KEY)
    await attachments.remove([stored.name, "0" * 32, stored.name])
    await attachments.remove([stored.name])
    assert await old(attachments) == []


async def test_what_was_never_there_is_unavailable(attachments: Attachments) -> None:
    with pytest.raises(Unavailable):
        await whole(attachments, "0" * 32)


async def test_only_names_last_written_longer_ago_are_told(place: Place, attachments: Attachments) -> None:
    assert await old(attachments) == []
    names = [(await attachments.put(chunked(b"x"), KEY)).name for _ in range(4)]
    for name in names[:2]:
        await place.make_older(name, timedelta(days=2))
    assert sorted(await old(attachments, timedelta(days=1))) == sorted(names[:2])
    assert await old(attachments, timedelta(days=3)) == []
    await asyncio.sleep(0.05)
    assert sorted(await old(attachments)) == sorted(names)


async def test_names_may_be_removed_while_they_are_being_told(place: Place, attachments: Attachments) -> None:
    for _ in range(30):
        await attachments.put(chunked(b"x"), KEY)
    await asyncio.sleep(0.05)
    async for page in attachments.names_older_than(NOW):
        await attachments.remove(page)
    assert await place.kept() == {}


async def test_the_room_is_a_share(attachments: Attachments) -> None:
    assert 0 <= await attachments.room() <= 1


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../outside",
        "aa/../../outside",
        "/etc/passwd",
        "%2e%2e/outside",
        "a" * 31,
        "a" * 33,
        "A" * 32,
        "a" * 32 + "\n",
        "a" * 32 + ".writing.writing",
        "a" * 31 + "/",
        "a" * 31 + "\x00",
        "é" * 32,
        "٠" * 32,
    ],
)
async def test_a_name_the_store_did_not_make_is_a_name_that_is_not_there(
    attachments: Attachments, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"somebody else's")
    await attachments.put(chunked(b"ours"), KEY)
    with pytest.raises(Unavailable):
        await whole(attachments, name)
    await attachments.remove([name])
    assert outside.read_bytes() == b"somebody else's"


# --- the local folder alone ---------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path)


async def test_folder_and_files_are_for_their_owner_alone_and_spread(local: LocalFolder) -> None:
    before = os.umask(0)
    try:
        stored = await local.attachments.put(chunked(b"content"), KEY)
    finally:
        os.umask(before)
    path = local.folder / stored.name[:2] / stored.name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1
    for folder in (local.folder, path.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_an_unfinished_file_cannot_be_read_and_is_told_to_the_sweep(local: LocalFolder) -> None:
    name = (await local.attachments.put(chunked(b"content"), KEY)).name
    local.path(name).rename(local.path(name).with_name(f"{name}.writing"))
    for asked in (name, f"{name}.writing"):
        with pytest.raises(Unavailable):
            await whole(local.attachments, asked)
    await asyncio.sleep(0.05)
    assert await old(local.attachments) == [f"{name}.writing"]
    await local.attachments.remove([f"{name}.writing"])
    assert await local.kept() == {}


async def test_what_others_put_into_the_folder_is_neither_told_nor_followed(
    local: LocalFolder, tmp_path: Path
) -> None:
    stored = await local.attachments.put(chunked(b"content"), KEY)
    shelf = local.folder / stored.name[:2]
    (shelf / "notes.txt").write_text("of the operator")
    (local.folder / "lost+found").mkdir()
    planted = stored.name[:2] + "0" * 30
    (shelf / planted).symlink_to(local.path(stored.name))
    with pytest.raises(Unavailable):
        await whole(local.attachments, planted)
    await asyncio.sleep(0.05)
    assert "notes.txt" not in await old(local.attachments)


async def test_a_name_that_is_taken_is_never_overwritten(
    local: LocalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await local.attachments.put(chunked(b"the first"), KEY)
    monkeypatch.setattr("hub.adapters.objects.streams.secrets.token_hex", lambda _: stored.name)
    with pytest.raises(Unavailable):
        await local.attachments.put(chunked(b"the second"), KEY)
    assert await whole(local.attachments, stored.name) == b"the first"
    assert set(await local.kept()) == {stored.name}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
async def test_a_disk_that_is_full_or_fails_is_unavailable_and_nothing_remains(
    local: LocalFolder, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    real: Callable[..., Any] = getattr(os, call)
    room = count(2, -1)

    def failing(*given: Any) -> Any:
        # The first calls of a kind succeed: folders are made durable, a part of the file is written.
        if call != "link" and next(room) > 0:
            return real(*given)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"hub.adapters.objects.local.os.{call}", failing)
    with pytest.raises(Unavailable):
        await local.attachments.put(chunked(LARGE), KEY)
    monkeypatch.undo()
    assert await local.kept() == {}
    assert (await local.attachments.put(chunked(LARGE), KEY)).size == len(LARGE)


async def test_a_disk_that_takes_only_a_part_of_each_write_gets_the_whole_file(
    local: LocalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(
        "hub.adapters.objects.local.os.write", lambda descriptor, content: real(descriptor, content[:99_999])
    )
    stored = await local.attachments.put(chunked(LARGE), KEY)
    assert await whole(local.attachments, stored.name) == LARGE


async def test_a_file_has_its_name_only_once_it_and_before_anyone_hears_of_it_its_folder_are_durable(
    local: LocalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def watched(call: str, told: Callable[..., str]) -> None:
        real: Callable[..., Any] = getattr(os, call)

        def watching(*given: Any, **named: Any) -> Any:
            steps.append(told(*given))
            return real(*given, **named)

        monkeypatch.setattr(f"hub.adapters.objects.local.os.{call}", watching)

    watched("write", lambda *_: "write")
    watched("fsync", lambda descriptor: f"fsync {_kind(descriptor)}")
    watched("link", lambda *_: "link")
    await local.attachments.put(chunked(b"content"), KEY)
    # Both folders are new: their own names in the folders above must last too.
    assert steps[:2] == ["fsync folder", "fsync folder"]
    assert [step for step, _ in groupby(steps[2:])] == ["write", "fsync file", "link", "fsync folder"]


def _kind(descriptor: int) -> str:
    return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"


async def test_no_work_on_files_is_done_in_the_thread_of_the_event_loop(
    local: LocalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    for call in ("open", "write", "pread", "fsync", "link", "scandir", "statvfs"):
        real: Callable[..., Any] = getattr(os, call)

        def watching(*given: Any, real: Callable[..., Any] = real, **named: Any) -> Any:
            threads.add(threading.get_ident())
            return real(*given, **named)

        monkeypatch.setattr(f"hub.adapters.objects.local.os.{call}", watching)
    stored = await local.attachments.put(chunked(LARGE), KEY)
    assert await whole(local.attachments, stored.name) == LARGE
    await old(local.attachments)
    await local.attachments.room()
    await local.attachments.remove([stored.name])
    assert threads
    assert threading.get_ident() not in threads


async def test_reading_leaves_no_open_files_behind_even_when_it_is_cancelled(local: LocalFolder) -> None:
    stored = await local.attachments.put(chunked(LARGE), KEY)
    before = len(os.listdir("/dev/fd"))
    for pause in range(20):
        task = asyncio.create_task(whole(local.attachments, stored.name))
        await asyncio.sleep(pause / 5000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(os.listdir("/dev/fd")) == before


# --- the local folder, killed -------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from pathlib import Path
from hub.adapters.objects.local import LocalAttachments
from hub.ports.keyring import DataKey

key = DataKey(bytes(range(32)), b"")
attachments = LocalAttachments(Path(sys.argv[1]))

async def chunks(stop):
    for number in range(30):
        if number == 20 and stop:
            print("written", flush=True)
            await asyncio.sleep(3600)
        yield sys.argv[3].encode() * 8000

async def puts():
    if sys.argv[2] == "stop":
        await attachments.put(chunks(True), key)
    while True:
        stored = await attachments.put(chunks(False), key)
        print(stored.name, flush=True)

async def main():
    await asyncio.gather(puts(), puts(), puts())

asyncio.run(main())
"""
CHILD_KEY = DataKey(bytes(range(32)), b"")


def started(folder: Path, mode: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), mode, MARKER.decode()],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


async def test_killed_in_the_middle_of_a_put_only_unfinished_files_remain_for_the_sweep(
    local: LocalFolder,
) -> None:
    with started(local.folder, "stop") as child:
        assert child.stdout is not None
        for _ in range(3):
            assert await asyncio.to_thread(child.stdout.readline) == b"written\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    kept = await local.kept()
    assert len(kept) == 3
    assert all(name.endswith(".writing") and content for name, content in kept.items())
    assert not any(MARKER[:20] in content for content in kept.values())
    assert set(await old(local.attachments)) == set(kept)
    await local.attachments.remove(list(kept))
    assert await local.kept() == {}


async def test_killed_at_any_moment_every_file_that_has_its_name_is_whole(local: LocalFolder) -> None:
    told: list[str] = []
    for pause in (0.01, 0.04, 0.1):
        with started(local.folder, "go") as child:
            assert child.stdout is not None
            first = await asyncio.to_thread(child.stdout.readline)
            await asyncio.sleep(pause)
            child.kill()
            lines = (first + child.stdout.read()).decode().splitlines(keepends=True)
        told += [line.strip() for line in lines if line.endswith("\n")]
    named = [name for name in await local.kept() if not name.endswith(".writing")]
    assert set(told) <= set(named)
    for name in named:
        content = await whole(local.attachments, name, key=CHILD_KEY)
        assert content == MARKER * 240_000
