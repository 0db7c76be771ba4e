"""Trials of endpoints: each step says what was found, a wrong one what it should be, and nothing stays behind. The SFTP
ones on OpenSSH's own server, where there is one."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from connectors import mail, mailbox, sftp, webhook
from demo.receivers.smtp import own_certificate
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.partner import Endpoint
from hub.domain.trials import Step, StepState
from hub.ports.connector import Connector, ConnectorFactory, Surroundings, Triable
from tests.certificates import authority
from tests.connectors.openssh import OpenSsh, missing, openssh
from tests.connectors.partners import (
    PASSWORD,
    SECRET,
    SftpTown,
    closed_port,
    mail_town,
    sftp_town,
    silent_port,
    surroundings,
    webhook_town,
    with_settings,
)

LIMIT = 5.0
NOW = 1_770_000_000.0
HARMLESS = re.compile(r"these words|" + re.escape(PASSWORD) + r"|whsec_[A-Za-z0-9]|BEGIN")


async def steps_of(
    factory: ConnectorFactory,
    endpoint: Endpoint,
    *,
    limit: float = LIMIT,
    send: bool = False,
    told: Surroundings | None = None,
) -> list[Step]:
    made: Connector = factory(told or surroundings(NOW))
    assert isinstance(made, Triable)
    assert made.check(endpoint) == ()
    try:
        found = list(await made.try_out(endpoint, limit, send))
    finally:
        await made.close()
    for step in found:
        assert step.fr != step.en
        assert not HARMLESS.search(step.fr + step.en)
    return found


def states(steps: Sequence[Step]) -> list[tuple[str, str]]:
    return [(step.name, step.state.value) for step in steps]


def wrong(steps: Sequence[Step]) -> list[tuple[str, str | None]]:
    return [(step.name, step.cause) for step in steps if step.state is StepState.WRONG]


# --- SFTP ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with openssh(tmp_path_factory.mktemp("openssh")) as found:
        yield found


@pytest_asyncio.fixture
async def town(tmp_path: Path) -> AsyncIterator[SftpTown]:
    root = tmp_path / "inbox"
    root.mkdir()
    async with sftp_town(root) as town:
        yield town


async def test_all_is_well_with_openssh_and_nothing_stays_there(server: OpenSsh) -> None:
    folder, endpoint = server.fresh("well")
    told = {**endpoint.settings, "return_directory": endpoint.settings["directory"]}
    steps = await steps_of(sftp.connector, replace(endpoint, settings=told))
    assert states(steps) == [
        (name, "well") for name in ("connection", "host_key", "login", "folder", "rights", "space", "returns")
    ]
    assert list(folder.iterdir()) == []
    key = asyncssh.import_public_key(str(endpoint.settings["host_key"])).get_fingerprint()
    assert key in steps[1].fr


async def test_what_a_trial_that_was_killed_left_is_taken_away_and_not_what_one_under_way_has(
    server: OpenSsh,
) -> None:
    folder, endpoint = server.fresh("killed")
    for name in ("0123456789abcdef", "0123456789abcdef-2", "fedcba9876543210"):
        (folder / f".aiguillage-essai-{name}").mkdir()
        (folder / f".aiguillage-essai-{name}" / "essai").write_text("essai")
    (folder / ".somebody").mkdir()
    for found in folder.iterdir():
        if "fedcba" not in found.name:
            os.utime(found, (NOW, NOW))
    assert wrong(await steps_of(sftp.connector, endpoint)) == []
    assert {found.name for found in folder.iterdir()} == {".aiguillage-essai-fedcba9876543210", ".somebody"}


async def test_a_folder_however_long_is_no_fault(town: SftpTown, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(server: asyncssh.SFTPServer, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        while True:
            yield asyncssh.SFTPName(b"one of many", attrs=asyncssh.SFTPAttrs(mtime=1))

    monkeypatch.setattr(asyncssh.SFTPServer, "scandir", endless)
    assert wrong(await steps_of(sftp.connector, town.endpoint)) == []
    assert list(town.root.iterdir()) == []


async def test_where_acknowledgements_are_kept_must_be_a_folder(server: OpenSsh) -> None:
    folder, endpoint = server.fresh("returns")
    (folder / "read").mkdir()
    (folder / "file").write_text("")
    for name, told in (("read", []), ("file", ["kept"]), ("nowhere", ["kept"])):
        where = str(endpoint.settings["directory"])
        changed = with_settings(endpoint, return_directory=where, return_kept=f"{where}/{name}")
        steps = await steps_of(sftp.connector, changed)
        assert wrong(steps) == [(one, "sftp.directory_missing") for one in told]
        assert states(steps)[-1] == ("kept", "wrong" if told else "well")


async def test_another_host_key_is_told_by_both_fingerprints(server: OpenSsh) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    found = asyncssh.import_public_key(str(server.endpoint.settings["host_key"])).get_fingerprint()
    expected = asyncssh.import_public_key(other).get_fingerprint()
    endpoint = replace(server.endpoint, settings={**server.endpoint.settings, "host_key": other})
    steps = await steps_of(sftp.connector, endpoint)
    assert wrong(steps) == [("host_key", "sftp.host_key_changed")]
    assert found in steps[-1].fr
    assert expected in steps[-1].en
    # A server that has no key of that kind at all is told by what it has.
    ecdsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode().strip()
    endpoint = replace(server.endpoint, settings={**server.endpoint.settings, "host_key": ecdsa})
    steps = await steps_of(sftp.connector, endpoint)
    assert wrong(steps) == [("host_key", "sftp.host_key_changed")]
    assert found in steps[-1].fr
    endpoint = replace(server.endpoint, settings={**server.endpoint.settings, "host_key": found})
    assert ("host_key", "well") in states(await steps_of(sftp.connector, endpoint))


async def test_a_login_that_is_refused_and_a_folder_that_is_not_there_are_told(server: OpenSsh) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    steps = await steps_of(sftp.connector, replace(server.endpoint, secrets={"private_key": stranger}))
    assert wrong(steps) == [("login", "sftp.permission_denied")]
    steps = await steps_of(sftp.connector, server.at("nowhere"))
    assert wrong(steps) == [("folder", "sftp.directory_missing")]
    steps = await steps_of(sftp.connector, server.at("nowhere/{date}", make_directories=True))
    assert (wrong(steps), states(steps)[-1]) == ([], ("folder", "noted"))


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (asyncssh.SFTPPermissionDenied("these words"), "sftp.write_denied"),
        (asyncssh.SFTPFailure("these words"), "sftp.failure"),
    ],
    ids=["denied", "unexplained"],
)
async def test_a_right_that_is_missing_is_named_and_what_was_begun_is_taken_away(
    town: SftpTown, fault: asyncssh.SFTPError, cause: str
) -> None:
    town.fault = fault
    steps = await steps_of(sftp.connector, town.endpoint)
    assert wrong(steps) == [("rights", cause)]
    assert "écrire un fichier" in next(step.fr for step in steps if step.name == "rights")
    assert list(town.root.iterdir()) == []
    assert "left" not in dict(states(steps))


async def test_little_room_is_wrong_and_a_cut_connection_is_told(town: SftpTown) -> None:
    town.room, town.fault = 0, asyncssh.SFTPFailure("these words")
    steps = await steps_of(sftp.connector, town.endpoint)
    assert wrong(steps) == [("rights", "sftp.failure"), ("space", "sftp.no_space")]
    town.room, town.fault = 2_000_000, None
    steps = await steps_of(sftp.connector, town.endpoint)
    assert wrong(steps) == [("space", "sftp.no_space")]
    assert list(town.root.iterdir()) == []
    town.break_off()
    steps = await steps_of(sftp.connector, town.endpoint)
    assert wrong(steps)[0] == ("rights", "sftp.disconnected")
    # It could not be taken away.
    [left] = town.root.iterdir()
    assert [step.state for step in steps if left.name in step.fr] == [StepState.NOTED]


async def begun(town: SftpTown) -> asyncio.Task[list[Step]]:
    """A trial that waits for its file to be written; the server answers one after the other."""
    town.pause = 0.2
    trial = asyncio.create_task(steps_of(sftp.connector, town.endpoint, limit=60))
    while not town.written:
        await asyncio.sleep(0.01)
    return trial


@pytest.mark.parametrize("times", [1, 2])
async def test_a_trial_that_is_told_to_end_takes_away_what_it_made(town: SftpTown, times: int) -> None:
    trial = await begun(town)
    [made] = town.hidden()
    assert made.startswith(".aiguillage-essai-")
    for _ in range(times):
        trial.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([trial])
    assert trial.cancelled()
    while town.guests:
        await asyncio.sleep(0.01)
    assert town.hidden() == []


@pytest.mark.parametrize("stays", [False, True])
async def test_a_trial_that_takes_too_long_tells_what_it_found_and_what_it_leaves(
    town: SftpTown, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    whole = asyncio.timeout(None)
    monkeypatch.setattr("connectors.trials.steps.whole_time", lambda _: whole)
    trial = await begun(town)
    [made] = town.root.iterdir()
    if stays:
        (made / "somebody's").write_text("")
    whole.reschedule(0)
    steps = await trial
    well = [(name, "well") for name in ("connection", "host_key", "login", "folder")]
    assert states(steps) == [*well, *([("left", "noted")] if stays else []), ("trial", "wrong")]
    assert town.hidden() == ([made.name] if stays else [])
    assert [step.name for step in steps if made.name in step.en] == (["left"] if stays else [])


@pytest.mark.parametrize("channel", ["sftp", "mail", "webhook"])
async def test_every_trial_ends_by_itself(
    channel: str, town: SftpTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.trials.steps.whole_time", lambda _: asyncio.timeout(0))
    async with mail_town() as post, webhook_town() as hook:
        endpoint = {"sftp": town.endpoint, "mail": post.endpoint, "webhook": hook.endpoint}[channel]
        factory = {"sftp": sftp.connector, "mail": mail.connector, "webhook": webhook.connector}[channel]
        assert states(await steps_of(factory, endpoint, send=True))[-1] == ("trial", "wrong")


async def test_a_server_that_is_away_or_silent_is_told_within_the_limit(town: SftpTown) -> None:
    with closed_port() as closed, silent_port() as silent:
        steps = await steps_of(sftp.connector, town.at(closed))
        assert wrong(steps) == [("connection", "sftp.connection_refused")]
        steps = await steps_of(sftp.connector, town.at(silent), limit=0.3)
        assert wrong(steps) == [("host_key", "sftp.timeout")]
    endpoint = replace(town.endpoint, settings={**town.endpoint.settings, "host": "no-such-name.invalid"})
    assert wrong(await steps_of(sftp.connector, endpoint)) == [("name", "sftp.host_unknown")]


@pytest.mark.parametrize("channel", ["sftp", "mail", "webhook"])
async def test_an_address_that_is_not_allowed_is_not_connected_to(channel: str, town: SftpTown) -> None:
    async with mail_town() as post, webhook_town() as hook:
        endpoint = {"sftp": town.endpoint, "mail": post.endpoint, "webhook": hook.endpoint}[channel]
        factory = {"sftp": sftp.connector, "mail": mail.connector, "webhook": webhook.connector}[channel]
        steps = await steps_of(
            factory, endpoint, send=True, told=replace(surroundings(), outgoing=GuardedOutgoing())
        )
        assert wrong(steps) == [("address", f"{channel}.address_forbidden")]
        assert (town.connections, post.conversations, hook.requests) == (0, [], [])


# --- mail ---------------------------------------------------------------------------------------------


async def test_each_address_is_asked_for_and_no_mail_is_sent() -> None:
    context, ca = own_certificate()
    async with mail_town("starttls", context, ca, password=PASSWORD) as town:
        told = {**town.endpoint.settings, "recipients": ["a@mairie.test", "b@mairie.test", "c@mairie.test"]}
        town.refusals = {"b@mairie.test": "550 these words", "c@mairie.test": "450 these words"}
        endpoint = Endpoint("mail", told, {"username": "hub", "password": PASSWORD})
        steps = await steps_of(mail.connector, endpoint)
        assert town.mails == []
    assert states(steps) == [
        ("connection", "well"),
        ("encryption", "well"),
        ("login", "well"),
        ("address", "well"),
        ("address", "wrong"),
        ("address", "wrong"),
        ("sending", "noted"),
    ]
    assert wrong(steps) == [("address", "mail.mailbox_refused"), ("address", "mail.mailbox_busy")]
    assert re.search("empreinte SHA-256 [0-9a-f]{64}", steps[1].fr)


async def test_a_certificate_a_login_and_missing_encryption_are_told() -> None:
    context, ca = own_certificate()
    _, other = own_certificate()
    async with mail_town("starttls", context, ca, password=PASSWORD) as town:
        endpoint = replace(town.endpoint, settings={**town.endpoint.settings, "ca": other})
        assert wrong(await steps_of(mail.connector, endpoint)) == [("encryption", "mail.certificate_invalid")]
        endpoint = replace(town.endpoint, secrets={"username": "hub", "password": "wrong"})
        assert wrong(await steps_of(mail.connector, endpoint)) == [("login", "mail.login_refused")]
    async with mail_town() as town:
        endpoint = replace(town.endpoint, settings={**town.endpoint.settings, "tls": "starttls"})
        assert wrong(await steps_of(mail.connector, endpoint)) == [
            ("encryption", "mail.tls_or_login_missing")
        ]
        steps = await steps_of(mail.connector, town.endpoint)
        assert (wrong(steps), dict(states(steps))["encryption"]) == ([], "noted")


# --- webhook ------------------------------------------------------------------------------------------


async def test_a_webhook_is_sent_a_signed_ping_only_when_that_is_wanted() -> None:
    async with webhook_town() as town:
        steps = await steps_of(webhook.connector, town.endpoint)
        assert (states(steps)[-1], town.requests) == (("sending", "noted"), [])
        steps = await steps_of(webhook.connector, town.endpoint, send=True)
        assert (wrong(steps), states(steps)[-1]) == ([], ("ping", "well"))
        [taken] = town.requests
    headers = {name.lower(): value for name, value in taken.headers.items()}
    assert headers["webhook-id"].startswith("ping-")
    assert sign(headers, taken.body) == headers["webhook-signature"]
    assert b'"type":"ping"' in taken.body


def sign(headers: dict[str, str], body: bytes) -> str:
    """By the independent library; its own check refuses what was signed long ago."""
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    return Webhook(SECRET).sign(headers["webhook-id"], at, body.decode())


async def test_what_a_webhook_answers_to_a_ping_is_a_cause_and_no_word_of_its() -> None:
    async with webhook_town() as town:
        town.answers = [
            web.Response(status=401, text="these words"),
            web.Response(status=500, text="these words"),
        ]
        assert wrong(await steps_of(webhook.connector, town.endpoint, send=True)) == [
            ("ping", "webhook.http_401")
        ]
        assert wrong(await steps_of(webhook.connector, town.endpoint, send=True)) == [
            ("ping", "webhook.http_500")
        ]
        town.break_off()
        assert wrong(await steps_of(webhook.connector, town.endpoint, send=True)) == [
            ("ping", "webhook.disconnected")
        ]


async def test_a_webhook_s_certificate_is_looked_at(tmp_path: Path) -> None:
    signing = authority(tmp_path / "ca")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*signing.sign("town"))
    ca = signing.file.read_text()
    async with webhook_town(context) as town:
        assert wrong(await steps_of(webhook.connector, town.endpoint)) == [
            ("encryption", "webhook.certificate_invalid")
        ]
        endpoint = replace(town.endpoint, settings={**town.endpoint.settings, "ca": ca})
        steps = await steps_of(webhook.connector, endpoint, send=True)
        told = dict(states(steps))
        # It is good for a day.
        assert (wrong(steps), told["encryption"], told["certificate"], told["ping"]) == (
            [],
            "well",
            "noted",
            "well",
        )


async def test_a_token_server_that_is_away_ends_the_trial() -> None:
    async with webhook_town() as town:
        with closed_port() as closed:
            told = {"token_url": f"http://127.0.0.1:{closed}/token", "client_id": "hub"}
            endpoint = replace(
                town.endpoint,
                settings={**town.endpoint.settings, **told},
                secrets={**town.endpoint.secrets, "client_secret": PASSWORD},
            )
            steps = await steps_of(webhook.connector, endpoint, send=True)
        assert wrong(steps) == [("token", "webhook.token_connection_refused")]
        assert town.requests == []


async def test_a_mailbox_has_nothing_to_try() -> None:
    assert states(await steps_of(mailbox.connector, Endpoint("mailbox", {}))) == [("mailbox", "noted")]
