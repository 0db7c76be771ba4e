"""What every connector promises, whatever its channel, tried against real servers.

Every connector that is installed is tried, wherever it comes from, with the partner that the entry points
`hub.connectors.towns` name for its channel."""

from __future__ import annotations

import re
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from connectors import mailbox
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.errors import Tampered, Unavailable
from hub.domain.fields import check_fields, masked
from hub.domain.partner import Endpoint
from hub.domain.trials import StepState
from hub.ports.connector import (
    AddressInfo,
    Connector,
    ConnectorFactory,
    ForbiddenAddress,
    ParcelFile,
    Triable,
)
from hub.wire.fields import schema
from tests.connectors.partners import (
    Town,
    closed_port,
    mail_town,
    names,
    sftp_town,
    silent_port,
    some_file,
    some_parcel,
    surroundings,
    tried_again,
    webhook_town,
)

LIMIT = 1.5
FACTORIES: dict[str, ConnectorFactory] = {
    point.name: point.load()
    for point in sorted(entry_points(group="hub.connectors"), key=lambda point: point.name)
}
TOWNS: dict[str, Callable[[Path], AbstractAsyncContextManager[Town]]] = {
    "sftp": sftp_town,
    "mail": lambda _: mail_town(),
    "webhook": lambda _: webhook_town(),
    **{point.name: point.load() for point in entry_points(group="hub.connectors.towns")},
}
SERVED = sorted(FACTORIES.keys() - {"mailbox"})
"""Those that speak to a server of the partner."""
CARRYING = ("sftp", "mail")
"""Those that carry the files themselves."""


@pytest.fixture(params=SERVED)
def channel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def connector(channel: str) -> AsyncIterator[Connector]:
    made = FACTORIES[channel](surroundings())
    yield made
    await made.close()


@pytest.fixture
async def town(channel: str, tmp_path: Path) -> AsyncIterator[Town]:
    folder = tmp_path / "inbox"
    folder.mkdir()
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(TOWNS[channel](folder))


@pytest.mark.parametrize("channel", FACTORIES)
def test_a_connector_says_the_name_of_its_channel(channel: str) -> None:
    assert FACTORIES[channel](surroundings()).channel == channel


@pytest.mark.parametrize("channel", FACTORIES)
def test_a_connector_describes_its_fields(channel: str) -> None:
    check_fields(channel, FACTORIES[channel](surroundings()).fields)


async def test_no_connection_is_made_but_through_the_guard(channel: str, town: Town) -> None:
    guard = _Deaf()
    connector = FACTORIES[channel](replace(surroundings(), outgoing=guard))
    outcomes = await connector.deliver(town.endpoint, [some_parcel(), some_parcel()], LIMIT)
    await connector.close()
    assert outcomes == [Refused(f"{channel}.address_forbidden", About.ENDPOINT)] * 2
    assert guard.asked
    assert town.received() == []


class _Deaf(GuardedOutgoing):
    """Lets nobody out."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def connect(self, host: str, port: int, limit: float) -> socket.socket:
        self.asked += 1
        raise ForbiddenAddress

    async def resolve(self, host: str, port: int) -> Sequence[AddressInfo]:
        self.asked += 1
        raise ForbiddenAddress

    def open(self, info: AddressInfo) -> socket.socket:
        self.asked += 1
        raise ForbiddenAddress


async def test_a_mailbox_has_a_parcel_as_soon_as_it_is_delivered() -> None:
    outcomes = await mailbox.connector(surroundings()).deliver(
        Endpoint("mailbox", {}), [some_parcel(), some_parcel()], LIMIT
    )
    assert outcomes == [Delivered("mailbox"), Delivered("mailbox")]


async def test_a_parcel_is_delivered(connector: Connector, town: Town) -> None:
    (outcome,) = await connector.deliver(town.endpoint, [some_parcel()], LIMIT)
    assert isinstance(outcome, Delivered)
    assert outcome.receipt
    assert len(town.received()) == 1


@pytest.mark.parametrize("channel", CARRYING)
async def test_files_arrive_byte_for_byte(connector: Connector, town: Town) -> None:
    every_byte = bytes(range(256)) * 700
    parcel = some_parcel(
        some_file(0, "submission.json", b"{}", "application/json"),
        some_file(1, "pièce n° 1.xml", b"\xef\xbb\xbf<a>\r\r\n.\r\n..\n</a>", "text/xml"),
        some_file(2, "tout.bin", every_byte, "application/octet-stream"),
        some_file(3, "vide.txt", b"", "text/plain"),
        some_file(4, "courriel.eml", b"From: a\n\nFrom b\n", "message/rfc822"),
    )
    await connector.deliver(town.endpoint, [parcel], LIMIT)
    ((_, files),) = town.received()
    assert files == {
        "submission.json": b"{}",
        "pièce n° 1.xml": b"\xef\xbb\xbf<a>\r\r\n.\r\n..\n</a>",
        "tout.bin": every_byte,
        "vide.txt": b"",
        "courriel.eml": b"From: a\n\nFrom b\n",
    }


async def test_a_parcel_delivered_twice_is_one_parcel_at_the_partner(
    connector: Connector, town: Town
) -> None:
    parcel = some_parcel()
    first = await connector.deliver(town.endpoint, [parcel], LIMIT)
    there = town.received()
    second = await connector.deliver(town.endpoint, [tried_again(parcel)], LIMIT)
    assert first == second
    assert names(second) == ["Delivered"]
    assert town.received() == there


async def test_outcomes_stand_in_the_order_of_the_parcels(connector: Connector, town: Town) -> None:
    parcels = [some_parcel(sequence=number) for number in range(1, 13)]
    for parcel in parcels[::3]:
        town.spoil(parcel.attempt.delivery)
    outcomes = await connector.deliver(town.endpoint, parcels, LIMIT)
    assert [isinstance(outcome, Delivered) for outcome in outcomes] == [False, True, True] * 4


async def test_a_refused_parcel_does_not_spoil_the_others(connector: Connector, town: Town) -> None:
    parcels = [some_parcel() for _ in range(3)]
    town.spoil(parcels[1].attempt.delivery)
    outcomes = await connector.deliver(town.endpoint, parcels, LIMIT)
    assert isinstance(outcomes[0], Delivered)
    assert isinstance(outcomes[2], Delivered)
    assert isinstance(outcomes[1], Deferred | Refused)
    assert outcomes[1].about is not About.ENDPOINT
    assert len(town.received()) == 2


async def test_no_parcels_are_no_outcomes(connector: Connector, town: Town) -> None:
    assert list(await connector.deliver(town.endpoint, [], LIMIT)) == []


async def test_a_server_that_says_nothing_defers_all_parcels_within_the_limit(
    connector: Connector, town: Town
) -> None:
    with silent_port() as port:
        began = time.monotonic()
        outcomes = await connector.deliver(town.at(port), [some_parcel() for _ in range(40)], LIMIT)
        took = time.monotonic() - began
    assert set(outcomes) == {Deferred(f"{connector.channel}.timeout", About.ENDPOINT)}
    assert LIMIT * 0.9 <= took <= LIMIT + 1


async def test_a_refused_connection_defers_all_parcels(connector: Connector, town: Town) -> None:
    with closed_port() as port:
        outcomes = await connector.deliver(town.at(port), [some_parcel(), some_parcel()], LIMIT)
    assert outcomes == [Deferred(f"{connector.channel}.connection_refused", About.ENDPOINT)] * 2


async def test_a_connection_cut_in_the_middle_defers_and_never_delivers(
    connector: Connector, town: Town
) -> None:
    town.break_off()
    outcomes = await connector.deliver(town.endpoint, [some_parcel() for _ in range(5)], LIMIT)
    assert {type(outcome) for outcome in outcomes} == {Deferred}
    assert {outcome.about for outcome in outcomes if isinstance(outcome, Deferred)} == {About.ENDPOINT}
    assert town.received() == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Unavailable(), Deferred("hub.content_away", About.PARCEL)),
        (Tampered(), Refused("hub.content_unreadable", About.PARCEL)),
    ],
    ids=["away", "tampered"],
)
@pytest.mark.parametrize("channel", CARRYING)
async def test_a_file_that_we_cannot_read_spoils_only_its_parcel(
    connector: Connector, town: Town, fault: Exception, expected: Outcome
) -> None:
    async def read(start: int, end: int | None) -> AsyncIterator[bytes]:
        yield b"half"
        raise fault

    broken = some_parcel(replace(some_file(1, "a.pdf", b"half of it"), open=read))
    outcomes = await connector.deliver(town.endpoint, [some_parcel(), broken, some_parcel()], LIMIT)
    assert names(outcomes)[::2] == ["Delivered", "Delivered"]
    assert outcomes[1] == expected
    assert len(town.received()) == 2


HOSTILE = (
    "../../../etc/cron.d/x",
    "..",
    ".ssh",
    "a\r\nX-Evil: 1\r\n\r\n<script>.pdf",
    'a"; filename="b.exe',
    "C:\\windows\\x.dll",
    "nul\x00.pdf",
    "\u202efdp.exe",
    "x" * 300,
    "é" * 200,
)


async def test_hostile_names_neither_leave_the_parcel_nor_stop_it(connector: Connector, town: Town) -> None:
    files = [some_file(number, name, b"%d" % number) for number, name in enumerate(HOSTILE)]
    parcel = replace(
        some_parcel(*files),
        external_id="../../A\r\nX-Evil: 1/..",
        sender="x\r\nX-Evil: 1",
        procedure_title="Titre\r\nBcc: autre@mairie.test\r\n\r\ncorps",
        procedure="p\nX-Evil: 1",
    )
    (outcome,) = await connector.deliver(town.endpoint, [parcel], LIMIT)
    assert isinstance(outcome, Delivered)
    ((_, there),) = town.received()
    if connector.channel in CARRYING:
        assert sorted(there.values()) == [b"%d" % number for number in range(len(HOSTILE))]
        for name in there:
            assert name.isprintable()
            assert not set(name) & set('/\\"<>:')
            assert not name.startswith(".")


async def test_a_large_file_is_never_held_in_memory(connector: Connector, town: Town) -> None:
    size, piece = 50_000_000, 100_000
    asked = 0

    async def read(start: int, end: int | None) -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(size // piece):
            asked += 1
            yield bytes(piece)

    large = ParcelFile(1, "plan.tif", "plan.tif", "plan", "image/tiff", size, "0" * 64, read)
    tracemalloc.start()
    try:
        (outcome,) = await connector.deliver(town.endpoint, [some_parcel(large)], 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(outcome, Delivered)
    assert peak < 12_000_000
    assert asked in (0, size // piece), "all of it, or (as a link) nothing"


async def test_what_a_connector_says_of_wrong_settings_names_fields_and_no_values(
    connector: Connector, town: Town
) -> None:
    endpoint = Endpoint(
        connector.channel,
        {"host": "h-4711", "url": "ftp://h-4711", "port": "p-4711", "tls": "t-4711", "unheard": "u-4711"},
        {"secret": "s-4711", "private_key": "k-4711", "username": "n-4711"},
    )
    flaws = connector.check(endpoint)
    assert any(flaw.startswith("unheard ") for flaw in flaws)
    assert "4711" not in " ".join(flaws)
    assert connector.check(town.endpoint) == ()
    outcomes = await connector.deliver(endpoint, [some_parcel()], LIMIT)
    assert outcomes == [Refused(f"{connector.channel}.settings", About.ENDPOINT)]


async def test_what_its_check_finds_right_its_schema_does_too(connector: Connector, town: Town) -> None:
    endpoint = town.endpoint
    told = {
        "channel": endpoint.channel,
        "settings": dict(endpoint.settings),
        "secrets": dict(endpoint.secrets),
    }
    described = Draft202012Validator(schema(connector.channel, connector.fields))
    assert described.is_valid(told)
    assert not described.is_valid({**told, "settings": {**endpoint.settings, "unheard": 1}})
    assert masked(connector.fields, endpoint.settings) == endpoint.settings


async def test_an_endpoint_that_is_well_is_well_in_a_trial_too(connector: Connector, town: Town) -> None:
    """Where a connector can be tried: nothing of it is a parcel, and nothing of a partner is told."""
    if not isinstance(connector, Triable):
        return
    steps = await connector.try_out(town.endpoint, LIMIT, False)
    assert [step for step in steps if step.state is StepState.WRONG] == []
    assert all(step.fr and step.en and step.fr != step.en for step in steps)
    assert town.received() == []
    with closed_port() as port:
        steps = await connector.try_out(town.at(port), LIMIT, False)
    assert steps[-1].cause == f"{connector.channel}.connection_refused"


async def test_no_cause_holds_words_of_the_partner_s_server(connector: Connector, town: Town) -> None:
    """As evidence they go beside it, and are not shown with it."""
    parcel = some_parcel()
    town.spoil(parcel.attempt.delivery)
    (outcome,) = await connector.deliver(town.endpoint, [parcel], LIMIT)
    assert isinstance(outcome, Deferred | Refused)
    assert re.fullmatch(rf"{connector.channel}\.[a-z0-9_]+", outcome.cause)
    assert "words" not in repr(outcome)
    assert outcome.answer is None or b"words" in outcome.answer
