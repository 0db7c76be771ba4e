"""The suite of connectors, run as somebody runs it who wrote one in a distribution of his own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_THEIRS = """
import asyncio
from contextlib import asynccontextmanager

from connectors.fields import Reading
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.domain.fields import Field, FieldKind
from hub.domain.partner import Endpoint
from hub.ports.connector import ForbiddenAddress

FIELDS = (
    Field("host", FieldKind.HOST, required=True, fr="Serveur.", en="Server."),
    Field("port", FieldKind.NUMBER, required=True, fr="Port.", en="Port."),
)

class Fax:
    channel = "fax"
    fields = FIELDS

    def __init__(self, surroundings):
        self.outgoing = surroundings.outgoing

    def check(self, endpoint):
        return Reading(endpoint, FIELDS).flaws

    async def deliver(self, endpoint, parcels, limit):
        if self.check(endpoint):
            return [Refused(f"{self.channel}.settings", About.ENDPOINT) for _ in parcels]
        try:
            reader, writer = await self.open(endpoint.settings["host"], endpoint.settings["port"], limit)
        except ForbiddenAddress:
            return [Refused(f"{self.channel}.address_forbidden", About.ENDPOINT) for _ in parcels]
        for parcel in parcels:
            writer.write(f"{parcel.attempt.delivery}\\n".encode())
        writer.write_eof()
        said = await reader.read()
        writer.close()
        return [Delivered("faxed") if said == b"ok" else Deferred(f"{self.channel}.failed") for _ in parcels]

    async def open(self, host, port, limit):
        return await asyncio.open_connection(sock=await self.outgoing.connect(host, port, limit))

    async def close(self):
        pass

class Telex(Fax):
    channel = "telex"

    async def open(self, host, port, limit):
        return await asyncio.open_connection(host, port)

class Town:
    def __init__(self, channel):
        self.channel, self.names, self.port = channel, set(), 0

    @property
    def endpoint(self):
        return Endpoint(self.channel, {"host": "127.0.0.1", "port": self.port}, {})

    def received(self):
        return [(name, {}) for name in sorted(self.names)]

@asynccontextmanager
async def _town(channel):
    town = Town(channel)
    async def take(reader, writer):
        said = await reader.read()
        town.names |= set(said.decode().split())
        writer.write(b"ok")
        writer.close()
    server = await asyncio.start_server(take, "127.0.0.1", 0)
    town.port = server.sockets[0].getsockname()[1]
    yield town
    server.close()

def fax_town(folder):
    return _town("fax")

def telex_town(folder):
    return _town("telex")
"""
_POINTS = """
[hub.connectors]
fax = their_fax:Fax
telex = their_fax:Telex

[hub.connectors.towns]
fax = their_fax:fax_town
telex = their_fax:telex_town
"""


def test_a_connector_of_somebody_else_is_tried_like_the_hub_s_own_and_one_that_connects_by_itself_fails(
    tmp_path: Path,
) -> None:
    (tmp_path / "their_fax.py").write_text(_THEIRS)
    metadata = tmp_path / "their_fax-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-fax\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_POINTS)
    wanted = "(fax or telex) and (guard or describes or is_one_parcel)"
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-rA",
            "tests/conformance/test_connectors.py",
            "-k",
            wanted,
        ],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [line for line in told.stdout.splitlines() if line.startswith(("PASSED", "FAILED"))]
    passed = {line.split("::")[1] for line in lines if line.startswith("PASSED")}
    failed = {line.split("::")[1].split(" ")[0] for line in lines if line.startswith("FAILED")}
    guarded = "test_no_connection_is_made_but_through_the_guard"
    assert f"{guarded}[fax]" in passed, told.stdout
    assert "test_a_parcel_delivered_twice_is_one_parcel_at_the_partner[telex]" in passed
    assert failed == {f"{guarded}[telex]"}
