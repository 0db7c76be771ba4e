"""Connections to SFTP servers: kept, replaced, refused, and whom they are believed to lead to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from connectors.sftp import SftpConnector
from connectors.sftp.sessions import Handshakes
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.delivery import About, Refused
from tests.connectors.partners import SftpTown, names, sftp_town, some_parcel, surroundings, with_settings
from tests.connectors.sftp_world import LIMIT, SFTP, left_nowhere, town

__all__ = ["left_nowhere", "town"]


# --- connections that are kept ------------------------------------------------------------------------


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.02)


async def test_pages_for_one_endpoint_share_a_connection(town: SftpTown) -> None:
    endpoint = town.endpoint
    for _ in range(3):
        assert names(await SFTP.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
    assert town.connections == 1


async def test_a_connection_that_died_as_it_lay_idle_is_replaced_without_an_outcome(town: SftpTown) -> None:
    endpoint = town.endpoint
    await SFTP.deliver(endpoint, [some_parcel()], LIMIT)
    town.guests[0].abort()
    assert names(await SFTP.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
    assert town.connections == 2


async def test_a_connection_that_fell_silent_as_it_lay_idle_is_replaced_within_the_limit(
    town: SftpTown,
) -> None:
    endpoint = town.endpoint
    await SFTP.deliver(endpoint, [some_parcel()], LIMIT)
    town.deaf = list(town.guests)
    began = time.monotonic()
    assert names(await SFTP.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
    assert time.monotonic() - began < LIMIT
    assert town.connections == 2


async def test_an_idle_connection_is_closed_after_a_while_and_all_of_them_at_the_end(town: SftpTown) -> None:
    brief, long = SftpConnector(surroundings(), kept=0.1), SftpConnector(surroundings())
    await brief.deliver(town.endpoint, [some_parcel()], LIMIT)
    await long.deliver(town.endpoint, [some_parcel()], LIMIT)
    await _until(lambda: len(town.guests) == 1)
    await long.close()
    await _until(lambda: not town.guests)


async def test_two_pages_at_once_for_one_endpoint_keep_one_connection(town: SftpTown) -> None:
    endpoint = town.endpoint
    await asyncio.gather(*(SFTP.deliver(endpoint, [some_parcel()], LIMIT) for _ in range(2)))
    await _until(lambda: len(town.guests) == 1)
    assert len(town.received()) == 2


async def test_handshakes_have_their_turns() -> None:
    turns, loop = Handshakes(50), asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(turns.turn() for _ in range(11)))
    assert loop.time() - began > 0.19


async def test_an_address_that_is_not_allowed_is_refused_before_it_is_asked_anything(town: SftpTown) -> None:
    guarded = SftpConnector(replace(surroundings(), outgoing=GuardedOutgoing()))
    outcomes = await guarded.deliver(town.endpoint, [some_parcel()], LIMIT)
    assert outcomes == [Refused("sftp.address_forbidden", About.ENDPOINT)]
    assert town.connections == 0


# --- whom the server is believed to be ----------------------------------------------------------------


def fresh_key(kind: str = "ssh-ed25519") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(kind)


def line_of(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


@pytest.mark.parametrize(
    "form",
    [
        lambda key, port: key.get_fingerprint(),
        lambda key, port: f"{fresh_key().get_fingerprint()}\n{key.get_fingerprint()}",
        lambda key, port: f"# next month's\n{line_of(fresh_key())}\n{line_of(key)}",
        lambda key, port: f"[127.0.0.1]:{port} {line_of(key)}",
        lambda key, port: f"127.0.0.1 {line_of(key)}\nother.example {line_of(fresh_key())}",
    ],
    ids=["fingerprint", "two-fingerprints", "two-keys", "known-hosts-with-port", "known-hosts"],
)
async def test_a_server_s_key_is_pinned_in_each_form(
    town: SftpTown, form: Callable[[asyncssh.SSHKey, int], str]
) -> None:
    endpoint = with_settings(town.endpoint, host_key=form(town.host_key, town.port))
    assert names(await SFTP.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]


async def test_the_key_of_each_kind_is_asked_for_until_one_has_the_fingerprint(tmp_path: Path) -> None:
    """The server has an ed25519 key, too, that is not the one which was told."""
    (tmp_path / "inbox").mkdir()
    told = fresh_key("ecdsa-sha2-nistp256")
    async with sftp_town(tmp_path / "inbox", server_host_keys=[fresh_key(), told]) as town:
        endpoint = with_settings(town.endpoint, host_key=told.get_fingerprint())
        assert names(await SFTP.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
        await SFTP.close()
        before = town.connections
        assert names(await SFTP.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
        assert town.connections == before + 1, "the kind that was right is asked for first"


@pytest.mark.parametrize(
    ("form", "flaw"),
    [
        (lambda key: fresh_key().get_fingerprint(), "host_key_changed"),
        (lambda key: f"127.0.0.1 {line_of(fresh_key())}", "host_key_changed"),
        (lambda key: f"127.0.0.1 {line_of(key)}\n@revoked 127.0.0.1 {line_of(key)}", "host_key_revoked"),
        (lambda key: f"{key.get_fingerprint()}\n@revoked * {line_of(key)}", "host_key_revoked"),
    ],
    ids=["fingerprint", "known-hosts", "revoked", "fingerprint-revoked"],
)
async def test_another_key_is_not_believed_in_any_form(
    town: SftpTown, form: Callable[[asyncssh.SSHKey], str], flaw: str
) -> None:
    endpoint = with_settings(town.endpoint, host_key=form(town.host_key))
    outcomes = await SFTP.deliver(endpoint, [some_parcel()], LIMIT)
    assert outcomes == [Refused(f"sftp.{flaw}", About.ENDPOINT)]
    assert town.received() == []


# The library that computes them warns of them, too.
@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
async def test_weakened_algorithms_are_spoken_only_where_the_partner_s_settings_say_so(
    tmp_path: Path,
) -> None:
    (tmp_path / "inbox").mkdir()
    weak = {
        "kex_algs": ["diffie-hellman-group14-sha1"],
        "encryption_algs": ["aes256-cbc"],
        "mac_algs": ["hmac-sha1"],
    }
    async with sftp_town(tmp_path / "inbox", **weak) as town:
        modern, legacy = town.endpoint, with_settings(town.endpoint, algorithms="legacy")
        assert await SFTP.deliver(modern, [some_parcel()], LIMIT) == [
            Refused("sftp.no_common_algorithm", About.ENDPOINT)
        ]
        assert names(await SFTP.deliver(legacy, [some_parcel()], 5)) == ["Delivered"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"host_key": "ssh-ed25519 AAAA"}, "host_key"),
        ({"host_key": "other.example ssh-ed25519 " + line_of(fresh_key()).split()[1]}, "host_key"),
        ({"host_key": f"@cert-authority elsewhere.test {line_of(fresh_key())}"}, "host_key"),
        ({"jump_port": 22}, "jump_port"),
        ({"host_key": "SHA256:short"}, "host_key"),
        ({"algorithms": "weak"}, "algorithms"),
        ({"directory": "{nom}"}, "directory"),
        ({"directory": "a{"}, "directory"),
        ({"directory": "{date}"}, "make_directories"),
        ({"layout": "tar"}, "layout"),
        ({"layout": "service-public"}, "sender_siret"),
        ({"layout": "zip", "end_marker": "fin.txt"}, "end_marker"),
        ({"end_marker": "../fin"}, "end_marker"),
        ({"read_back": -1}, "read_back"),
        ({"return_kept": "lus"}, "return_kept"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_meant_are_told_by_their_field(
    town: SftpTown, settings: dict[str, object], field: str
) -> None:
    (flaw,) = SFTP.check(with_settings(town.endpoint, **settings))
    assert flaw.startswith(f"{field} ")


@pytest.mark.parametrize("username", ["ȡ", "אa"], ids=["unassigned", "of-both-directions"])
def test_an_account_that_ssh_has_no_way_to_say_is_refused_at_import(town: SftpTown, username: str) -> None:
    flaws = SFTP.check(with_settings(town.endpoint, username=username))
    assert flaws == ("username must be a name that SSH can say (RFC 4013)",)
