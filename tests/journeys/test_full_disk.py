"""The hub's disk fills: intake says so in time, and what was accepted before is delivered all the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from demo.receivers.http import HTTP_503
from tests.journeys.world import BONNEVILLE, Stage, accounts, at_rest, post, staged, submission, total
from tests.mounts import may_mount

_MEGABYTES = 400
_RESERVE = 0.25
_SUBMISSIONS = 30


@contextmanager
def _disk_of_its_own(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o711)
    words = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m,mode=711", "tmpfs", str(folder)]
    subprocess.run(words, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(disk: Path, left: float) -> Path:
    """Until this share of it is free."""
    room = os.statvfs(disk)
    size = int((room.f_bavail - left * room.f_blocks) * room.f_frsize)
    filler = disk / "filler"
    filler.write_bytes(bytes(size))
    return filler


async def _statuses(session: aiohttp.ClientSession, url: str) -> set[int]:
    """What posts with parts, of lines, and of JSON are answered, whatever they hold."""
    body = aiohttp.FormData()
    body.add_field("submission", "{}", content_type="application/json")
    found = set()
    async with session.post(f"{url}/v1/submissions", data=body) as answer:
        found.add(answer.status)
        # Until the hub has looked at the disk, it looks at the post.
        assert answer.status != 503 or int(answer.headers["Retry-After"]) > 0
    for path, kind in (("submissions:batch", "application/x-ndjson"), ("submissions", "application/json")):
        headers = {"Content-Type": kind}
        async with session.post(f"{url}/v1/{path}", data=b"{}\n", headers=headers) as answer:
            found.add(answer.status)
    return found


@pytest.mark.skipif(not may_mount(), reason="a disk of its own needs the right to mount one")
async def test_on_a_disk_that_is_nearly_full_nothing_new_is_taken_and_what_was_taken_is_delivered() -> None:
    async with staged({"HUB_DISK_RESERVE": str(_RESERVE)}, {BONNEVILLE: HTTP_503}) as world:
        with _disk_of_its_own(world.folder / "hub"):
            await _journey(world, world.folder / "hub")


async def _journey(world: Stage, disk: Path) -> None:
    hub = await world.start()
    try:
        token = await hub.token("sender", "site", "--procedure", "recensementCitoyen")
        operator = await hub.token("operator", "o", "--role", "operator")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            for number in range(_SUBMISSIONS):
                await post(session, hub.url, submission(number, "recensementCitoyen", "74042"))
            filler = _fill(disk, _RESERVE / 4)
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as watching:
                while await _statuses(session, hub.url) != {503}:
                    pass
                await world.receiver.heal()
                counts = await at_rest(hub, watching)
                assert counts["deliveries.delivered"] == _SUBMISSIONS
                assert await _statuses(session, hub.url) == {503}
                filler.unlink()
                await post(session, hub.url, submission(_SUBMISSIONS, "recensementCitoyen", "74042"))
                await at_rest(hub, watching)
        assert total((await accounts(hub))["submissions"], "accepted") == _SUBMISSIONS + 1
    finally:
        await hub.stop()
