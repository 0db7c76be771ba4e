"""Partners' servers of the delivery benchmarks: a process of `sink.c`, told what each partner does, and what came.

Business of this file: compiling it once, starting it, and the conversation over its control door. Times are seconds of
the monotonic clock, which processes of one machine share.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRWPair
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from benchmarks.peer import cpu_of

HOSTS = 256
ANSWER, HANG, BUSY, RESET = "answer", "hang", "busy", "reset"
_MODES = (ANSWER, HANG, BUSY, RESET)
_RECORD = struct.Struct("<QII16s")
_SOURCE = Path(__file__).with_name("sink.c")


class Arrival(NamedTuple):
    """A request whose body was read to its end. `mode`: what its partner did then."""

    at: float
    partner: int
    mode: str
    sequence: int
    delivery: UUID


@dataclass(frozen=True, slots=True)
class Sink:
    process: subprocess.Popen[str]
    door: int
    control: BufferedRWPair
    partners: int

    def url(self, partner: int) -> str:
        return f"http://127.0.1.{partner % HOSTS}:{self.door}/{partner}"

    def conduct(self, partners: range, mode: str) -> None:
        """From now on; a request that hangs goes on hanging."""
        self._order(f"mode {partners.start} {partners.stop} {mode}")

    def shut(self, hosts: range) -> None:
        """Connections to these hosts are refused, and those that are kept are cut when they are used: of the
        partners whose number, modulo HOSTS, is among them."""
        self._order(f"shut {hosts.start} {hosts.stop}")

    def heal(self) -> None:
        """All doors are open, and all partners answer."""
        self._order(f"open 0 {HOSTS}")
        self.conduct(range(self.partners), ANSWER)

    def count(self) -> int:
        return int(self._ask("count"))

    def arrivals(self, since: int = 0) -> list[Arrival]:
        """In the order they came, from the `since`-th on."""
        size = int(self._ask(f"log {since}")) * _RECORD.size
        told = self.control.read(size)
        return [
            Arrival(at / 1e9, who >> 8, _MODES[who & 255], sequence, UUID(bytes=name))
            for at, who, sequence, name in _RECORD.iter_unpack(told)
        ]

    @property
    def cpu(self) -> float:
        """Seconds it took so far."""
        return cpu_of(self.process.pid)

    def _order(self, line: str) -> None:
        if self._ask(line) != b"ok\n":
            raise RuntimeError("the sink did not understand")

    def _ask(self, line: str) -> bytes:
        self.control.write(f"{line}\n".encode())
        self.control.flush()
        return self.control.readline()


@contextmanager
def sinking(partners: int) -> Iterator[Sink]:
    """A sink for so many partners. Raises RuntimeError when there is no C compiler."""
    door, control = _free(), _free()
    words = [str(_compiled()), str(door), str(control), str(partners), str(HOSTS)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("the sink did not start")
        with socket.create_connection(("127.0.0.1", control)) as line, line.makefile("rwb") as conversation:
            yield Sink(process, door, conversation, partners)
    finally:
        process.kill()
        process.wait()


def check_names(arrivals: Sequence[Arrival]) -> None:
    """Raises RuntimeError when a partner saw two names for one number, or two numbers for one name."""
    names = {(one.partner, one.sequence): one.delivery for one in arrivals}
    numbers = {(one.partner, one.delivery): one.sequence for one in arrivals}
    for one in arrivals:
        if (
            names[one.partner, one.sequence] != one.delivery
            or numbers[one.partner, one.delivery] != one.sequence
        ):
            raise RuntimeError(f"partner {one.partner} has two names for number {one.sequence}")


def _compiled() -> Path:
    target = Path(sys.prefix) / "peers" / "sink"
    if not target.exists() or target.stat().st_mtime < _SOURCE.stat().st_mtime:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise RuntimeError("the sink needs a C compiler (on Debian: gcc and libc6-dev)")
        target.parent.mkdir(exist_ok=True)
        subprocess.run([compiler, "-O2", "-Wall", "-o", str(target), str(_SOURCE)], check=True)
    return target


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        return port
