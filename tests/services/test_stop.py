"""A process that is told to stop ends, whatever its work is waiting for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub import assembly
from hub.assembly import Role
from hub.settings import Settings


async def test_work_that_does_not_end_by_itself_is_ended_after_the_grace(
    database: str, tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    lost = ended = 0

    async def deaf() -> None:
        """Hears no stop, and loses its first cancellation."""
        nonlocal lost, ended
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            lost += 1
        try:
            await asyncio.sleep(3600)
        finally:
            ended += 1

    monkeypatch.setattr("hub.assembly.roles._LIVES", {Role.UPKEEP: lambda house, stopping: {"deaf": deaf}})
    monkeypatch.setattr("hub.assembly.roles._WRITING", 0.1)
    # For a process of its own: this one goes on.
    monkeypatch.setattr("hub.assembly.roles.settle_memory", lambda: None)
    monkeypatch.setattr("hub.services.ending._AGAIN_AFTER", 0.1)
    settings = Settings(folder=tmp_path, database_url=database, port=unused_tcp_port, stop_grace=0.1)
    stopping = asyncio.Event()
    running = asyncio.create_task(assembly.run(settings, stopping, lambda _: None, frozenset({Role.UPKEEP})))
    await begun.wait()
    stopping.set()
    async with asyncio.timeout(30):
        await running
    assert (lost, ended) == (1, 1)
