"""One guard for every outgoing connection: whatever a name, a literal or a name server says, no connector reaches an
address that nobody allowed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest

from connectors import webhook
from connectors.outgoing import guarded
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.assembly.ground import Ground
from hub.assembly.house import House
from hub.domain.addresses import read_networks
from hub.domain.delivery import About, Delivered, Refused
from hub.domain.partner import Endpoint
from hub.ports.connector import AddressInfo, Connector, ForbiddenAddress
from hub.settings import Settings
from tests.certificates import authority
from tests.connectors.name_server import needs_own_name_server, run_with_name_server
from tests.connectors.partners import (
    HERE,
    SECRET,
    some_parcel,
    surroundings,
    webhook_town,
)

LIMIT = 3.0
FORBIDDEN = Refused("webhook.address_forbidden", About.ENDPOINT)


class Names:
    """A name server that answers each question with the next of its answers, and the last one again and again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def look_up(self, host: str) -> Sequence[AddressInfo]:
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [_info(address) for address in found]


def _info(address: str) -> AddressInfo:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))


@contextmanager
def listening(address: str = HERE) -> Iterator[tuple[socket.socket, int]]:
    with socket.socket() as door:
        door.bind((address, 0))
        door.listen(16)
        door.setblocking(False)
        yield door, door.getsockname()[1]


def nobody_came(door: socket.socket) -> bool:
    try:
        door.accept()[0].close()
    except BlockingIOError:
        return True
    return False


@asynccontextmanager
async def _webhooks(outgoing: GuardedOutgoing) -> AsyncIterator[Connector]:
    made = webhook.connector(replace(surroundings(), outgoing=outgoing))
    try:
        yield made
    finally:
        await made.close()


# --- connections by themselves ------------------------------------------------------------------------


async def test_a_connection_leads_to_the_address_that_was_checked() -> None:
    names = Names(["127.0.0.7"])
    with listening("127.0.0.7") as (_, port):
        outgoing = GuardedOutgoing(read_networks("127.0.0.7"), names.look_up)
        with await outgoing.connect("town.test", port, LIMIT) as connected:
            assert connected.getpeername() == ("127.0.0.7", port)
            assert not connected.getblocking()
    assert names.asked == ["town.test"]


async def test_one_forbidden_address_among_several_makes_the_whole_name_forbidden() -> None:
    with listening() as (door, port):
        for order in (["127.0.0.2", HERE], [HERE, "127.0.0.2"]):
            outgoing = GuardedOutgoing(read_networks(HERE), Names(order).look_up)
            with pytest.raises(ForbiddenAddress):
                await outgoing.connect("town.test", port, LIMIT)
        assert nobody_came(door)


async def test_a_name_that_changes_its_mind_is_not_followed() -> None:
    """Rebinding: the first answer is allowed, what is asked later leads to the machine's own services."""
    names = Names(["127.0.0.2"], [HERE])
    with listening("127.0.0.2") as (_, port), socket.socket() as own:
        own.bind((HERE, port))
        own.listen()
        own.setblocking(False)
        outgoing = GuardedOutgoing(read_networks("127.0.0.2"), names.look_up)
        (await outgoing.connect("town.test", port, LIMIT)).close()
        with pytest.raises(ForbiddenAddress):
            await outgoing.connect("town.test", port, LIMIT)
        assert nobody_came(own)
    assert len(names.asked) == 2, "each connection is made by one look-up"


@pytest.mark.parametrize(
    "host",
    [
        HERE,
        "localhost",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "127.1",
        "0",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "169.254.169.254",
        "fe80::1%lo",
    ],
)
async def test_no_way_of_writing_an_address_of_this_machine_leads_to_it(host: str) -> None:
    with listening() as (door, port):
        with pytest.raises((ForbiddenAddress, socket.gaierror)) as told:
            await GuardedOutgoing().connect(host, port, LIMIT)
        assert host not in str(told.value)
        assert nobody_came(door)


@pytest.mark.parametrize(
    "host", ["", ".", "a" * 64 + ".test", "a..b", "\udcff", "é" * 70, "a\x00b", "nobody.invalid"]
)
async def test_what_is_no_name_is_a_name_that_nobody_knows(host: str) -> None:
    with pytest.raises(socket.gaierror):
        await GuardedOutgoing().connect(host, 80, 20)


async def test_an_address_that_nobody_can_read_is_forbidden() -> None:
    with pytest.raises(ForbiddenAddress):
        await GuardedOutgoing(look_up=Names(["somewhere"]).look_up).connect("town.test", 80, LIMIT)


async def test_a_name_without_an_address_is_unknown() -> None:
    with pytest.raises(socket.gaierror):
        await GuardedOutgoing(look_up=Names([]).look_up).connect("town.test", 80, LIMIT)


async def test_the_next_address_is_tried_where_one_refuses() -> None:
    with listening("127.0.0.3") as (_, port):
        outgoing = GuardedOutgoing(read_networks("127.0.0.0/8"), Names(["127.0.0.2", "127.0.0.3"]).look_up)
        with await outgoing.connect("town.test", port, LIMIT) as connected:
            assert connected.getpeername()[0] == "127.0.0.3"


async def test_a_refused_connection_is_told_as_such() -> None:
    with socket.socket() as door:
        door.bind((HERE, 0))
        outgoing = GuardedOutgoing(read_networks("127.0.0.0/8"), Names([HERE, "127.0.0.2"]).look_up)
        with pytest.raises(ConnectionRefusedError):
            await outgoing.connect("town.test", door.getsockname()[1], LIMIT)


async def test_a_name_whose_server_is_silent_costs_one_look_up_and_each_no_more_than_its_limit() -> None:
    asked: list[str] = []
    answer = asyncio.Event()

    async def look_up(host: str) -> Sequence[AddressInfo]:
        asked.append(host)
        await answer.wait()
        return [_info("127.0.0.2")]

    outgoing = GuardedOutgoing(read_networks("127.0.0.2"), look_up)
    with listening("127.0.0.2") as (_, port):
        impatient = [outgoing.connect("town.test", port, 0.05) for _ in range(20)]
        assert {type(one) for one in await asyncio.gather(*impatient, return_exceptions=True)} == {
            TimeoutError
        }
        patient = asyncio.create_task(outgoing.connect("town.test", port, LIMIT))
        await asyncio.sleep(0)
        answer.set()
        (await patient).close()
        assert asked == ["town.test"]
        (await outgoing.connect("town.test", port, LIMIT)).close()
    assert asked == ["town.test", "town.test"], "an answer is not kept"


@pytest.mark.parametrize("allowed", ["", "10.0.0.0/8", f"10.0.0.0/8, {HERE}"])
async def test_a_hub_connects_to_the_public_internet_and_to_what_its_operator_names(
    allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_OUTGOING_ALLOW", allowed)
    base = SimpleNamespace(settings=Settings(), database=None, read=None)
    house = House(cast(Ground, base), AsyncExitStack())
    with listening() as (_, port):
        if HERE in allowed:
            (await house.to_partners.connect(HERE, port, LIMIT)).close()
            return
        with pytest.raises(ForbiddenAddress):
            await house.to_partners.connect(HERE, port, LIMIT)


# --- webhooks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        HERE,
        "localhost",
        "0x7f.1",
        "127.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "0",
    ],
)
async def test_no_webhook_reaches_this_machine_however_its_address_is_written(host: str) -> None:
    async with webhook_town() as town, _webhooks(GuardedOutgoing()) as connector:
        url = f"http://{host}:{town.port}/hooks/mairie"
        endpoint = Endpoint("webhook", {"url": url, "plain": True}, {"secret": SECRET})
        (outcome,) = await connector.deliver(endpoint, [some_parcel()], LIMIT)
        assert isinstance(outcome, Refused)
        assert outcome.about is About.ENDPOINT
        assert outcome.cause in ("webhook.address_forbidden", "webhook.settings")
        assert town.peers == set()


async def test_a_webhook_whose_name_changes_its_mind_is_not_followed_though_its_connections_are_kept() -> (
    None
):
    async with webhook_town() as town:
        names = Names(["127.0.0.1"], ["127.0.0.1", "10.0.0.1"])
        outgoing = GuardedOutgoing(read_networks(HERE), names.look_up)
        settings = {"url": f"http://town.test:{town.port}/hooks/mairie", "plain": True}
        endpoint = Endpoint("webhook", settings, {"secret": SECRET})
        async with _webhooks(outgoing) as connector:
            for _ in range(3):
                assert await connector.deliver(endpoint, [some_parcel()], LIMIT) == [Delivered("http 204")]
        assert names.asked == ["town.test"], "kept connections ask nobody"
        async with _webhooks(outgoing) as connector:
            assert await connector.deliver(endpoint, [some_parcel(), some_parcel()], LIMIT) == [FORBIDDEN] * 2
        assert len(town.requests) == 3


async def test_the_name_is_still_what_the_certificate_must_be_for(tmp_path: Path) -> None:
    signing = authority(tmp_path / "ca")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*signing.sign("town", "127.0.0.1"))
    trust = ssl.create_default_context(cafile=str(signing.file))
    async with webhook_town(context) as town:
        outgoing = GuardedOutgoing(read_networks(HERE), Names([HERE]).look_up)
        async with aiohttp.ClientSession(connector=guarded(outgoing, 1)) as session:
            # The certificate is for the address, to which the name leads, and not for the name.
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.post(f"https://town.test:{town.port}/hooks/mairie", ssl=trust)
        assert town.requests == []


# --- a real name server -------------------------------------------------------------------------------

_NAME_SERVER = "127.0.53.54"
_PROGRAM = f"""
import asyncio, socket, struct, threading
import uvloop
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.addresses import read_networks
from hub.ports.connector import ForbiddenAddress

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("{_NAME_SERVER}", 53))
asked = []

def answer():
    # To the first question for an address: what is allowed; to every later one, this machine.
    while True:
        question, whom = server.recvfrom(512)
        end = question.index(0, 12) + 5
        asks_for = question[12:end]
        addresses = []
        if asks_for[-4:-2] == b"\\x00\\x01":
            addresses = ["127.0.0.2" if not asked else "127.0.0.1"]
            asked.append(asks_for)
        head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(addresses), 0, 0)
        records = b"".join(
            b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(one) for one in addresses
        )
        server.sendto(head + asks_for + records, whom)

threading.Thread(target=answer, daemon=True).start()

async def main():
    outgoing = GuardedOutgoing(read_networks("127.0.0.2"))
    with socket.create_server(("127.0.0.2", 0)) as door:
        with await outgoing.connect("rebinding.example", door.getsockname()[1], 10) as connected:
            assert connected.getpeername()[0] == "127.0.0.2"
        try:
            await outgoing.connect("rebinding.example", door.getsockname()[1], 10)
        except ForbiddenAddress:
            print("refused", len(asked), flush=True)

uvloop.run(main())
"""


@needs_own_name_server
def test_a_name_server_that_rebinds_gets_no_second_connection(tmp_path: Path) -> None:
    told = run_with_name_server(_NAME_SERVER, tmp_path, _PROGRAM)
    assert told.stdout == "refused 2\n", told.stderr
