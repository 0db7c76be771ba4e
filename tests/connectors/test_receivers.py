"""The demo's receivers: real servers in processes of their own, reached by the real connectors."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
from aiohttp import web

from connectors import mail, sftp, webhook
from demo.receivers.process import Receiver
from demo.receivers.stage import Counts
from hub.domain.delivery import Delivered
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector, Parcel, Surroundings
from tests.connectors.partners import SECRET, names, outgoing, some_parcel, surroundings, tried_again

LIMIT = 1.0
GOOD, AWAY, SILENT, ILL = "21640122200017-64122", "away-1", "silent-1", "ill-1"


def arrivals(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "arrivals.jsonl").read_text().splitlines()]


async def causes(connector: Connector, endpoints: Mapping[str, Endpoint], parcel: Parcel) -> dict[str, str]:
    pages = await asyncio.gather(
        *(connector.deliver(endpoint, [parcel], LIMIT) for endpoint in endpoints.values())
    )
    return {
        partner: "delivered" if isinstance(outcome, Delivered) else outcome.cause
        for partner, (outcome,) in zip(endpoints, pages, strict=True)
    }


async def test_the_sftp_receiver_keeps_what_comes_misbehaves_and_heals(tmp_path: Path) -> None:
    login = asyncssh.generate_private_key("ssh-ed25519")
    keys = tmp_path / "authorized_keys"
    keys.write_bytes(login.export_public_key())
    folder = tmp_path / "sftp"
    ill = {AWAY: "refuse", SILENT: "hang"}
    connector, parcel = sftp.connector(surroundings()), some_parcel()
    async with await Receiver.start(
        "sftp", folder, "--authorized-keys", str(keys), misbehaving=ill
    ) as receiver:
        endpoints = {
            partner: Endpoint(
                "sftp",
                {
                    "host": "127.0.0.1",
                    "port": receiver.port(partner),
                    "username": partner,
                    "host_key": receiver.ready["host_key"],
                },
                {"private_key": login.export_private_key().decode()},
            )
            for partner in (GOOD, AWAY, SILENT)
        }
        assert await causes(connector, endpoints, parcel) == {
            GOOD: "delivered",
            AWAY: "sftp.connection_refused",
            SILENT: "sftp.timeout",
        }
        await receiver.heal()
        assert set((await causes(connector, endpoints, tried_again(parcel))).values()) == {"delivered"}
        assert await receiver.status() == Counts(arrived=3)
    came = arrivals(folder)
    assert {line["partner"] for line in came} == {GOOD, AWAY, SILENT}
    assert {line["delivery"] for line in came} == {str(parcel.attempt.delivery)}
    assert {file["sha256"] for file in came[0]["files"]} == {file.sha256 for file in parcel.files}
    assert (folder / came[0]["place"] / "submission.json").is_file()


async def test_the_mail_receiver_keeps_what_comes_misbehaves_and_heals(tmp_path: Path) -> None:
    folder = tmp_path / "smtp"
    ill = {AWAY: "refuse", SILENT: "hang", ILL: "mailbox_refused"}
    connector, parcel = mail.connector(surroundings()), some_parcel()
    async with await Receiver.start("smtp", folder, "--starttls", misbehaving=ill) as receiver:
        endpoints = {
            partner: Endpoint(
                "mail",
                {
                    "host": "127.0.0.1",
                    "port": receiver.port(partner),
                    "ca": receiver.ready["ca"],
                    "sender": "hub@demo.test",
                    "recipients": [f"{partner}@mairies.test"],
                    "mode": "attachments",
                },
            )
            for partner in (GOOD, AWAY, SILENT, ILL)
        }
        assert await causes(connector, endpoints, parcel) == {
            GOOD: "delivered",
            AWAY: "mail.connection_refused",
            SILENT: "mail.timeout",
            ILL: "mail.mailbox_refused",
        }
        await receiver.heal()
        assert set((await causes(connector, endpoints, tried_again(parcel))).values()) == {"delivered"}
        assert await receiver.status() == Counts(arrived=4, repeated=1)
    (first, *_) = arrivals(folder)
    assert first["partner"] == GOOD
    assert first["delivery"] == str(parcel.attempt.delivery)
    assert [file["sha256"] for file in first["files"]] == [file.sha256 for file in parcel.files]
    assert (folder / first["place"]).suffix == ".eml"


@asynccontextmanager
async def served_files(parcel: Parcel) -> AsyncIterator[Surroundings]:
    """The hub's side: signed links that lead somewhere; the first fetch of each finds the hub busy."""
    busy: set[str] = set()

    async def give(request: web.Request) -> web.Response:
        if request.path not in busy:
            busy.add(request.path)
            return web.Response(status=503)
        file = parcel.files[int(request.match_info["number"])]
        return web.Response(body=b"".join([chunk async for chunk in file.open(0, None)]))

    application = web.Application()
    application.router.add_get("/f/{number}", give)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield Surroundings(lambda parcel, number: f"http://127.0.0.1:{port}/f/{number}", time.time, outgoing())
    await runner.cleanup()


async def all_fetched(receiver: Receiver) -> None:
    for _ in range(200):
        if not (await receiver.status()).pending:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the files were not fetched")


async def test_the_http_receiver_fetches_what_is_announced_misbehaves_and_heals(tmp_path: Path) -> None:
    folder, parcel = tmp_path / "http", some_parcel()
    ill = {AWAY: "refuse", SILENT: "hang", ILL: "http_503"}
    partners = (GOOD, AWAY, SILENT, ILL)
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps(dict.fromkeys(partners, SECRET)))
    async with (
        served_files(parcel) as around,
        await Receiver.start("http", folder, "--secrets", str(secrets), misbehaving=ill) as receiver,
    ):
        connector = webhook.connector(around)
        endpoints = {
            partner: Endpoint(
                "webhook",
                {"url": f"http://127.0.0.1:{receiver.port(partner)}/hooks/{partner}"},
                {"secret": SECRET},
            )
            for partner in partners
        }
        assert await causes(connector, endpoints, parcel) == {
            GOOD: "delivered",
            AWAY: "webhook.connection_refused",
            SILENT: "webhook.timeout",
            ILL: "webhook.http_503",
        }
        await receiver.heal()
        assert set((await causes(connector, endpoints, tried_again(parcel))).values()) == {"delivered"}
        await all_fetched(receiver)
        assert await receiver.status() == Counts(arrived=4, repeated=1)
        stranger = Endpoint("webhook", dict(endpoints[GOOD].settings), {"secret": "whsec_" + "A" * 32})
        assert (await causes(connector, {GOOD: stranger}, parcel))[GOOD] == "webhook.http_401"
        await connector.close()
    for line in arrivals(folder):
        if not line["repeated"]:
            assert [file["sha256"] for file in line["files"]] == [file.sha256 for file in parcel.files]
            for file in parcel.files:
                kept = (folder / line["place"] / str(file.number)).read_bytes()
                assert kept == b"".join([chunk async for chunk in file.open(0, None)])


async def test_a_receiver_outlives_nobody(tmp_path: Path) -> None:
    receiver = await Receiver.start("smtp", tmp_path / "smtp")
    assert receiver.process.stdin is not None
    receiver.process.stdin.close()
    async with asyncio.timeout(5):
        assert await receiver.process.wait() == 0


async def test_one_address_is_one_partner_among_many(tmp_path: Path) -> None:
    async with await Receiver.start("smtp", tmp_path / "smtp") as receiver:
        settings: dict[str, object] = {
            "host": "127.0.0.1",
            "port": receiver.ready["port"],
            "tls": "none",
            "sender": "hub@demo.test",
            "recipients": ["mairie-1@mairies.test", "mairie-2@mairies.test", "no_such!@mairies.test"],
        }
        connector = mail.connector(surroundings())
        assert names(await connector.deliver(Endpoint("mail", settings), [some_parcel()], LIMIT)) == [
            "Delivered"
        ]
        assert (await receiver.status()).arrived == 2
    assert (tmp_path / "smtp" / "mairie-2@mairies.test").is_dir()
