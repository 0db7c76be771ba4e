"""A receiver in a process of its own, seen from the program that started it.

Business of this file: start, speak, stop. The process ends when this program does, however it ends: its
standard input ends then.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo.receivers.stage import Counts

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """`ready`: the line it said when it was ready (see `stage`). Use it with `async with`, or call `stop`."""

    process: asyncio.subprocess.Process
    ready: Mapping[str, Any]

    @classmethod
    async def start(
        cls, kind: str, folder: Path, *arguments: str, misbehaving: Mapping[str, str] | None = None
    ) -> Receiver:
        """`kind`: sftp, smtp or http; `arguments`: its own. Raises RuntimeError if it does not get ready."""
        folder.mkdir(parents=True, exist_ok=True)
        conduct = folder / "misbehaving.json"
        conduct.write_text(json.dumps(dict(misbehaving or {})))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"demo.receivers.{kind}",
            "--folder",
            str(folder.resolve()),
            "--misbehaving",
            str(conduct.resolve()),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            # The ready line names a port for each partner that misbehaves: it may be long.
            limit=1 << 24,
        )
        receiver = cls(process, {})
        try:
            return cls(process, await receiver._hear())
        except BaseException:
            await receiver.stop()
            raise

    def port(self, partner: str) -> int:
        """The port at which this partner is to be reached."""
        return int(self.ready["ports"].get(partner, self.ready["port"]))

    async def heal(self) -> None:
        """From now on every partner behaves, at the same ports."""
        await self._ask("heal")

    async def status(self) -> Counts:
        return Counts(**await self._ask("status"))

    async def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _ask(self, order: str) -> Mapping[str, Any]:
        if self.process.stdin is None:
            raise RuntimeError("the receiver cannot be spoken to")
        self.process.stdin.write(f"{order}\n".encode())
        await self.process.stdin.drain()
        return await self._hear()

    async def _hear(self) -> Mapping[str, Any]:
        if self.process.stdout is None:
            raise RuntimeError("the receiver cannot be heard")
        async with asyncio.timeout(_PATIENCE):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the receiver ended without a word")
        told: Mapping[str, Any] = json.loads(line)
        return told
