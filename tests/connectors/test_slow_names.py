"""Names whose name server does not answer hold up no other partner's."""

from __future__ import annotations

from pathlib import Path

from tests.connectors.name_server import needs_own_name_server, run_with_name_server

_DEAD = 100
_NAME_SERVER = "127.0.53.53"
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


@needs_own_name_server
def test_names_that_are_looked_up_in_vain_hold_up_no_other(tmp_path: Path) -> None:
    told = run_with_name_server(_NAME_SERVER, tmp_path, _PROGRAM)
    assert told.stdout == "looked up\n", told.stderr
