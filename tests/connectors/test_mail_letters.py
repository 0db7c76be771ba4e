"""What a mail says and how it is written: the least that a partner asked for, in French, and nothing a sender wrote
changes anything but words."""

from __future__ import annotations

import asyncio
import email
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from typing import Any, cast
from uuid import uuid4

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mail import connector
from connectors.mail.letter import Letterhead, attached, digest, linked, referred
from connectors.mail.mime import Attached, entity, written
from demo.receivers.smtp import own_certificate
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.domain.digests import Issue
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector, Parcel, Relay
from tests.connectors.partners import (
    NOW,
    MailTown,
    attachments,
    closed_port,
    mail_town,
    names,
    outgoing,
    some_file,
    some_parcel,
    surroundings,
    with_settings,
)

LIMIT = 1.5
HEAD = Letterhead("hub@hub.test", ("a@mairie.test",), NOW, "https://hub.test/boite")
ISSUE = Issue(uuid4(), datetime(2026, 4, 3, 6, tzinfo=UTC), 1, 1)


def read(content: bytes) -> EmailMessage[str, str]:
    return email.message_from_bytes(content, _class=EmailMessage, policy=default)


def body(mail: EmailMessage[str, str], kind: str) -> str:
    part: Any = mail.get_body((kind,))
    return str(part.get_content()).replace("\r\n", "\n")


class Words(HTMLParser):
    """What a reader of the HTML sees, where its links lead, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.links: list[str] = []
        self.elements: set[str] = set()
        self.language: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        given_attributes = dict(attrs)
        if tag == "html":
            self.language = given_attributes.get("lang")
        if tag == "a":
            self.links.append(str(given_attributes["href"]))
        assert not {"src", "background", "onload", "onclick"} & given_attributes.keys()

    def handle_data(self, data: str) -> None:
        self.seen.append(data)


# --- what is said -------------------------------------------------------------------------------------


def test_a_notification_says_reference_and_mailbox_and_nothing_of_the_content() -> None:
    mail = read(referred(some_parcel(some_file(1, "Camille Exemple.pdf", b"x")), HEAD))
    for kind in ("plain", "html"):
        text = body(mail, kind)
        assert "A-9-X3UGO4V7" in text
        assert "https://hub.test/boite" in text
        assert "Camille" not in text
    assert attachments(mail) == {}
    assert mail.get_content_type() == "multipart/alternative"


def test_the_html_says_the_same_as_the_text_and_asks_nobody_for_anything() -> None:
    parcel = some_parcel()
    links = [f"https://hub.test/f/{number}?s=x&t=y" for number in (0, 1)]
    mail = read(linked(parcel, HEAD, links))
    words = Words(body(mail, "html"))
    told = " ".join(" ".join(words.seen).split())
    for line in body(mail, "plain").splitlines():
        for word in line.replace(" : ", " ").split():
            assert word.rstrip(":") in told or word in links
    assert words.links == links
    assert words.language == "fr"
    assert not words.elements & {"img", "script", "link", "iframe", "form", "object"}


def test_a_digest_quotes_every_reference_with_its_number() -> None:
    parcels = [replace(some_parcel(sequence=number), external_id=f"A-{number}") for number in (7, 8, 9)]
    mail = read(digest(parcels, HEAD, ISSUE.id, None))
    assert mail["Subject"] == "3 télédossiers à traiter"
    assert mail["Message-ID"] == f"<{ISSUE.id}@hub.test>"
    assert mail["X-Aiguillage-Issue"] == str(ISSUE.id)
    for kind in ("plain", "html"):
        text = body(mail, kind)
        for parcel in parcels:
            assert parcel.external_id in text
            assert str(parcel.attempt.delivery) in text
    assert "https://hub.test/boite" in body(mail, "plain")


def test_a_digest_with_links_has_them_under_each_reference() -> None:
    parcels = [some_parcel(sequence=number) for number in (7, 8)]
    links = [[f"https://hub.test/{parcel.sequence}/{number}" for number in (0, 1)] for parcel in parcels]
    text = body(read(digest(parcels, HEAD, ISSUE.id, links)), "plain")
    assert text.index("https://hub.test/7/1") < text.index(str(parcels[1].attempt.delivery))
    assert text.index("https://hub.test/8/0") > text.index(str(parcels[1].attempt.delivery))


def test_the_same_mail_is_the_same_bytes() -> None:
    parcel = some_parcel()
    assert attached(parcel, HEAD, [b"a", b"b"]) == attached(parcel, HEAD, [b"a", b"b"])
    assert digest([parcel], HEAD, ISSUE.id, None) == digest([parcel], HEAD, ISSUE.id, None)


HOSTILE = (
    "<script>alert(1)</script>\"'&amp;\r\nBcc: x@evil.test\r\n\r\n.\r\n=?utf-8?q?=0D=0AX-Evil:_1?="
    "\u202e\ud800\x00"
)


def test_nothing_a_sender_wrote_is_more_than_words() -> None:
    parcel = replace(
        some_parcel(replace(some_file(1, HOSTILE, b"x"), type=HOSTILE, media_type=HOSTILE)),
        external_id=HOSTILE,
        procedure=HOSTILE,
        procedure_title=HOSTILE,
        sender=HOSTILE,
    )
    mails = [
        read(one)
        for one in (
            referred(parcel, HEAD),
            attached(parcel, HEAD, [b"x"]),
            linked(parcel, HEAD, ["https://hub.test/x"]),
            digest([parcel, parcel], HEAD, ISSUE.id, None),
        )
    ]
    for mail in mails:
        assert mail["Bcc"] is None
        assert mail["X-Evil"] is None
        assert not mail.defects
        words = Words(body(mail, "html"))
        assert not words.elements & {"script", "img"}
        assert set(words.links) <= {"https://hub.test/x", "https://hub.test/boite"}
        assert "<script>alert(1)</script>" in "".join(words.seen)


# --- how it is written --------------------------------------------------------------------------------

LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=120)


@settings(max_examples=150, deadline=None)
@given(subject=LINE, text=LINE, name=LINE, content=st.binary(max_size=300), utf8=st.booleans())
def test_what_is_written_is_read_again_by_the_standard_library(
    subject: str, text: str, name: str, content: bytes, utf8: bool
) -> None:
    shown = " ".join("".join(sign if sign.isprintable() else " " for sign in subject).split())
    plain = "".join(sign for sign in text if sign.isprintable())
    file_name = "".join(sign for sign in name if sign.isprintable() and sign not in '"\\').strip() or "x"
    mail_bytes = written(
        [("Subject", subject), ("X-After", "here")],
        entity(
            plain,
            f"<p>{len(plain)}</p>",
            [Attached(file_name, "application/pdf", content), Attached("b.bin", "text/plain; x=y", b"z")],
            "mark",
        ),
        utf8=utf8,
    )
    assert utf8 or mail_bytes.isascii()
    assert max(len(line) for line in mail_bytes.split(b"\r\n")) <= 998
    assert b"\n" not in mail_bytes.replace(b"\r\n", b"")
    mail = read(mail_bytes)
    if not utf8 and "=?" not in shown:
        assert mail["Subject"] == shown
    assert mail["X-After"] == "here"
    assert body(mail, "plain").rstrip("\n") == plain.rstrip("\n")
    parts = list(mail.iter_attachments())
    assert parts[0].get_filename() == file_name
    assert cast(bytes, parts[0].get_payload(decode=True)) == content
    assert parts[1].get_content_type() == "application/octet-stream"


@pytest.mark.parametrize("utf8", [False, True])
@pytest.mark.parametrize("beginning", ["", "é "], ids=["ascii", "accented"])
def test_an_encoded_word_is_shown_and_not_decoded(beginning: str, utf8: bool) -> None:
    word = beginning + "=?utf-8?q?=0D=0ABcc:_x@evil.test?="
    mail = read(written([("Subject", word)], entity("x", "x", [], "m"), utf8=utf8))
    assert str(mail["Subject"]).isprintable()
    assert "?utf-8?q?" in mail["Subject"]


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 76, 1000])
def test_files_of_any_length_keep_their_last_byte(size: int) -> None:
    content = bytes(range(250)) * 4
    mail = read(written([], entity("x", "x", [Attached("a", "image/png", content[:size])], "m")))
    [part] = mail.iter_attachments()
    assert part.get_payload(decode=True) == content[:size]


# --- which mail, to whom ------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def channel() -> AsyncIterator[Connector]:
    made = connector(surroundings())
    yield made
    await made.close()


def in_issue(*parcels: Parcel) -> list[Parcel]:
    return [replace(parcel, issue=ISSUE) for parcel in parcels]


async def test_a_partner_that_does_not_say_otherwise_gets_the_reference_alone(channel: Connector) -> None:
    async with mail_town() as town:
        told = {name: value for name, value in town.endpoint.settings.items() if name != "mode"}
        [outcome] = await channel.deliver(Endpoint("mail", told), [some_parcel()], LIMIT)
        [mail] = town.read()
    assert isinstance(outcome, Delivered)
    assert outcome.announced
    assert attachments(mail) == {}
    assert "/f/" not in mail.as_string()


async def test_an_issue_is_one_mail_with_one_outcome_for_all(channel: Connector) -> None:
    parcels = in_issue(*(some_parcel(sequence=number) for number in range(1, 31)))
    async with mail_town() as town:
        endpoint = with_settings(town.endpoint, mode="reference", frequency="daily")
        outcomes = await channel.deliver(endpoint, parcels, LIMIT)
        [mail] = town.read()
        town.content_answer = "451 4.3.0 later"
        again = await channel.deliver(endpoint, parcels, LIMIT)
    assert outcomes == [Delivered(f"<{ISSUE.id}@hub.test> to 1 of 1", announced=True)] * 30
    assert mail["Subject"] == "30 télédossiers à traiter"
    assert again == [Deferred("mail.content_deferred", About.PARCEL)] * 30


@pytest.mark.parametrize(
    ("refusals", "refused"),
    [({"a@m.test": "550 no"}, (1,)), ({"b@m.test": "450 later"}, (2,)), ({}, ())],
    ids=["first", "second", "none"],
)
@pytest.mark.parametrize("returned", [False, True], ids=["one sender", "return addresses"])
async def test_the_addresses_that_did_not_take_a_mail_are_told_by_their_places(
    refusals: dict[str, str], refused: tuple[int, ...], returned: bool
) -> None:
    returns = (lambda mail, sending, place, address: f"r-{place}@retours.test") if returned else None
    channel = connector(replace(surroundings(), returns=returns))
    async with mail_town() as town:
        town.refusals = refusals
        endpoint = with_settings(town.endpoint, recipients=["a@m.test", "b@m.test"])
        parcel = some_parcel()
        outcomes = await channel.deliver(endpoint, [parcel, parcel], LIMIT)
        await channel.close()
        rounds = (2 - len(refused)) * 2 if returned else 2
        assert len(town.mails) == rounds
    places = ", ".join(str(place) for place in (1, 2) if place not in refused)
    assert outcomes == [
        Delivered(f"<{parcel.attempt.delivery}@hub.test> to {places} of 2", refused) for _ in range(2)
    ]
    assert all("m.test" not in repr(outcome) for outcome in outcomes)


async def test_what_one_address_took_is_delivered_though_the_next_one_broke_the_connection() -> None:
    returns = lambda mail, sending, place, address: f"r-{place}@retours.test"  # noqa: E731
    channel = connector(replace(surroundings(), returns=returns))
    async with mail_town() as town:
        town.breaks_after = 1
        endpoint = with_settings(town.endpoint, recipients=["a@m.test", "b@m.test"])
        first, second = await channel.deliver(endpoint, [some_parcel(), some_parcel()], LIMIT)
        await channel.close()
    assert isinstance(first, Delivered)
    assert first.refused == (2,)
    assert second == Deferred("mail.disconnected")


async def test_what_the_server_answered_goes_along_as_evidence(channel: Connector) -> None:
    async with mail_town() as town:
        town.content_answer = "250 2.0.0 queued as 4711"
        [took] = await channel.deliver(town.endpoint, [some_parcel()], LIMIT)
        town.content_answer = "554 5.7.1 not from you"
        [refused] = await channel.deliver(town.endpoint, [some_parcel()], LIMIT)
    assert took.answer == b"250 2.0.0 queued as 4711"
    assert refused.answer == b"554 5.7.1 not from you"
    assert "4711" not in repr(took)


async def test_an_address_beyond_ascii_needs_a_server_that_takes_such(channel: Connector) -> None:
    said = ["a@m.test", "josé@m.test", "accueil@münchen.test"]
    async with mail_town() as town:
        endpoint = with_settings(town.endpoint, recipients=said)
        [outcome] = await channel.deliver(endpoint, [some_parcel()], LIMIT)
        [alone] = await channel.deliver(with_settings(endpoint, recipients=said[1:2]), [some_parcel()], LIMIT)
        [mail] = town.read()
    assert isinstance(outcome, Delivered)
    assert outcome.refused == (2,)
    assert mail["To"] == "a@m.test, accueil@xn--mnchen-3ya.test"
    assert alone == Refused("mail.address_unsupported", About.ENDPOINT)
    async with mail_town(utf8=True) as town:
        endpoint = with_settings(town.endpoint, recipients=said)
        [outcome] = await channel.deliver(endpoint, [some_parcel()], LIMIT)
        [mail] = town.read()
    assert isinstance(outcome, Delivered)
    assert outcome.refused == ()
    assert "josé@m.test" in str(mail["To"])
    assert mail["Subject"] == "Télédossier A-9-X3UGO4V7 – Demande d'acte d'état civil"


# --- connections --------------------------------------------------------------------------------------


async def test_a_connection_is_kept_for_the_next_page_and_serves_all_partners_of_a_server(
    channel: Connector,
) -> None:
    async with mail_town() as town:
        for number in range(5):
            endpoint = with_settings(town.endpoint, recipients=[f"mairie-{number}@m.test"])
            assert names(await channel.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
        assert len(town.conversations) == 1


async def test_a_kept_connection_that_died_is_replaced_before_anything_is_sent(channel: Connector) -> None:
    async with mail_town() as town:
        await channel.deliver(town.endpoint, [some_parcel()], LIMIT)
        town.conversations[0].close()
        assert names(await channel.deliver(town.endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
        assert len(town.conversations) == 2
        assert len(town.mails) == 2


async def test_a_connection_whose_server_went_silent_costs_no_more_than_the_limit(channel: Connector) -> None:
    async with mail_town() as town:
        await channel.deliver(town.endpoint, [some_parcel()], LIMIT)
        town.deaf = True
        outcomes = await channel.deliver(town.endpoint, [some_parcel()], LIMIT)
        assert outcomes == [Deferred("mail.timeout")]
        assert len(town.conversations) == 2, "it was replaced once"


async def test_a_server_sees_only_so_many_connections_at_once(channel: Connector) -> None:
    async with mail_town() as town:
        town.pause = 0.02
        pages = await asyncio.gather(
            *(channel.deliver(town.endpoint, [some_parcel()], LIMIT * 10) for _ in range(40))
        )
        assert len(town.mails) == 40
        assert len(town.conversations) == 10
    assert {type(outcome) for page in pages for outcome in page} == {Delivered}


# --- the hub's own server -----------------------------------------------------------------------------


def relayed(town: MailTown, **told: Any) -> Connector:
    relay = Relay("127.0.0.1", town.port, "none", "hub@hub.test", outgoing(), **told)
    return connector(replace(surroundings(), relay=relay))


async def test_a_partner_that_names_no_server_is_served_by_the_hub_s_own() -> None:
    async with mail_town() as town:
        channel = relayed(town)
        endpoint = Endpoint("mail", {"recipients": ["accueil@mairie.test"]})
        assert channel.check(endpoint) == ()
        assert names(await channel.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
        await channel.close()
        [mail] = town.read()
    assert mail["From"] == "hub@hub.test"


async def test_that_the_hub_s_own_server_refuses_the_hub_closes_nobody_s_lane() -> None:
    context, ca = own_certificate()
    async with mail_town("starttls", context, ca, password="right") as town:
        relay = Relay(
            "127.0.0.1",
            town.port,
            "starttls",
            "hub@hub.test",
            outgoing(),
            ca,
            username="hub",
            password="wrong",
        )
        channel = connector(replace(surroundings(), relay=relay))
        theirs = Endpoint("mail", {"recipients": ["accueil@mairie.test"]})
        assert await channel.deliver(theirs, [some_parcel()], LIMIT) == [Deferred("mail.login_refused")]
        own = replace(town.endpoint, secrets={"username": "hub", "password": "wrong"})
        assert await channel.deliver(own, [some_parcel()], LIMIT) == [
            Refused("mail.login_refused", About.ENDPOINT)
        ]
        await channel.close()


async def test_what_the_hub_s_own_server_says_of_a_partner_s_address_closes_its_lane() -> None:
    async with mail_town() as town:
        town.refusals = {"accueil@mairie.test": "550 5.1.1 who"}
        channel = relayed(town)
        theirs = Endpoint("mail", {"recipients": ["accueil@mairie.test"]})
        assert await channel.deliver(theirs, [some_parcel()], LIMIT) == [
            Refused("mail.mailbox_refused", About.ENDPOINT)
        ]
        await channel.close()


async def test_a_partner_that_names_a_server_is_not_served_by_the_hub_s_own() -> None:
    async with mail_town() as town:
        channel = relayed(town)
        with closed_port() as port:
            endpoint = with_settings(town.endpoint, port=port)
            assert await channel.deliver(endpoint, [some_parcel()], LIMIT) == [
                Deferred("mail.connection_refused")
            ]
        await channel.close()


@pytest.mark.parametrize(
    ("told", "flaws"),
    [
        ({}, ("host", "sender")),
        ({"host": "smtp.test"}, ("sender",)),
        ({"host": "smtp.test", "sender": "hub@hub.test"}, ()),
        ({"port": 25}, ("port", "host", "sender")),
        ({"host": "smtp.test", "sender": "josé@hub.test"}, ("sender",)),
        ({"host": "smtp.test", "sender": "a@b.test", "frequency": "daily"}, ()),
        ({"host": "smtp.test", "sender": "a@b.test", "frequency": "daily", "mode": "attachments"}, ("mode",)),
        ({"host": "smtp.test", "sender": "a@b.test", "frequency": "weekly"}, ("frequency",)),
    ],
    ids=["nothing", "host", "both", "port", "sender", "daily", "daily files", "weekly"],
)
def test_what_is_missing_or_contradicts_itself_is_named(
    told: dict[str, object], flaws: tuple[str, ...]
) -> None:
    channel = connector(surroundings())
    found = channel.check(Endpoint("mail", {"recipients": ["a@m.test"], **told}))
    assert tuple(flaw.split(" ")[0] for flaw in found) == flaws


def test_one_address_twice_is_told() -> None:
    channel = connector(surroundings())
    endpoint = MailTown(25).endpoint
    found = channel.check(with_settings(endpoint, recipients=["a@m.test", "A@M.test"]))
    assert found == ("recipients must be different from each other",)
