"""The hub as the demo uses it: as anybody would, by its command line and its HTTP API.

Business of this file: starting `hub run` in a process of its own, asking and telling it things, stopping
it. It looks into no table.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

_READY_WITHIN = 45.0
_GAUGE = re.compile(r'^hub_(\w+)\{state="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Hub:
    """`environment` holds the settings; `log` is where the hub's log lines go."""

    process: asyncio.subprocess.Process
    environment: Mapping[str, str]
    url: str

    @classmethod
    async def start(cls, environment: Mapping[str, str], log: Path, *roles: str) -> Hub:
        """With these roles, or all of them. Raises RuntimeError, with the end of its log, when it does not get
        ready."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "hub",
                "run",
                *roles,
                env={**os.environ, **environment},
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        url = f"http://{environment['HUB_HOST']}:{environment['HUB_PORT']}"
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await _answers(process, url)
        except (TimeoutError, RuntimeError):
            if process.returncode is None:
                process.kill()
            raise RuntimeError(f"the hub did not get ready:\n{log.read_text()[-2000:]}") from None
        return cls(process, environment, url)

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                await self.process.wait()

    async def command(self, *words: str) -> tuple[int, str]:
        """A `hub …` command: its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hub",
            *words,
            env={**os.environ, **self.environment, "COLUMNS": "110"},
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        return process.returncode or 0, told.decode().rstrip()

    async def token(self, *words: str) -> str:
        return (await self.tokens(*words))[-1]

    async def tokens(self, *words: str) -> list[str]:
        code, told = await self.command("tokens", "create", *words)
        if code:
            raise RuntimeError("no token was made")
        return told.splitlines()

    async def counts(self, session: aiohttp.ClientSession) -> dict[str, int]:
        """The gauges of `/metrics`, as `deliveries.parked`, `submissions.accepted` and so on."""
        async with session.get(f"{self.url}/metrics") as answer:
            text = await answer.text()
        return {f"{family}.{state}": int(float(value)) for family, state, value in _GAUGE.findall(text)}

    async def deliveries(self, session: aiohttp.ClientSession, **filters: str) -> list[dict[str, Any]]:
        """All of them, page by page."""
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            query = {**filters, "limit": "500", **({"after": after} if after else {})}
            page = await self.read(session, "/v1/deliveries", query)
            found += page["items"]
            after = page["next"]
            if after is None:
                return found

    async def read(
        self, session: aiohttp.ClientSession, path: str, query: Mapping[str, str] | None = None
    ) -> Any:
        async with session.get(f"{self.url}{path}", params=query) as answer:
            if answer.status != 200:
                raise RuntimeError(f"GET {path} answered {answer.status}")
            return json.loads(await answer.read())

    async def replay(
        self, session: aiohttp.ClientSession, orders: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Order replays and wait until all are carried out."""
        begun = []
        for order in orders:
            async with session.post(f"{self.url}/v1/replays", json=order) as answer:
                if answer.status not in (200, 201, 202):
                    raise RuntimeError(f"POST /v1/replays answered {answer.status}")
                begun.append(json.loads(await answer.read())["id"])
        while True:
            told = [await self.read(session, f"/v1/replays/{id}") for id in begun]
            if all(replay["finished_at"] is not None for replay in told):
                return told
            await asyncio.sleep(0.1)

    async def open_lanes(self, session: aiohttp.ClientSession, reason: str) -> int:
        """Those that their endpoint closed by refusing; how many."""
        closed = (await self.read(session, "/v1/lanes", {"closed": "true", "limit": "500"}))["items"]
        for lane in closed:
            url = f"{self.url}/v1/lanes/{lane['id']}/open"
            async with session.post(url, json={"reason": reason}) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"POST /v1/lanes/{lane['id']}/open answered {answer.status}")
        return len(closed)


async def _answers(process: asyncio.subprocess.Process, url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
        raise RuntimeError
