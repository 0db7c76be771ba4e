"""What is read of a return folder, and by when: on a server that is none, so that no time passes but where it is meant
to. The same on a real one is in `test_sftp_openssh.py`."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import asyncssh
import pytest

from connectors.sftp import SftpConnector, returning, uploads
from connectors.sftp.sessions import Session
from connectors.sftp.settings import Target
from hub.domain.delivery import Deferred
from hub.ports.returns import FoundFile, SeenFile
from tests.connectors.partners import sftp_town, surroundings, with_settings

T = TypeVar("T")
DELIVERY = "5f0c1d9e-8a52-5b7d-9e8f-1a2b3c4d5e6f"
PLAIN = f"<acquittement><remise>{DELIVERY}</remise><statut>DONE</statut></acquittement>"
TARGET = cast(
    Target, type("Folder", (), {"return_directory": "/", "return_kept": None, "return_max_size": 9})
)


def returns(name: str) -> str:
    return f"<acquittement><remise>{DELIVERY}</remise><fichier>{name}</fichier></acquittement>"


@dataclass
class Folder:
    """Files by their names, each a second younger than the one before. Of `slow` ones nothing comes any more."""

    files: Mapping[str, str]
    slow: frozenset[str] = frozenset()
    left: bool = False
    removed: list[str] = field(default_factory=list)

    @property
    def sftp(self) -> Folder:
        return self

    async def soon(self, answer: Awaitable[T]) -> T:
        return await answer

    async def is_directory(self, _: str) -> bool:
        return True

    def abort(self) -> None:
        self.left = True

    def of(self, name: str) -> asyncssh.SFTPAttrs:
        place = list(self.files).index(name)
        return asyncssh.SFTPAttrs(size=len(self.files[name]), permissions=stat.S_IFREG, mtime=place)

    async def scandir(self, _: str) -> AsyncIterator[asyncssh.SFTPName]:
        for name in self.files:
            yield asyncssh.SFTPName(name, attrs=self.of(name))

    async def stat(self, path: str) -> asyncssh.SFTPAttrs:
        return self.of(path.removeprefix("//"))

    async def remove(self, path: str) -> None:
        name = path.removeprefix("//")
        if name in self.slow:
            await asyncio.Event().wait()
        self.removed.append(name)

    async def read_start(self, path: str) -> bytes:
        name = path.removeprefix("//")
        if name in self.slow:
            await asyncio.Event().wait()
        return self.files[name].encode()


Collect = Callable[..., Awaitable[list[FoundFile]]]


@pytest.fixture
def collect(monkeypatch: pytest.MonkeyPatch) -> Collect:
    async def read_start(session: Any, path: str, _: int) -> bytes:
        return cast(bytes, await session.read_start(path))

    async def collected(
        folder: Folder, most: int = 10, passed: frozenset[bytes] = frozenset()
    ) -> list[FoundFile]:
        until = asyncio.get_running_loop().time() + 0.1
        return list(await returning.collect(cast(Session, folder), TARGET, most, passed, until))

    monkeypatch.setattr(uploads, "read_start", read_start)
    return collected


def named(files: list[FoundFile]) -> list[str]:
    return [file.seen.name for file in files]


async def test_what_was_read_before_the_time_was_over_is_not_lost(collect: Collect) -> None:
    folder = Folder({"1.xml": PLAIN, "2.xml": PLAIN, "3.xml": PLAIN}, frozenset({"3.xml"}))
    assert named(await collect(folder)) == ["1.xml", "2.xml"]
    assert folder.left, "an answer may still be on its way there"


async def test_where_nothing_was_read_before_the_time_was_over_that_is_a_fault(collect: Collect) -> None:
    folder = Folder({"1.xml": PLAIN, "2.xml": PLAIN}, frozenset({"1.xml"}))
    with pytest.raises(TimeoutError):
        await collect(folder)


async def test_what_was_taken_away_before_the_time_was_over_is_and_the_rest_is_a_fault() -> None:
    folder = Folder({"1.xml": PLAIN, "2.xml": PLAIN, "3.xml": PLAIN}, frozenset({"2.xml"}))
    files = [SeenFile(name, len(PLAIN), place) for place, name in enumerate(folder.files)]
    until = asyncio.get_running_loop().time() + 0.1
    with pytest.raises(TimeoutError):
        await returning.take_away(cast(Session, folder), TARGET, files, until)
    assert folder.removed == ["1.xml"]


async def test_a_name_that_no_file_system_has_is_no_acknowledgement(collect: Collect) -> None:
    long, longest = f"{'é' * 126}.xml", f"{'é' * 125}1.xml"
    assert named(await collect(Folder({long: PLAIN, longest: PLAIN}))) == [longest]


async def told(collect: Collect, folder: Folder) -> frozenset[bytes]:
    """As after the looks at which all of it was told."""
    return frozenset(file.mark for file in await collect(folder, 1000))


async def test_however_many_wait_for_their_documents_what_is_new_does_not(collect: Collect) -> None:
    wait = {f"{place:03}.xml": returns(f"{place:03}.pdf") for place in range(3 * returning.AGAIN)}
    passed = await told(collect, Folder(wait))
    assert len(passed) == len(wait)
    assert named(await collect(Folder({**wait, "new.xml": PLAIN}), 1, passed)) == ["new.xml"]


async def test_what_waits_for_its_document_comes_in_its_order_once_that_is_there(collect: Collect) -> None:
    wait = {"1.xml": returns("1.pdf"), "2.xml": returns("2.pdf")}
    passed = await told(collect, Folder(wait))
    there = {"1.xml": returns("1.pdf"), "2.xml": returns("2.pdf"), "2.pdf": "%PDF", "3.xml": PLAIN}
    assert named(await collect(Folder(there), passed=passed)) == ["2.xml", "3.xml"]
    assert named(await collect(Folder(there), 1, passed)) == ["2.xml"], "and its document is no found file"


async def test_a_document_of_one_that_was_told_is_no_found_file(collect: Collect) -> None:
    there = Folder({"1.xml": returns("1.pdf"), "1.pdf": "%PDF-1.7 too large"})
    passed = await told(collect, there)
    assert await collect(there, passed=passed) == []


async def test_a_server_that_answers_and_never_ends_is_given_up_as_a_whole(tmp_path: Path) -> None:
    async def endless(*_: Any) -> AsyncIterator[asyncssh.SFTPName]:
        for place in range(100_000):
            await asyncio.sleep(0.002)
            yield asyncssh.SFTPName(f".{place}".encode(), attrs=asyncssh.SFTPAttrs(size=1))

    async with sftp_town(tmp_path) as town:
        endpoint = with_settings(town.at(town.port), return_directory=".")
        sftp = SftpConnector(surroundings())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncssh.SFTPServer, "scandir", endless)
            async with asyncio.timeout(60):
                assert await sftp.collect(endpoint, 0.5, 10) == Deferred("sftp.timeout")
        await sftp.close()
