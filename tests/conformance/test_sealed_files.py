"""What carries attachments elsewhere: sealed files lie whole under their names, or not at all, and open there."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path

import pytest

from hub.adapters.objects.sealed import SealedBucket, SealedFolder
from hub.domain.errors import SettingsError, Unavailable
from hub.ports.attachments import SealedFiles
from hub.services.relocation import Carried, RelocationRoom
from tests.conformance.attachment_places import KEY, LocalFolder, Place, S3Bucket, chunked, whole
from tests.conformance.attachment_server import Server, refuse, serving

SMALL = os.urandom(3_000)
# In more than one part of a bucket.
LARGE = os.urandom(6_000_000)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def made(kind: str, server: Server, folder: Path) -> tuple[Place, SealedFiles]:
    if kind == "folder":
        place = LocalFolder(folder)
        return place, SealedFolder(place.folder)
    bucket = S3Bucket(server.bucket())
    return bucket, SealedBucket(bucket.bucket.settings())


@pytest.fixture(params=["folder", "bucket"])
def old(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> tuple[Place, SealedFiles]:
    return made(request.param, server, tmp_path / "old")


@pytest.fixture(params=["folder", "bucket"])
def new(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> tuple[Place, SealedFiles]:
    server.well()
    return made(request.param, server, tmp_path / "new")


async def none(_: object) -> int:
    return 0


async def given(place: Place, **contents: bytes) -> Mapping[str, bytes]:
    """By the names they are kept under."""
    return {
        (await place.attachments.put(chunked(content), KEY)).name: content for content in contents.values()
    }


async def test_every_file_opens_where_it_was_carried(
    old: tuple[Place, SealedFiles], new: tuple[Place, SealedFiles]
) -> None:
    contents = await given(old[0], small=SMALL, empty=b"", large=LARGE)
    room = RelocationRoom(old[1], none)
    told = await room.carry(new[1])
    before = await old[0].kept()
    assert await new[0].kept() == before
    size = sum(map(len, before.values()))
    assert told == Carried(3, size, 0, 0)
    assert await room.count() == told
    for name, content in contents.items():
        assert await whole(new[0].attachments, name) == content
    # Again: it is looked at, and left.
    assert await room.carry(new[1]) == Carried(3, size, 3, 0)


async def test_another_file_under_one_of_the_names_is_neither_believed_nor_overwritten(
    new: tuple[Place, SealedFiles], server: Server, tmp_path: Path
) -> None:
    old = made("folder", server, tmp_path / "old")
    [name] = await given(old[0], small=SMALL)
    await RelocationRoom(old[1], none).carry(new[1])
    [sealed] = (await new[0].kept()).values()
    for other in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:-1], b""):
        await new[0].overwrite(name, other)
        with pytest.raises(ExceptionGroup) as told:
            await RelocationRoom(old[1], none).carry(new[1])
        assert told.group_contains(SettingsError, match=name)
        assert await new[0].kept() == {name: other}


async def test_a_file_that_breaks_off_on_its_way_is_not_there(new: tuple[Place, SealedFiles]) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        for at in range(0, len(LARGE), 500_000):
            yield LARGE[at : at + 500_000]
        raise Unavailable

    name = "0" * 32
    with pytest.raises(Unavailable):
        await new[1].take(name, len(LARGE), broken)
    assert await new[0].kept() == {}
    assert await new[1].take(name, 3, lambda: chunked(b"abc"))
    assert await new[0].kept() == {name: b"abc"}


async def test_what_a_killed_run_was_writing_is_written_again(tmp_path: Path) -> None:
    folder = SealedFolder(tmp_path)
    name = "ab" + "0" * 30
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / f"{name}.writing").write_bytes(b"half of")
    assert [page async for page in folder.sizes()] == []
    assert await folder.take(name, 3, lambda: chunked(b"abc"))
    assert [page async for page in folder.sizes()] == [[(name, 3)]]
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [name]


async def test_a_bucket_that_is_away_is_told_and_what_is_there_is_not_carried_again(
    server: Server, tmp_path: Path
) -> None:
    old, new = made("folder", server, tmp_path / "old"), made("bucket", server, tmp_path / "new")
    await given(old[0], one=SMALL, two=SMALL, three=SMALL)
    room = RelocationRoom(old[1], none)
    server.conduct = refuse("403 Forbidden", "PUT", times=1)
    with pytest.raises(ExceptionGroup) as told:
        await room.carry(new[1])
    assert told.group_contains(Unavailable)
    server.well()
    there = len(await new[0].kept())
    assert (await room.carry(new[1])).before == there
    assert server.kinds().count("PUT") == 3 - there
    assert await new[0].kept() == await old[0].kept()
