"""What every attachment store must hold: files are whole or absent, sealed at rest, and open by range.

What only a folder can be asked (permissions, a full disk) is in `test_attachments_folder.py`; what only a
store beyond a network can do wrong, in `tests/services/test_s3_attachments.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.adapters.objects.sealing import HEADER, SEGMENT, TAG, Opener, Sealer
from hub.adapters.objects.streams import NAME
from hub.domain.errors import Tampered, Unavailable
from hub.ports.attachments import Attachments
from hub.ports.keyring import DataKey
from tests.conformance.attachment_places import (
    KEY,
    KEYRING,
    MARKER,
    NOW,
    PLACES,
    Feature,
    LocalFolder,
    Place,
    S3Bucket,
    chunked,
    old,
    only_with,
    whole,
)
from tests.conformance.attachment_server import Server, serving

# Longer than one piece of work, several segments, and no multiple of anything.
LARGE = os.urandom(2_500_000)
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return LocalFolder(tmp_path)


@pytest.fixture
def s3(s3_server: Server) -> Place:
    return S3Bucket(s3_server.bucket())


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest) -> Place:
    made: Place = request.getfixturevalue(PLACES[request.param].fixture)
    return made


@pytest.fixture
def attachments(place: Place) -> Attachments:
    return place.attachments


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


async def test_no_sealing_or_opening_is_done_in_the_thread_of_the_event_loop(
    attachments: Attachments, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    for kind, verb in ((Sealer, "feed"), (Sealer, "finish"), (Opener, "open")):
        real: Callable[..., bytes] = getattr(kind, verb)

        def watching(*given: Any, real: Callable[..., bytes] = real) -> bytes:
            threads.add(threading.get_ident())
            return real(*given)

        monkeypatch.setattr(kind, verb, watching)
    stored = await attachments.put(chunked(LARGE), KEY)
    assert await whole(attachments, stored.name) == LARGE
    assert threads
    assert threading.get_ident() not in threads


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

    length = place.grain // len(MARKER) + 1

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield MARKER * length
            await asyncio.sleep(0.02)
            await look()

    stored = await attachments.put(chunks(), KEY)
    await look()
    assert stored.size == 8 * length * len(MARKER)
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


@pytest.mark.parametrize("after", [0, 1, 40, 240])
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
    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in chunked(LARGE * (2 * place.grain // len(LARGE) + 1)):
            yield chunk
        await asyncio.sleep(3600)

    task = asyncio.create_task(attachments.put(chunks(), KEY))
    async with asyncio.timeout(10):
        while not await place.kept():
            await asyncio.sleep(0.01)
    assert len(await place.kept()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await place.kept() == {}


@pytest.mark.parametrize("grains", [0, 2], ids=["small", "large"])
async def test_a_put_cancelled_at_any_moment_leaves_nothing_or_was_finished(
    place: Place, attachments: Attachments, grains: int
) -> None:
    content = LARGE * (grains * place.grain // len(LARGE) + 1)
    began = asyncio.get_running_loop().time()
    await attachments.remove([(await attachments.put(chunked(content), KEY)).name])
    took = asyncio.get_running_loop().time() - began
    cancelled = 0
    for pause in range(30):
        task = asyncio.create_task(attachments.put(chunked(content), KEY))
        await asyncio.sleep(pause / 25 * took)
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
            assert await whole(attachments, stored.name) == content
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


async def test_a_name_that_is_taken_is_never_overwritten(
    place: Place, attachments: Attachments, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await attachments.put(chunked(b"the first"), KEY)
    monkeypatch.setattr("hub.adapters.objects.streams.secrets.token_hex", lambda _: stored.name)
    with pytest.raises(Unavailable):
        await attachments.put(chunked(b"the second"), KEY)
    assert await whole(attachments, stored.name) == b"the first"
    assert set(await place.kept()) == {stored.name}


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


# --- in a process of its own ---------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from hub.ports.keyring import DataKey
from tests.conformance.attachment_places import MARKER, opened

key = DataKey(bytes(range(32)), b"")
mode, *address = sys.argv[1:]
attachments = opened(address)

async def chunks(stop):
    for number in range(30):
        if number == 20 and stop:
            print("written", flush=True)
            await asyncio.sleep(3600)
        yield MARKER * 8000

async def puts():
    if mode == "stop":
        await attachments.put(chunks(True), key)
    while True:
        stored = await attachments.put(chunks(False), key)
        print(stored.name, flush=True)

async def main():
    await asyncio.gather(puts(), puts(), puts())

asyncio.run(main())
"""
CHILD_KEY = DataKey(bytes(range(32)), b"")


def started(child: str, *given: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", child, *given], stdout=subprocess.PIPE, cwd=root)


async def killed_in_the_middle(place: Place) -> dict[str, bytes]:
    """What three puts leave behind."""
    with started(CHILD, "stop", *place.address()) as child:
        assert child.stdout is not None
        for _ in range(3):
            assert await asyncio.to_thread(child.stdout.readline) == b"written\n"
        async with asyncio.timeout(10):
            while len(kept := await place.kept()) < 3 or not all(kept.values()):
                await asyncio.sleep(0.02)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    return await place.kept()


async def test_killed_in_the_middle_of_a_put_only_sealed_bytes_that_nobody_can_read_remain(
    place: Place, attachments: Attachments
) -> None:
    kept = await killed_in_the_middle(place)
    assert len(kept) == 3
    for name, content in kept.items():
        assert MARKER[:20] not in content
        assert not NAME.fullmatch(name)
        with pytest.raises(Unavailable):
            await whole(attachments, name, key=CHILD_KEY)


@only_with(Feature.UNFINISHED_FILES)
async def test_what_a_killed_put_left_is_told_to_the_sweep(place: Place, attachments: Attachments) -> None:
    kept = await killed_in_the_middle(place)
    assert all(name.endswith(".writing") for name in kept)
    assert set(await old(attachments)) == set(kept)
    await attachments.remove(list(kept))
    assert await place.kept() == {}


async def test_killed_at_any_moment_every_file_that_has_its_name_is_whole(
    place: Place, attachments: Attachments
) -> None:
    told: list[str] = []
    for pause in (0.01, 0.04, 0.1):
        with started(CHILD, "go", *place.address()) as child:
            assert child.stdout is not None
            first = await asyncio.to_thread(child.stdout.readline)
            await asyncio.sleep(pause)
            child.kill()
            lines = (first + child.stdout.read()).decode().splitlines(keepends=True)
        told += [line.strip() for line in lines if line.endswith("\n")]
    named = [name for name in await place.kept() if NAME.fullmatch(name)]
    assert set(told) <= set(named)
    for name in named:
        content = await whole(attachments, name, key=CHILD_KEY)
        assert content == MARKER * 240_000


WEIGHED = """
import asyncio, hashlib, sys
from pathlib import Path
from hub.ports.keyring import DataKey
from tests.conformance.attachment_places import opened

key = DataKey(bytes(range(32)), b"")
attachments = opened(sys.argv[2:])

async def there_and_back(mebibytes):
    digest = hashlib.sha256()
    async def chunks():
        for number in range(16 * mebibytes):
            chunk = number.to_bytes(4, "big") * 16384
            digest.update(chunk)
            yield chunk
    stored = await attachments.put(chunks(), key)
    assert stored.size == mebibytes * 2**20
    assert stored.sha256 == digest.digest()
    again = hashlib.sha256()
    async for chunk in attachments.read(stored.name, key):
        again.update(chunk)
    assert again.digest() == stored.sha256

def most():
    # Not what getrusage tells: that begins with what the parent had.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

async def main():
    await there_and_back(1)
    before = most()
    await there_and_back(int(sys.argv[1]))
    print(most() - before)

asyncio.run(main())
"""


@pytest.mark.parametrize("mebibytes", [128, pytest.param(1024, marks=pytest.mark.slow)])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory was taken at most")
async def test_a_file_of_any_size_takes_no_more_memory_than_a_few_chunks(
    place: Place, mebibytes: int
) -> None:
    with started(WEIGHED, str(mebibytes), *place.address()) as child:
        assert child.stdout is not None
        told = await asyncio.to_thread(child.stdout.read)
    assert child.returncode == 0
    # In KiB, beyond what a small file took.
    assert int(told) < 48 * 1024
