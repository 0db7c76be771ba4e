"""Servers that are reached through another one: two of OpenSSH's own, one that lets through and one that does not; and
one of the library's where it must break off."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import asyncssh
import pytest

from connectors.sftp import SftpConnector
from connectors.sftp.judging import AtTheJump, judge
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.addresses import read_networks
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.domain.partner import Endpoint
from hub.domain.trials import Step, StepState
from hub.ports.connector import Outgoing
from tests.connectors.openssh import HERE, OpenSsh, line_of, missing, openssh
from tests.connectors.partners import (
    closed_port,
    outgoing,
    silent_port,
    some_file,
    some_parcel,
    surroundings,
    with_settings,
)

LIMIT = 10.0
BRIEF = 1.0
OTHER = asyncssh.generate_private_key("ssh-ed25519")
FORBIDDEN = Refused("sftp.address_forbidden", About.ENDPOINT)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    if (why := missing()) is not None:
        pytest.skip(why)
    with openssh(tmp_path_factory.mktemp("behind")) as served:
        yield served


@pytest.fixture(scope="module")
def jump(behind: OpenSsh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    with openssh(
        tmp_path_factory.mktemp("jump"), "AllowTcpForwarding local", "AllowAgentForwarding yes"
    ) as served:
        yield served


@pytest.fixture(scope="module")
def wall(behind: OpenSsh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    with openssh(tmp_path_factory.mktemp("wall"), "AllowTcpForwarding no") as served:
        yield served


@pytest.fixture
async def sftp() -> AsyncIterator[SftpConnector]:
    made = SftpConnector(surroundings())
    yield made
    await made.close()


def through(server: OpenSsh, behind: OpenSsh, **settings: object) -> Endpoint:
    way = {
        f"jump_{name}": server.endpoint.settings[name] for name in ("host", "port", "username", "host_key")
    }
    secrets = {**behind.endpoint.secrets, "jump_private_key": server.endpoint.secrets["private_key"]}
    return Endpoint("sftp", {**behind.endpoint.settings, **way, **settings}, secrets)


async def outcome(sftp: SftpConnector, endpoint: Endpoint, limit: float = LIMIT) -> object:
    assert not sftp.check(endpoint)
    [found] = await sftp.deliver(endpoint, [some_parcel()], limit)
    return found


def told_by(steps: list[Step]) -> list[str]:
    return [one.name for one in steps if one.state is StepState.WELL]


# --- one that lets through, and one that does not -----------------------------------------------------


async def test_a_parcel_goes_through_one_server_to_another(
    sftp: SftpConnector, behind: OpenSsh, jump: OpenSsh
) -> None:
    endpoint = through(jump, behind)
    before = behind.names()
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    assert len(behind.names()) == len(before) + 1
    assert jump.names() == []
    steps = list(await sftp.try_out(endpoint, LIMIT, False))
    assert told_by(steps) == [
        *("jump_connection", "jump_host_key", "jump_login", "forwarding", "host_key", "login"),
        *("folder", "rights", "space"),
    ]
    assert all(one.fr.startswith("Rebond : ") == one.name.startswith("jump_") for one in steps)


async def test_both_connections_are_kept_and_let_go_together(behind: OpenSsh, jump: OpenSsh) -> None:
    sftp = SftpConnector(surroundings(), kept=0.3)
    turns = _count_turns(sftp)
    endpoint = through(jump, behind)
    for _ in range(2):
        assert isinstance(await outcome(sftp, endpoint), Delivered)
    assert len(turns) == 2, "one handshake with each, each in its turn"
    [kept] = sftp._sessions._kept.values()
    assert kept.session.jump is not None
    async with asyncio.timeout(10):
        await kept.session.connection.wait_closed()
        await kept.session.jump.wait_closed()


async def test_both_are_closed_when_the_hub_ends(behind: OpenSsh, jump: OpenSsh) -> None:
    sftp = SftpConnector(surroundings())
    assert isinstance(await outcome(sftp, through(jump, behind)), Delivered)
    [kept] = sftp._sessions._kept.values()
    await sftp.close()
    assert kept.session.jump is not None
    assert kept.session.jump.is_closed()


def _count_turns(sftp: SftpConnector) -> list[None]:
    turns: list[None] = []
    turn = sftp._sessions._handshakes.turn

    async def counted() -> None:
        turns.append(None)
        await turn()

    sftp._sessions._handshakes.turn = counted  # type: ignore[method-assign]
    return turns


@pytest.mark.parametrize(
    ("case", "expected", "step"),
    [
        ("jump-key", Refused("sftp.jump_host_key_changed", About.ENDPOINT), "jump_host_key"),
        (
            "jump-authority",
            Refused("sftp.jump_host_certificate_missing", About.ENDPOINT),
            "jump_host_key",
        ),
        ("jump-account", Refused("sftp.jump_permission_denied", About.ENDPOINT), "jump_login"),
        ("jump-away", Deferred("sftp.jump_connection_refused"), "jump_connection"),
        ("wall", Refused("sftp.jump_forwarding_denied", About.ENDPOINT), "forwarding"),
        ("away", Deferred("sftp.unreachable"), "forwarding"),
        ("unknown", Deferred("sftp.unreachable"), "forwarding"),
        ("key", Refused("sftp.host_key_changed", About.ENDPOINT), "host_key"),
        ("account", Refused("sftp.permission_denied", About.ENDPOINT), "login"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
async def test_what_is_wrong_is_told_of_the_server_where_it_is(
    sftp: SftpConnector,
    behind: OpenSsh,
    jump: OpenSsh,
    wall: OpenSsh,
    case: str,
    expected: Deferred | Refused,
    step: str,
) -> None:
    good, foreign = through(jump, behind), OTHER.export_private_key().decode()
    with closed_port() as nobody:
        endpoint = {
            "jump-key": with_settings(good, jump_host_key=line_of(OTHER)),
            "jump-authority": with_settings(good, jump_host_key=f"@cert-authority * {line_of(OTHER)}"),
            "jump-account": replace(good, secrets={**good.secrets, "jump_private_key": foreign}),
            "jump-away": with_settings(good, jump_port=nobody),
            "wall": through(wall, behind),
            "away": with_settings(good, port=nobody),
            "unknown": with_settings(good, host="sftp.nowhere.invalid"),
            "key": with_settings(good, host_key=line_of(OTHER)),
            "account": replace(good, secrets={**good.secrets, "private_key": foreign}),
        }[case]
        assert await outcome(sftp, endpoint) == expected
        steps = await sftp.try_out(endpoint, LIMIT, False)
    wrong = [(one.name, one.cause) for one in steps if one.state is StepState.WRONG]
    assert wrong == [(step, expected.cause)]
    assert ("jump_login" in told_by(list(steps))) == (not step.startswith("jump_"))
    assert not sftp._sessions._kept


# --- the guard ----------------------------------------------------------------------------------------


class Noting:
    """A guard, and what it is asked."""

    def __init__(self, guard: Outgoing) -> None:
        self.guard = guard
        self.asked: list[str] = []

    async def connect(self, host: str, port: int, limit: float) -> socket.socket:
        self.asked.append(host)
        return await self.guard.connect(host, port, limit)

    async def resolve(self, host: str, port: int) -> object:
        self.asked.append(host)
        return await self.guard.resolve(host, port)

    def __getattr__(self, name: str) -> object:
        return getattr(self.guard, name)


async def test_a_name_behind_the_jump_is_looked_up_there_and_not_here(behind: OpenSsh, jump: OpenSsh) -> None:
    noting = Noting(outgoing())
    sftp = SftpConnector(replace(surroundings(), outgoing=noting))  # type: ignore[arg-type]
    endpoint = through(jump, behind, jump_host="localhost", host="ip6-localhost.nowhere.invalid")
    await outcome(sftp, endpoint)
    await sftp.try_out(endpoint, LIMIT, False)
    await sftp.close()
    assert set(noting.asked) == {"localhost"}


OURS = (
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "2130706433",
    "127.0.0.1.",
    "LocalHost",
    "a.localhost.",
    "::1",
    "0.0.0.0",
)
THEIRS = (
    "10.1.2.3",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fd00:ec2::254",
    "fe80::1",
    "64:ff9b::7f00:1",
)


@pytest.mark.parametrize("host", [*OURS, *THEIRS])
async def test_an_address_that_the_guard_forbids_is_not_asked_of_a_jump_either(
    behind: OpenSsh, jump: OpenSsh, host: str
) -> None:
    """The jump itself may be reached: the operator allows its address, and no other."""

    class OnlyTheJump(Noting):
        async def connect(self, host: str, port: int, limit: float) -> socket.socket:
            self.asked.append(host)
            return await outgoing().connect(host, port, limit)

    noting = OnlyTheJump(GuardedOutgoing())
    sftp = SftpConnector(replace(surroundings(), outgoing=noting))  # type: ignore[arg-type]
    assert await outcome(sftp, through(jump, behind, host=host)) == FORBIDDEN
    assert noting.asked == []
    await sftp.close()


async def test_an_operator_may_allow_an_address_behind_a_jump(behind: OpenSsh, jump: OpenSsh) -> None:
    allowing = GuardedOutgoing(read_networks(f"{HERE}/32"))
    sftp = SftpConnector(replace(surroundings(), outgoing=allowing))
    assert isinstance(await outcome(sftp, through(jump, behind)), Delivered)
    steps = await sftp.try_out(through(jump, behind, host="10.1.2.3"), LIMIT, False)
    assert [(one.name, one.cause) for one in steps if one.state is StepState.WRONG] == [
        ("address", "sftp.address_forbidden")
    ]
    await sftp.close()


async def test_a_jump_that_is_forbidden_is_not_connected_to(behind: OpenSsh, jump: OpenSsh) -> None:
    sftp = SftpConnector(replace(surroundings(), outgoing=GuardedOutgoing()))
    endpoint = through(jump, behind, host="sftp.interne")
    assert await outcome(sftp, endpoint) == Refused("sftp.jump_address_forbidden", About.ENDPOINT)
    steps = await sftp.try_out(endpoint, LIMIT, False)
    assert [(one.name, one.cause) for one in steps] == [("jump_address", "sftp.jump_address_forbidden")]


# --- when it breaks -----------------------------------------------------------------------------------


@dataclass
class Gate:
    """A jump that asks for a password, and what it was asked for. `dies`: as soon as it is."""

    guests: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    dies: bool = False


class GateServer(asyncssh.SSHServer):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.gate.guests.append(conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "sésame"

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        self.gate.asked.append(f"forward {dest_host}:{dest_port}")
        if self.gate.dies:
            self.gate.guests[-1].abort()
        return True

    def session_requested(self) -> bool:
        self.gate.asked.append("session")
        return False

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        self.gate.asked.append("listen")
        return False


@asynccontextmanager
async def gate(behind: OpenSsh) -> AsyncIterator[tuple[Gate, Endpoint]]:
    gate, key = Gate(), asyncssh.generate_private_key("ssh-ed25519")
    served = asyncssh.listen(HERE, 0, server_factory=lambda: GateServer(gate), server_host_keys=[key])
    async with await served as door:
        way = {
            "jump_host": HERE,
            "jump_port": door.get_port(),
            "jump_username": "rebond",
            "jump_host_key": key.get_fingerprint(),
        }
        endpoint = with_settings(behind.endpoint, **way)
        yield gate, replace(endpoint, secrets={**endpoint.secrets, "jump_password": "sésame"})
        for guest in gate.guests:
            guest.abort()


async def test_one_channel_is_all_that_a_jump_is_asked_for(sftp: SftpConnector, behind: OpenSsh) -> None:
    async with gate(behind) as (server, endpoint):
        for _ in range(2):
            assert isinstance(await outcome(sftp, endpoint), Delivered)
        assert server.asked == [f"forward {HERE}:{behind.endpoint.settings['port']}"]
        assert len(server.guests) == 1
        wrong = replace(endpoint, secrets={**endpoint.secrets, "jump_password": "x"})
        assert await outcome(sftp, wrong) == Refused("sftp.jump_permission_denied", About.ENDPOINT)


async def test_a_jump_that_dies_under_way_defers_each_parcel_and_the_next_page_begins_anew(
    sftp: SftpConnector, behind: OpenSsh
) -> None:
    async with gate(behind) as (server, endpoint):

        def dying() -> Callable[[int, int | None], AsyncIterator[bytes]]:
            async def read(start: int, end: int | None) -> AsyncIterator[bytes]:
                yield b"a" * 100_000
                server.guests[-1].abort()
                await asyncio.sleep(0.2)
                yield b"a" * 100_000

            return read

        file = replace(some_file(1, "a.pdf", b"a" * 200_000), open=dying())
        parcels = [some_parcel(file), some_parcel()]
        outcomes = await sftp.deliver(endpoint, parcels, LIMIT)
        assert outcomes[0] == Deferred("sftp.jump_disconnected")
        assert outcomes[1] == Deferred("sftp.jump_disconnected") or isinstance(outcomes[1], Delivered)
        assert not sftp._sessions._kept
        good = replace(parcels[0], files=(some_file(1, "a.pdf", b"a" * 200_000),))
        again = replace(good, attempt=replace(good.attempt, number=2))
        [found] = await sftp.deliver(endpoint, [again], LIMIT)
        assert isinstance(found, Delivered)
        # As it lies idle, nobody is told.
        server.guests[-1].abort()
        assert isinstance(await outcome(sftp, endpoint), Delivered)


async def test_who_says_nothing_is_told_apart_and_nothing_stays_open(
    sftp: SftpConnector, behind: OpenSsh
) -> None:
    async with gate(behind) as (server, endpoint):
        with silent_port() as silent:
            found = await asyncio.gather(
                outcome(sftp, with_settings(endpoint, port=silent), BRIEF),
                outcome(sftp, with_settings(endpoint, jump_port=silent), BRIEF),
            )
        assert list(found) == [Deferred("sftp.timeout"), Deferred("sftp.jump_timeout")]
        async with asyncio.timeout(10):
            await asyncio.gather(*(guest.wait_closed() for guest in server.guests))


async def test_a_jump_that_dies_before_the_server_behind_is_entered_is_at_fault(
    sftp: SftpConnector, behind: OpenSsh
) -> None:
    async with gate(behind) as (server, endpoint):
        server.dies = True
        assert await outcome(sftp, endpoint) == Deferred("sftp.jump_disconnected")


def test_a_jump_needs_an_account_and_a_key_of_its_own(behind: OpenSsh) -> None:
    sftp = SftpConnector(surroundings())
    alone = with_settings(behind.endpoint, jump_host="rebond.mairie.test")
    assert {flaw.split(" ", 1)[0] for flaw in sftp.check(alone)} == {"jump_host", "jump_private_key"}
    lost = replace(behind.endpoint, secrets={**behind.endpoint.secrets, "jump_password": "x"})
    assert [flaw.split(" ", 1)[0] for flaw in sftp.check(lost)] == ["jump_password"]


def test_faults_of_a_jump_that_say_that_we_are_exhausted_are_about_nobody() -> None:
    assert judge(AtTheJump(OSError(errno.EMFILE, ""))).cause == "hub.exhausted"
