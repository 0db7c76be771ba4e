"""What the receivers have in common: doors, misbehaviour, arrivals, and how they are spoken to.

A receiver prints one JSON line when it is ready: `{"ready": true, "port": N, "ports": {partner: N}, …}`,
where `ports` names the partners that have a door of their own. It then reads lines from its standard input,
and answers each with one JSON line: `heal` makes all behave (`{"healed": true}`), `status` counts
(`{"arrived": N, "repeated": N, "pending": N, "failed": N}`). The end of its input is its end: a receiver
outlives nobody.

`--misbehaving FILE` names a JSON object, partner to kind: `refuse` (nobody listens), `hang` (connects and
says nothing), and what a protocol adds (`mailbox_refused`, `http_503`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = "127.0.0.1"
REFUSE = "refuse"
HANG = "hang"

_BACKLOG = 1024
_PARTNER = re.compile(r"[A-Za-z0-9-]{1,64}")

Serve = Callable[[socket.socket], Awaitable[None]]


def parser(purpose: str) -> argparse.ArgumentParser:
    """The arguments every receiver understands."""
    arguments = argparse.ArgumentParser(description=purpose)
    arguments.add_argument("--folder", type=Path, required=True, help="where everything received is kept")
    arguments.add_argument("--misbehaving", type=Path, help="JSON object, partner to kind")
    return arguments


def read_object(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    return {str(key): str(value) for key, value in json.loads(path.read_text()).items()}


def is_partner(name: str) -> bool:
    """Whether a name may be a folder of its own."""
    return _PARTNER.fullmatch(name) is not None


class Stage:
    """A receiver's doors and the conduct of its partners. Sockets are bound from the start, so that a port
    that refuses today serves tomorrow."""

    def __init__(self, misbehaving: Mapping[str, str]) -> None:
        self._misbehaving = dict(misbehaving)
        self._main = _bound()
        self._own = {
            partner: (_bound(), kind) for partner, kind in misbehaving.items() if kind in (REFUSE, HANG)
        }
        for door, kind in self._own.values():
            if kind == HANG:
                # The system completes the connection; nobody ever reads from it.
                door.listen(_BACKLOG)

    def conduct(self, partner: str) -> str | None:
        """The kind of misbehaviour, None when it behaves."""
        return self._misbehaving.get(partner)

    async def run(self, serve: Serve, arrivals: Arrivals, told: Mapping[str, object]) -> None:
        """Open the doors, say that all is ready, and obey until the input ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._main.listen(_BACKLOG)
        await serve(self._main)
        own = {partner: _port(door) for partner, (door, _) in self._own.items()}
        _say({"ready": True, "port": _port(self._main), "ports": own, **told})
        orders = await _lines()
        while order := await orders.readline():
            if order.strip() == b"heal":
                await self._heal(serve)
                _say({"healed": True})
            elif order.strip() == b"status":
                _say(asdict(arrivals.counts))

    async def _heal(self, serve: Serve) -> None:
        self._misbehaving.clear()
        for door, kind in self._own.values():
            if kind == HANG:
                _turn_away(door)
            door.listen(_BACKLOG)
            await serve(door)
        self._own.clear()


@dataclass(slots=True)
class Counts:
    """`pending`: announced and not whole yet; `failed`: never became whole."""

    arrived: int = 0
    repeated: int = 0
    pending: int = 0
    failed: int = 0


class Arrivals:
    """The list of what came, one JSON line each, in `arrivals.jsonl`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._list = (folder / "arrivals.jsonl").open("a", encoding="utf-8")
        self._known: set[tuple[str, str]] = set()
        self.counts = Counts()

    def note(self, partner: str, delivery: str, place: str, files: Sequence[Mapping[str, object]]) -> None:
        """A parcel is whole. `place`: where it lies below the folder; `files`: name, size, sha256 of each."""
        repeated = (partner, delivery) in self._known
        self._known.add((partner, delivery))
        if repeated:
            self.counts.repeated += 1
        else:
            self.counts.arrived += 1
        self._write(partner, delivery, place, repeated, files)

    def again(self, partner: str, delivery: str, place: str) -> None:
        """A parcel was announced that is here, or on its way."""
        self.counts.repeated += 1
        self._write(partner, delivery, place, True, ())

    def _write(
        self, partner: str, delivery: str, place: str, repeated: bool, files: Sequence[Mapping[str, object]]
    ) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(),
            "partner": partner,
            "delivery": delivery,
            "repeated": repeated,
            "place": place,
            "files": list(files),
        }
        self._list.write(json.dumps(line) + "\n")
        self._list.flush()


def _bound() -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.bind((HERE, 0))
    door.setblocking(False)
    return door


def _port(door: socket.socket) -> int:
    return int(door.getsockname()[1])


def _turn_away(door: socket.socket) -> None:
    """Those who waited at a hanging door have given up long ago: what they sent must not count now."""
    with suppress(BlockingIOError):
        while True:
            caller, _ = door.accept()
            caller.close()


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _say(told: Mapping[str, object]) -> None:
    print(json.dumps(told), flush=True)
