"""The ports that a process opened, as the system knows them."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from tests.journeys.apart import Pieces


async def assert_each_has_one_door_on_loopback(apart: Pieces) -> None:
    async with aiohttp.ClientSession() as session:
        for role, hub in apart.hubs.items():
            assert listening(hub.process.pid) == {("127.0.0.1", int(hub.environment["HUB_PORT"]))}, role
            async with session.get(f"{hub.url}/readyz") as answer:
                assert answer.status == 200
            async with session.get(f"{hub.url}/v1/deliveries") as answer:
                assert answer.status == (401 if role == "intake" else 404)


def listening(process: int) -> set[tuple[str, int]]:
    """Address and port of each socket at which a process waits for others, over IPv4 and IPv6."""
    inodes = set()
    for handle in Path(f"/proc/{process}/fd").iterdir():
        target = str(handle.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return {
        (_address(local), int(port, 16))
        for table in ("tcp", "tcp6")
        for _, where, _, state, *_, inode in _sockets(process, table)
        if state == "0A" and inode in inodes
        for local, _, port in (where.partition(":"),)
    }


def _sockets(process: int, table: str) -> list[tuple[str, ...]]:
    lines = Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]
    return [tuple(line.split()[:10]) for line in lines]


def _address(written: str) -> str:
    if len(written) == 8:
        return ".".join(str(part) for part in reversed(bytes.fromhex(written)))
    return "::" if set(written) == {"0"} else written
