"""Mail through Debian's Postfix, as town halls have it: what arrives, what comes back and what that changes, and a
digest whose worker is killed when the server has said yes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from email.message import EmailMessage
from uuid import UUID

import pytest
import pytest_asyncio

from connectors.mail.delivering import MailConnector
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.bounces import PostgresBounces
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.domain.delivery import Delivered
from hub.domain.partner import Endpoint
from hub.domain.trials import StepState
from hub.entrypoints.lmtp import bounce_door
from hub.ports.connector import Connector
from hub.ports.lanes import Page
from hub.services.bounces import BounceRoom, ReturnAddresses
from hub.wire import read_status_report
from tests.conformance.motion import assert_sound, plant
from tests.conformance.samples import rows
from tests.connectors.partners import attachments, plain_of, some_file, some_parcel, surroundings
from tests.postfix import Postfix, postfix
from tests.services.mail_world import DAY, all_are, serving, states, until

LIMIT = 10.0
RETURNS = ReturnAddresses(LocalKeyring(bytes(range(32))), "retours.test")


@pytest.fixture(scope="module")
def server() -> Iterator[Postfix]:
    with postfix() as found:
        yield found


@pytest_asyncio.fixture
async def channel(server: Postfix) -> AsyncIterator[MailConnector]:
    server.empty()
    made = MailConnector(replace(surroundings(), returns=RETURNS.address, mailbox="https://hub.test/boite"))
    yield made
    await made.close()


def endpoint(server: Postfix, *names: str, **settings: object) -> Endpoint:
    return Endpoint(
        "mail",
        {
            "host": "127.0.0.1",
            "port": server.port,
            "ca": server.ca,
            "sender": "hub@hub.test",
            "recipients": [f"{name}@mairie.test" for name in names],
            **settings,
        },
    )


async def arrived(server: Postfix, number: int) -> list[EmailMessage[str, str]]:
    async def all_there() -> bool:
        return len(server.mails()) >= number

    await until(all_there)
    return server.mails()


# --- what arrives -------------------------------------------------------------------------------------


async def test_a_mail_arrives_encrypted_with_files_under_accented_names(
    server: Postfix, channel: Connector
) -> None:
    name = "Pièce d'identité – œuvre n° 1 " + "très " * 15 + "longue.pdf"
    every_byte = bytes(range(256)) * 400
    parcel = some_parcel(some_file(1, name, every_byte), some_file(2, "..\r\n.", b".\r\n..\r\n"))
    [outcome] = await channel.deliver(endpoint(server, "accueil", mode="attachments"), [parcel], LIMIT)
    assert isinstance(outcome, Delivered)
    assert outcome.answer is not None
    assert outcome.answer.startswith(b"250 2.0.0 Ok: queued as ")
    [mail] = await arrived(server, 1)
    assert attachments(mail)[name] == every_byte
    assert list(attachments(mail).values())[1] == b".\r\n..\r\n"
    assert "with ESMTPS" in mail["Received"]
    assert mail["Message-ID"] == f"<{parcel.attempt.delivery}@hub.test>"
    assert mail["Auto-Submitted"] == "auto-generated"


async def test_a_notification_says_the_reference_and_where_to_fetch_and_no_more(
    server: Postfix, channel: Connector
) -> None:
    parcel = some_parcel(some_file(1, "Camille Exemple.pdf", b"secret"))
    await channel.deliver(endpoint(server, "accueil"), [parcel], LIMIT)
    [mail] = await arrived(server, 1)
    assert attachments(mail) == {}
    text = plain_of(mail)
    assert "Référence : A-9-X3UGO4V7" in text
    assert "https://hub.test/boite" in text
    assert "Camille" not in mail.as_string()
    assert "/f/" not in text, "no link that opens without a token"


async def test_one_address_that_accepts_is_enough_and_each_has_a_return_address_of_its_own(
    server: Postfix, channel: Connector
) -> None:
    target = endpoint(server, "accueil", "refuse", "maire")
    [outcome] = await channel.deliver(target, [some_parcel()], LIMIT)
    assert isinstance(outcome, Delivered)
    assert outcome.refused == (2,)
    assert outcome.receipt.endswith(" to 1, 3 of 3")
    mails = await arrived(server, 2)
    senders = {str(mail["Return-Path"]).strip("<>") for mail in mails}
    assert len(senders) == 2
    found = {RETURNS.read(sender) for sender in senders}
    assert {one.place for one in found if one is not None} == {1, 3}


async def test_a_trial_asks_for_each_address_and_no_mail_arrives(
    server: Postfix, channel: MailConnector
) -> None:
    steps = await channel.try_out(endpoint(server, "accueil", "refuse"), LIMIT, False)
    told = [(one.name, one.state, one.cause) for one in steps]
    assert ("encryption", StepState.WELL, None) in told
    assert [one for one in told if one[0] == "address"] == [
        ("address", StepState.WELL, None),
        ("address", StepState.WRONG, "mail.mailbox_refused"),
    ]
    [outcome] = await channel.deliver(endpoint(server, "accueil"), [some_parcel()], LIMIT)
    assert isinstance(outcome, Delivered)
    assert len(await arrived(server, 1)) == 1, "of the trial there is none"


# --- what comes back ----------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def store(fresh_database: Callable[[], str]) -> AsyncIterator[Database]:
    database = await Database.open(fresh_database())
    yield database
    await database.close()


async def put(
    database: Database, server: Postfix, numbers: Sequence[int], *names: str, **more: object
) -> list[UUID]:
    target = endpoint(server, *names, **more)
    return await plant(database, numbers, channel="mail", settings=target.settings)


async def test_what_postfix_gives_back_from_every_address_is_parked(
    server: Postfix, channel: Connector, store: Database
) -> None:
    [name] = await put(store, server, [1], "gone", "lost")
    room = BounceRoom(PostgresBounces(store), RETURNS, read_status_report)
    async with (
        bounce_door(room, "127.0.0.1", server.returns),
        serving(channel, PostgresLanes(store)),
    ):
        await until(all_are(store, "parked"))
    [row] = await rows(store, "SELECT id, cause FROM delivery")
    assert tuple(row) == (name, "mail.bounced")
    noted = await rows(store, "SELECT place, address, status FROM bounce ORDER BY place")
    assert [tuple(one) for one in noted] == [
        (1, "gone@mairie.test", "5.1.1"),
        (2, "lost@mairie.test", "5.1.1"),
    ]
    await assert_sound(store)


async def test_what_reached_one_address_stays_delivered(
    server: Postfix, channel: Connector, store: Database
) -> None:
    await put(store, server, [1], "gone", "accueil")
    room = BounceRoom(PostgresBounces(store), RETURNS, read_status_report)
    async with (
        bounce_door(room, "127.0.0.1", server.returns),
        serving(channel, PostgresLanes(store)),
    ):

        async def noted() -> bool:
            return bool(await rows(store, "SELECT FROM bounce"))

        await until(noted)
    assert await states(store) == ["delivered"]


# --- digests ------------------------------------------------------------------------------------------


class Killed(PostgresLanes):
    """The process dies when it knows what came of the first page with news: nothing of it is written."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reached = asyncio.Event()

    async def conclude(self, worker: str, pages: Sequence[Page]) -> Sequence[UUID]:
        if any(page.conclusions for page in pages):
            self.reached.set()
            await asyncio.Event().wait()
        return await super().conclude(worker, pages)


async def test_a_digest_whose_worker_was_killed_after_the_server_s_yes_is_the_same_mail_again(
    server: Postfix, channel: Connector, store: Database
) -> None:
    daily = {"frequency": "daily"}
    await put(store, server, [1, 2], "accueil", **daily)
    # They came before the slot that has begun last; what comes now, after it.
    await rows(store, "UPDATE delivery SET due_at = due_at - interval '2 days'")
    dying = Killed(store)
    async with serving(channel, dying):
        await asyncio.wait_for(dying.reached.wait(), 20)
    await put(store, server, [3, 4], "accueil", **daily)

    async def rests() -> bool:
        return bool(await rows(store, "SELECT FROM lane WHERE rests_until > clock_timestamp()"))

    async with serving(channel, PostgresLanes(store), "berta"):
        await until(rests)
    assert await states(store) == ["delivered", "delivered", "planned", "planned"]
    first, second = await arrived(server, 2)
    assert first["Message-ID"] == second["Message-ID"]
    assert plain_of(first) == plain_of(second)
    assert [f"dossier-{number}" in plain_of(first) for number in (1, 2, 3, 4)] == [True, True, False, False]
    concluded = await rows(store, "SELECT DISTINCT written_by FROM journal WHERE outcome = 'delivered'")
    assert len(concluded) == 1, "in one transaction"
    await rows(store, "UPDATE lane SET due_at = clock_timestamp(), rests_until = NULL")
    async with serving(channel, PostgresLanes(store), "carla", ahead=DAY):
        await until(all_are(store, *["delivered"] * 4))
    *_, third = await arrived(server, 3)
    assert third["Message-ID"] != first["Message-ID"]
    assert [f"dossier-{number}" in plain_of(third) for number in (1, 2, 3, 4)] == [False, False, True, True]
    await assert_sound(store)
