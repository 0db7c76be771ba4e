"""`hub …` in a process of its own: its exit code, and what it said to whom."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass


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
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hub", *words),
        # Wide enough that no sentence is broken into lines.
        env={**os.environ, "COLUMNS": "1000", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), within)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        raise
    return Told(process.returncode or 0, out.decode(), errors.decode())


def is_a_sentence(told: Told) -> bool:
    """Something for a person, not the innards of a program."""
    return bool(told.errors.strip()) and "Traceback" not in told.errors
