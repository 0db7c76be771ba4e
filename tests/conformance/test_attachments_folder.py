"""What only a folder can be asked: who may read it, links, disks that fill up, and what must be durable
before what."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from collections.abc import Callable
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pytest

from hub.domain.errors import Unavailable
from tests.conformance.attachment_places import (
    KEY,
    PLACES,
    Feature,
    LocalFolder,
    chunked,
    old,
    only_with,
    whole,
)

# Longer than one piece of work, and no multiple of anything.
LARGE = os.urandom(2_500_000)


@pytest.fixture
def local(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> LocalFolder:
    made: LocalFolder = request.getfixturevalue(PLACES[request.param].fixture)
    return made


@only_with(Feature.FOLDER)
async def test_folder_and_files_are_for_their_owner_alone_and_spread(place: LocalFolder) -> None:
    before = os.umask(0)
    try:
        stored = await place.attachments.put(chunked(b"content"), KEY)
    finally:
        os.umask(before)
    path = place.folder / stored.name[:2] / stored.name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1
    for folder in (place.folder, path.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@only_with(Feature.FOLDER)
async def test_an_unfinished_file_cannot_be_read_and_is_told_to_the_sweep(place: LocalFolder) -> None:
    name = (await place.attachments.put(chunked(b"content"), KEY)).name
    place.path(name).rename(place.path(name).with_name(f"{name}.writing"))
    for asked in (name, f"{name}.writing"):
        with pytest.raises(Unavailable):
            await whole(place.attachments, asked)
    await asyncio.sleep(0.05)
    assert await old(place.attachments) == [f"{name}.writing"]
    await place.attachments.remove([f"{name}.writing"])
    assert await place.kept() == {}


@only_with(Feature.FOLDER)
async def test_what_others_put_into_the_folder_is_neither_told_nor_followed(
    place: LocalFolder, tmp_path: Path
) -> None:
    stored = await place.attachments.put(chunked(b"content"), KEY)
    shelf = place.folder / stored.name[:2]
    (shelf / "notes.txt").write_text("of the operator")
    (place.folder / "lost+found").mkdir()
    planted = stored.name[:2] + "0" * 30
    (shelf / planted).symlink_to(place.path(stored.name))
    with pytest.raises(Unavailable):
        await whole(place.attachments, planted)
    await asyncio.sleep(0.05)
    assert "notes.txt" not in await old(place.attachments)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
@only_with(Feature.FOLDER)
async def test_a_disk_that_is_full_or_fails_is_unavailable_and_nothing_remains(
    place: LocalFolder, monkeypatch: pytest.MonkeyPatch, call: str, code: int
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
        await place.attachments.put(chunked(LARGE), KEY)
    monkeypatch.undo()
    assert await place.kept() == {}
    assert (await place.attachments.put(chunked(LARGE), KEY)).size == len(LARGE)


@only_with(Feature.FOLDER)
async def test_a_disk_that_takes_only_a_part_of_each_write_gets_the_whole_file(
    place: LocalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(
        "hub.adapters.objects.local.os.write", lambda descriptor, content: real(descriptor, content[:99_999])
    )
    stored = await place.attachments.put(chunked(LARGE), KEY)
    assert await whole(place.attachments, stored.name) == LARGE


@only_with(Feature.FOLDER)
async def test_a_file_has_its_name_only_once_it_and_before_anyone_hears_of_it_its_folder_are_durable(
    place: LocalFolder, monkeypatch: pytest.MonkeyPatch
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
    await place.attachments.put(chunked(b"content"), KEY)
    # Both folders are new: their own names in the folders above must last too.
    assert steps[:2] == ["fsync folder", "fsync folder"]
    assert [step for step, _ in groupby(steps[2:])] == ["write", "fsync file", "link", "fsync folder"]


def _kind(descriptor: int) -> str:
    return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"


@only_with(Feature.FOLDER)
async def test_no_work_on_files_is_done_in_the_thread_of_the_event_loop(
    place: LocalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    for call in ("open", "write", "pread", "fsync", "link", "scandir", "statvfs"):
        real: Callable[..., Any] = getattr(os, call)

        def watching(*given: Any, real: Callable[..., Any] = real, **named: Any) -> Any:
            threads.add(threading.get_ident())
            return real(*given, **named)

        monkeypatch.setattr(f"hub.adapters.objects.local.os.{call}", watching)
    stored = await place.attachments.put(chunked(LARGE), KEY)
    assert await whole(place.attachments, stored.name) == LARGE
    await old(place.attachments)
    await place.attachments.room()
    await place.attachments.remove([stored.name])
    assert threads
    assert threading.get_ident() not in threads


@only_with(Feature.FOLDER)
async def test_reading_leaves_no_open_files_behind_even_when_it_is_cancelled(place: LocalFolder) -> None:
    stored = await place.attachments.put(chunked(LARGE), KEY)
    before = len(os.listdir("/dev/fd"))
    for pause in range(20):
        task = asyncio.create_task(whole(place.attachments, stored.name))
        await asyncio.sleep(pause / 5000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(os.listdir("/dev/fd")) == before
