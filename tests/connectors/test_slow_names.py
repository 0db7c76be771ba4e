"""Names whose name server does not answer hold up no other partner's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_NAME_SERVER = "127.0.53.53"
_DEAD = 100
_PROGRAM = f"""
import asyncio, os, socket, time
import uvloop
from hub.cli.running import many_lookups
many_lookups()
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("{_NAME_SERVER}", 53))
async def main():
    loop = asyncio.get_running_loop()
    dead = [asyncio.ensure_future(loop.getaddrinfo(f"dead{{n}}.example", 80)) for n in range({_DEAD})]
    await asyncio.sleep(0.2)
    assert not any(one.done() for one in dead)
    await asyncio.wait_for(loop.getaddrinfo("localhost", 80), 2)
    print("looked up", flush=True)
    # The lookups that are under way would be waited for.
    os._exit(0)
uvloop.run(main())
"""


def _may_mount() -> bool:
    """Containers often have root's name and not root's rights."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(
    not _may_mount(), reason="a name server that is silent needs the right to mount one's own list of them"
)
def test_names_that_are_looked_up_in_vain_hold_up_no_other(tmp_path: Path) -> None:
    servers = tmp_path / "resolv.conf"
    servers.write_text(f"nameserver {_NAME_SERVER}\n")
    program = f'mount --bind "{servers}" /etc/resolv.conf && exec "$0" -c "$1"'
    told = subprocess.run(
        ["unshare", "-m", "sh", "-c", program, sys.executable, _PROGRAM],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert told.stdout == "looked up\n", told.stderr
