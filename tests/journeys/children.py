"""`hub …` in a process of its own: its exit code, and what it said to whom."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Told:
    """`out` is for the person who asked, `errors` what was wrong."""

    code: int
    out: str
    errors: str

    @property
    def text(self) -> str:
        return self.out + self.errors


async def hub(environment: Mapping[str, str], *words: str, within: float = 60) -> Told:
    """Run it to its end; one that does not end is killed, and TimeoutError raised."""
    # Wide enough that no sentence is broken into lines.
    told = {**os.environ, "COLUMNS": "1000", **environment}
    return await asyncio.to_thread(_asked, list(words), told, within)


def _asked(words: list[str], environment: Mapping[str, str], within: float) -> Told:
    order = json.dumps({"words": words, "environment": dict(environment), "within": within}) + "\n"
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
        socket.socket(socket.AF_UNIX) as conversation,
    ):
        conversation.connect(_forking())
        socket.send_fds(conversation, [order.encode()], [out.fileno(), errors.fileno()])
        code: int | None = json.loads(conversation.makefile().readline())
        if code is None:
            raise TimeoutError
        out.seek(0)
        errors.seek(0)
        return Told(code, out.read().decode(), errors.read().decode())


@cache
def _forking() -> str:
    """Where the process listens that commands are forked from; one for each process of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="hub-forked-", dir="/tmp"))
    place = str(folder / "door")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.journeys.forked", place],
        stdin=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "1000"},
    )

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    until = time.monotonic() + 60
    while not Path(place + ".ready").exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("commands cannot be forked")
        time.sleep(0.02)
    return place


def is_a_sentence(told: Told) -> bool:
    """Something for a person, not the innards of a program."""
    return bool(told.errors.strip()) and "Traceback" not in told.errors
