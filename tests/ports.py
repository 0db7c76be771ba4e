"""Ports of this machine that a test may open."""

from __future__ import annotations

import contextlib
import random
import socket


def free_ports(count: int) -> list[int]:
    """Different ones, below those that outgoing connections are given: one of them would else stand in a
    server's place while it starts, or starts again."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(12_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)


def free_port() -> int:
    return free_ports(1)[0]
