"""The mail connector: what a town hall reads, and what each answer of a mail server means."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiosmtplib
import pytest
import pytest_asyncio

from connectors.mail import connector, judge
from connectors.mail.letter import attached
from demo.receivers.smtp import own_certificate
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.domain.identity import ParcelKind
from hub.ports.connector import Connector
from tests.connectors.partners import (
    MailTown,
    attachments,
    mail_town,
    names,
    plain_of,
    some_file,
    some_parcel,
    surroundings,
    tried_again,
    with_settings,
)

LIMIT = 1.5
MAIL: Connector = connector(surroundings())
"""For what needs no server."""


@pytest_asyncio.fixture
async def channel() -> AsyncIterator[Connector]:
    made = connector(surroundings())
    yield made
    await made.close()


def recipients_refused(*codes: int) -> aiosmtplib.SMTPRecipientsRefused:
    return aiosmtplib.SMTPRecipientsRefused(
        [aiosmtplib.SMTPRecipientRefused(code, "words", "a@b.test") for code in codes]
    )


def not_connected(cause: OSError | None) -> aiosmtplib.SMTPConnectError:
    fault = aiosmtplib.SMTPConnectError("words")
    fault.__cause__ = cause
    return fault


# --- what answers mean --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (recipients_refused(550, 551), Refused("mail.mailbox_refused", About.ENDPOINT)),
        (recipients_refused(550, 450), Deferred("mail.mailbox_busy")),
        (recipients_refused(421), Deferred("mail.mailbox_busy")),
        (aiosmtplib.SMTPDataError(554, "words"), Refused("mail.content_refused", About.PARCEL)),
        (aiosmtplib.SMTPDataError(552, "words"), Refused("mail.too_large", About.PARCEL)),
        (aiosmtplib.SMTPDataError(451, "words"), Deferred("mail.content_deferred", About.PARCEL)),
        (aiosmtplib.SMTPDataError(421, "words"), Deferred("mail.server_busy")),
        (aiosmtplib.SMTPSenderRefused(552, "words", "a"), Refused("mail.too_large", About.PARCEL)),
        (aiosmtplib.SMTPSenderRefused(550, "words", "a"), Refused("mail.sender_refused", About.ENDPOINT)),
        (aiosmtplib.SMTPSenderRefused(451, "words", "a"), Deferred("mail.sender_deferred")),
        (aiosmtplib.SMTPAuthenticationError(535, "words"), Refused("mail.login_refused", About.ENDPOINT)),
        (aiosmtplib.SMTPAuthenticationError(454, "words"), Deferred("mail.login_deferred")),
        (aiosmtplib.SMTPConnectResponseError(554, "words"), Deferred("mail.server_busy")),
        (aiosmtplib.SMTPHeloError(500, "words"), Deferred("mail.server_busy")),
        (aiosmtplib.SMTPException("words"), Refused("mail.tls_or_login_missing", About.ENDPOINT)),
        (aiosmtplib.SMTPServerDisconnected("words"), Deferred("mail.disconnected")),
        (aiosmtplib.SMTPReadTimeoutError("words"), Deferred("mail.timeout")),
        (aiosmtplib.SMTPConnectTimeoutError("words"), Deferred("mail.timeout")),
        (TimeoutError(), Deferred("mail.timeout")),
        (not_connected(None), Deferred("mail.disconnected")),
        (not_connected(ConnectionRefusedError()), Deferred("mail.connection_refused")),
        (not_connected(socket.gaierror()), Deferred("mail.host_unknown")),
        (not_connected(ssl.SSLCertVerificationError()), Deferred("mail.certificate_invalid")),
        (not_connected(OSError(113, "x")), Deferred("mail.unreachable")),
        (not_connected(OSError(24, "x")), Deferred("hub.exhausted", About.PARCEL)),
        (ssl.SSLError(), Deferred("mail.tls_failed")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_answer_has_one_meaning(fault: Exception, expected: Deferred | Refused) -> None:
    assert judge(fault) == expected


# --- what the town hall reads -------------------------------------------------------------------------


async def test_a_mail_names_its_delivery_and_asks_for_no_answer(channel: Connector) -> None:
    parcel = some_parcel(sequence=42)
    async with mail_town() as town:
        outcomes = await channel.deliver(town.endpoint, [parcel], LIMIT)
        (mail,) = town.read()
    delivery = str(parcel.attempt.delivery)
    assert outcomes == [Delivered(f"<{delivery}@hub.test> to 1 of 1")]
    assert mail["Message-ID"] == f"<{delivery}@hub.test>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Aiguillage-Delivery"] == delivery
    assert mail["X-Aiguillage-Sequence"] == "42"
    assert mail["From"] == "ne-pas-repondre@hub.test"
    assert mail["To"] == "accueil@mairie.test"


async def test_the_subject_says_reference_and_procedure_and_no_more(channel: Connector) -> None:
    async with mail_town() as town:
        await channel.deliver(town.endpoint, [some_parcel()], LIMIT)
        (mail,) = town.read()
    assert mail["Subject"] == "Télédossier A-9-X3UGO4V7 – Demande d'acte d'état civil"


async def test_the_text_is_french_and_gives_the_references(channel: Connector) -> None:
    async with mail_town() as town:
        await channel.deliver(town.endpoint, [some_parcel(sequence=42)], LIMIT)
        (mail,) = town.read()
    text = plain_of(mail)
    assert "Un télédossier vous est transmis." in text
    assert "Référence : A-9-X3UGO4V7" in text
    assert "Reçu le : 03/04/2026 à 16:26 (heure de Paris)" in text
    assert "Numéro d'ordre : 42" in text


async def test_two_attempts_of_a_delivery_are_one_mail_but_for_mime_boundaries(channel: Connector) -> None:
    parcel = some_parcel()
    async with mail_town() as town:
        await channel.deliver(town.endpoint, [parcel], LIMIT)
        await channel.deliver(town.endpoint, [tried_again(parcel)], LIMIT)
        first, second = town.read()
    assert attachments(first) == attachments(second)
    assert [(key, value) for key, value in first.items() if key != "Content-Type"] == [
        (key, value) for key, value in second.items() if key != "Content-Type"
    ]


async def test_accented_names_are_written_so_that_every_mail_program_reads_them(channel: Connector) -> None:
    name = "Pièce d'identité – œuvre n° 1 " + "très " * 15 + "longue.pdf"
    async with mail_town() as town:
        await channel.deliver(town.endpoint, [some_parcel(some_file(1, name, b"x"))], LIMIT)
        (raw,) = town.mails
        (mail,) = town.read()
    assert list(attachments(mail)) == [name]
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


async def test_no_value_of_a_sender_can_add_a_header(channel: Connector) -> None:
    evil = "x\r\nBcc: autre@mairie.test\r\nX-Evil: 1\u2028\x85\x0b\x00\u202e\ud800\r\n\r\ncorps"
    parcel = replace(
        some_parcel(replace(some_file(1, evil, b"x"), media_type="text/plain\r\nX-Evil: 1", type=evil)),
        external_id=evil,
        procedure=evil,
        procedure_title=evil,
        sender=evil,
    )
    async with mail_town() as town:
        assert names(await channel.deliver(town.endpoint, [parcel], LIMIT)) == ["Delivered"]
        (mail,) = town.read()
    for part in mail.walk():
        assert part["Bcc"] is None
        assert part["X-Evil"] is None
    assert mail["Subject"].isprintable()
    assert attachments(mail).keys() == {"1-x_Bcc_autre_mairie.test_X-Evil_1_corps"}


@pytest.mark.parametrize(
    "word",
    [
        "=?us-ascii?q?)=0D=0A=0D=0AVotre_mot_de_passe:_http://evil.test?=",
        "=?utf-8?q?=0D=0ABcc:_a@b.test?=",
        "=?utf-8?q?=ff?=",
        "=?utf-8?b?DQpCY2M6IGFAYi50ZXN0?=",
    ],
)
async def test_an_encoded_word_in_a_reference_stays_what_it_is(channel: Connector, word: str) -> None:
    async with mail_town() as town:
        parcels = [some_parcel(), replace(some_parcel(), external_id=word)]
        assert names(await channel.deliver(town.endpoint, parcels, LIMIT)) == ["Delivered", "Delivered"]
        plain, mail = town.read()
    assert sorted(mail.keys()) == sorted(plain.keys())
    assert [len(mail.get_all(name, [])) for name in mail] == [1] * len(mail)
    assert attachments(mail) == attachments(plain)


async def test_a_fault_of_ours_with_one_parcel_leaves_its_neighbours_news_as_it_is(
    channel: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = some_parcel()

    def composed(parcel: Any, *more: Any) -> bytes:
        if parcel is poisoned:
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "nobody thought of this")
        return attached(parcel, *more)

    monkeypatch.setattr("connectors.mail.delivering.attached", composed)
    async with mail_town() as town:
        outcomes = await channel.deliver(town.endpoint, [some_parcel(), poisoned, some_parcel()], LIMIT)
        assert len(town.read()) == 2
    assert outcomes[1] == Deferred("hub.fault", About.PARCEL)
    assert names([outcomes[0], outcomes[2]]) == ["Delivered", "Delivered"]


async def test_links_stand_in_for_files_when_a_partner_prefers_them(channel: Connector) -> None:
    parcel = some_parcel()
    async with mail_town() as town:
        await channel.deliver(with_settings(town.endpoint, mode="links"), [parcel], LIMIT)
        (mail,) = town.read()
    text = plain_of(mail)
    assert attachments(mail) == {}
    assert f"https://hub.test/f/{parcel.attempt.delivery}/1?s=x" in text
    assert "état civil (1).xml" not in text


async def test_links_stand_in_for_files_that_are_too_large_together(channel: Connector) -> None:
    parcel = some_parcel(some_file(1, "a.bin", bytes(600)), some_file(2, "b.bin", bytes(600)))
    async with mail_town() as town:
        await channel.deliver(with_settings(town.endpoint, max_size=1200), [parcel], LIMIT)
        await channel.deliver(with_settings(town.endpoint, max_size=1199), [parcel], LIMIT)
        whole, linked = town.read()
    assert len(attachments(whole)) == 2
    assert attachments(linked) == {}


async def test_links_stand_in_for_files_that_the_server_would_not_take(channel: Connector) -> None:
    parcel = some_parcel(some_file(1, "a.bin", bytes(100_000)))
    async with mail_town(largest=100_000) as town:
        assert names(await channel.deliver(town.endpoint, [parcel], LIMIT)) == ["Delivered"]
        (mail,) = town.read()
    assert attachments(mail) == {}


# --- the conversation ---------------------------------------------------------------------------------


async def test_a_page_of_parcels_takes_one_connection_even_when_one_is_refused(channel: Connector) -> None:
    parcels = [some_parcel() for _ in range(10)]
    async with mail_town() as town:
        town.spoil(parcels[3].attempt.delivery)
        outcomes = await channel.deliver(town.endpoint, parcels, LIMIT)
        assert len(town.conversations) == 1
    assert outcomes[3] == Refused("mail.content_refused", About.PARCEL)
    assert names(outcomes).count("Delivered") == 9


@pytest.mark.parametrize(
    ("refusals", "expected"),
    [
        ({"a@m.test": "550 no", "b@m.test": "550 no"}, Refused("mail.mailbox_refused", About.ENDPOINT)),
        ({"a@m.test": "550 no", "b@m.test": "450 later"}, Deferred("mail.mailbox_busy")),
        ({"a@m.test": "550 no"}, None),
    ],
    ids=["all for good", "one for now", "one accepts"],
)
async def test_one_recipient_who_accepts_is_enough(
    channel: Connector, refusals: dict[str, str], expected: Deferred | Refused | None
) -> None:
    async with mail_town() as town:
        town.refusals = refusals
        endpoint = with_settings(town.endpoint, recipients=["a@m.test", "b@m.test"])
        (outcome,) = await channel.deliver(endpoint, [some_parcel()], LIMIT)
    if expected is None:
        assert isinstance(outcome, Delivered)
    else:
        assert outcome == expected


async def test_silence_after_the_content_is_never_taken_for_a_yes(channel: Connector) -> None:
    async with mail_town() as town:
        town.mute = True
        began = time.monotonic()
        outcomes = await channel.deliver(town.endpoint, [some_parcel() for _ in range(5)], LIMIT)
        took = time.monotonic() - began
    assert set(outcomes) == {Deferred("mail.timeout")}
    assert took < LIMIT + 1


async def test_a_slow_server_that_goes_on_reading_is_waited_for(channel: Connector) -> None:
    """It reads for longer than the limit in all, and is never silent for so long."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        while line := await reader.readline():
            if line.startswith(b"DATA"):
                writer.write(b"354 x\r\n")
                while not line.endswith(b"\r\n.\r\n"):
                    line = line[-5:] + await reader.read(60_000)
                    await asyncio.sleep(0.05)
            writer.write(b"250 x\r\n")
        writer.close()

    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        door.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(converse, sock=door)
        town = MailTown(door.getsockname()[1])
        parcel = some_parcel(some_file(1, "a.bin", bytes(2_500_000)))
        began = time.monotonic()
        outcomes = await channel.deliver(town.endpoint, [parcel], 0.8)
        took = time.monotonic() - began
        server.close()
    assert names(outcomes) == ["Delivered"]
    assert took > 0.8


# --- who it speaks to ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_certificate_that_is_trusted_opens_an_encrypted_conversation(
    channel: Connector, tls: str
) -> None:
    context, ca = own_certificate()
    async with mail_town(tls, context, ca) as town:
        outcomes = await channel.deliver(town.endpoint, [some_parcel()], LIMIT)
    assert names(outcomes) == ["Delivered"]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_gets_nothing(channel: Connector, tls: str) -> None:
    context, _ = own_certificate()
    _, other = own_certificate()
    async with mail_town(tls, context, other) as town:
        outcomes = await channel.deliver(town.endpoint, [some_parcel()], LIMIT)
        assert town.mails == []
    assert outcomes == [Deferred("mail.certificate_invalid")]


async def test_nothing_is_sent_in_the_clear_to_a_server_without_starttls(channel: Connector) -> None:
    async with mail_town() as town:
        endpoint = with_settings(town.endpoint, tls="starttls")
        outcomes = await channel.deliver(endpoint, [some_parcel()], LIMIT)
        assert town.mails == []
    assert outcomes == [Refused("mail.tls_or_login_missing", About.ENDPOINT)]


@pytest.mark.parametrize(
    ("password", "expected"), [("right", "Delivered"), ("wrong", "Refused")], ids=["right", "wrong"]
)
async def test_a_login_is_used_under_tls(channel: Connector, password: str, expected: str) -> None:
    context, ca = own_certificate()
    async with mail_town("starttls", context, ca, password="right") as town:
        endpoint = replace(town.endpoint, secrets={"username": "hub", "password": password})
        outcomes = await channel.deliver(endpoint, [some_parcel()], LIMIT)
    assert names(outcomes) == [expected]


def test_a_password_is_never_sent_in_the_clear() -> None:
    endpoint = replace(MailTown(25).endpoint, secrets={"username": "hub", "password": "p"})
    assert MAIL.check(endpoint) == ("tls must not be none when there is a password to send",)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sender": "Mairie <a@b.test>"}, "sender"),
        ({"sender": "a@b.test\r\nRCPT TO:<c@d.test>"}, "sender"),
        ({"recipients": []}, "recipients"),
        ({"recipients": ["a@b.test", "nobody"]}, "recipients"),
        ({"recipients": "a@b.test"}, "recipients"),
        ({"mode": "fax"}, "mode"),
        ({"max_size": 1_000_000_000}, "max_size"),
        ({"ca": "no certificate"}, "ca"),
        ({"port": 0}, "port"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, object], field: str) -> None:
    flaws = MAIL.check(with_settings(MailTown(25).endpoint, **settings))
    assert [flaw.split()[0] for flaw in flaws] == [field]


async def test_a_notice_is_a_mail_of_its_own_words_and_carries_nothing(channel: Connector) -> None:
    automatic = "Ce courriel est envoyé automatiquement, merci de ne pas y répondre."
    text = f"Bonjour,\n\nVotre service ne répond plus.\n\n{automatic}\n"
    said = replace(some_parcel(some_file(0, "avis.txt", text.encode(), "text/plain")), kind=ParcelKind.NOTICE)
    async with mail_town() as town:
        assert [type(one) for one in await channel.deliver(town.endpoint, [said], LIMIT)] == [Delivered]
        [mail] = town.read()
    assert mail["Subject"] == "Votre service ne répond plus : télédossiers en boîte de dépôt"
    assert mail["X-Aiguillage-Sequence"] is None
    assert attachments(mail) == {}
    assert plain_of(mail) == text
