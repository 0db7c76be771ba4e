"""Layouts: names and files made of the delivery alone, as partners' software expects them."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring

from connectors.layouts import LAYOUTS, Entry, Origin, folder_name, packed, packed_size
from connectors.layouts.packing import PIECE
from connectors.layouts.service_public import FORM, PEC
from hub.domain.errors import Tampered
from hub.domain.identity import Subscriber
from hub.ports.connector import Parcel, ParcelFile
from tests.connectors.partners import some_file, some_parcel, tried_again

ORIGIN = Origin("13000210800012", "AIGUILLAGE")
STATE = LAYOUTS["service-public"]
DESCRIPTION = (
    b'{"applicant":{"email":"usager@example.org"},"content":null,'
    b'"facts":{"commune_residence":"90017","nature":"a<b>&\\u0001"}}'
)


def described(content: bytes = DESCRIPTION) -> ParcelFile:
    return replace(some_file(0, "submission.json", content, "application/json"), type="description")


def sent(number: int, name: str, type: str, media_type: str = "application/pdf") -> ParcelFile:
    return replace(some_file(number, name, b"bytes of %d" % number, media_type), type=type)


def dossier(*files: ParcelFile, description: bytes = DESCRIPTION) -> Parcel:
    told = replace(some_parcel(described(description), *files), external_id="A-9-X3UGO4V7", procedure="DAUA")
    return replace(told, received_at=datetime(2026, 7, 3, 14, 26, 41, tzinfo=UTC), revision=2)


FORM_FILES = (
    sent(1, "recapPDF.pdf", "recapPDF"),
    sent(2, "flux.xml", "flux", "application/xml"),
    sent(3, "Liste des pièces.pdf", "Liste des pieces jointes"),
    sent(4, "plan.zip", "Pieces_Jointes_DAUA", "application/zip"),
    sent(5, "plan-2.zip", "Pieces_Jointes_DAUA", "application/zip"),
    sent(6, "A-9-X3UGO4V7-DAUA-doc-cerfa_13703_DPMI-1-2.pdf", "cerfa_13703_DPMI"),
)


async def gathered(pieces: AsyncIterator[tuple[int, bytes]]) -> bytes:
    """As a server would put it together; a place is given once."""
    there = bytearray()
    written = 0
    async for place, piece in pieces:
        there[len(there) :] = bytes(max(0, place + len(piece) - len(there)))
        there[place : place + len(piece)] = piece
        written += len(piece)
    assert written == len(there)
    return bytes(there)


async def archive(parcel: Parcel, layout: str = "service-public") -> zipfile.ZipFile:
    entries = await LAYOUTS[layout].entries(parcel, ORIGIN)
    return zipfile.ZipFile(io.BytesIO(await gathered(packed(entries, parcel.received_at))))


async def message(parcel: Parcel) -> Element:
    read: Element = fromstring((await archive(parcel)).read("message.xml"))
    return read


# --- the zip ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["zip", "service-public"])
async def test_an_archive_built_twice_is_the_same_whatever_the_attempt(layout: str) -> None:
    parcel = dossier(*FORM_FILES)
    one, other = [
        await gathered(packed(await LAYOUTS[layout].entries(built, ORIGIN), built.received_at))
        for built in (parcel, tried_again(parcel, 9))
    ]
    assert one == other
    assert LAYOUTS[layout].name(parcel) == LAYOUTS[layout].name(tried_again(parcel, 9))


@pytest.mark.parametrize("layout", ["zip", "service-public"])
async def test_entries_are_stored_sorted_and_of_the_hour_of_receipt_in_paris(layout: str) -> None:
    found = (await archive(dossier(*FORM_FILES), layout)).infolist()
    names = [info.filename for info in found]
    if layout == "service-public":
        assert names.pop(0) == "message.xml"
    assert names == sorted(names)
    for info in found:
        assert info.date_time == (2026, 7, 3, 16, 26, 40)
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.extra == b""
        assert not info.flag_bits & 0x08, "some readers refuse stored entries with a descriptor behind them"
        assert info.filename.isascii() or info.flag_bits & 0x800


@pytest.mark.parametrize("size", [0, 1, PIECE - 60, PIECE, 3 * PIECE + 17])
async def test_the_size_of_an_archive_is_known_without_building_it(size: int) -> None:
    files = [some_file(1, "é.bin", bytes(size)), some_file(2, "b.bin", bytes(7))]
    entries = await LAYOUTS["zip"].entries(some_parcel(*files), ORIGIN)
    built = await gathered(packed(entries, datetime(2026, 1, 1, tzinfo=UTC)))
    assert len(built) == packed_size(entries)
    with zipfile.ZipFile(io.BytesIO(built)) as read:
        assert read.testzip() is None
        assert [len(read.read(entry.name)) for entry in entries] == [entry.size for entry in entries]


def test_the_size_of_a_large_archive_counts_what_large_entries_take_more() -> None:
    # The library's own word for each, without writing their bytes.
    sizes = [2_100_000_000, 3_000_000_000, 5]
    entries = [
        Entry(f"{place}.bin", size, "", some_file(1, "a", b"").open) for place, size in enumerate(sizes)
    ]
    headers = []
    offset = 0
    for entry in entries:
        info = zipfile.ZipInfo(entry.name)
        info.CRC, info.file_size, info.compress_size = 0, entry.size, entry.size
        headers.append(len(info.FileHeader(zip64=entry.size * 1.05 > zipfile.ZIP64_LIMIT)))
        offset += headers[-1] + entry.size
    # The second has two sizes of eight bytes, the third the place where it begins.
    directory = sum(46 + len(entry.name) for entry in entries) + (4 + 16) + (4 + 8)
    assert packed_size(entries) == sum(headers) + sum(sizes) + directory + 22 + 76


async def test_what_is_small_is_given_in_order_and_in_one_piece() -> None:
    entries = await LAYOUTS["zip"].entries(dossier(*FORM_FILES), ORIGIN)
    pieces = [place async for place, _ in packed(entries, datetime(2026, 1, 1, tzinfo=UTC))]
    assert pieces == [0]


async def test_an_entry_that_is_not_as_long_as_it_says_makes_no_archive() -> None:
    entries = await LAYOUTS["zip"].entries(some_parcel(replace(some_file(1, "a", b"abc"), size=4)), ORIGIN)
    with pytest.raises(Tampered):
        await gathered(packed(entries, datetime(2026, 1, 1, tzinfo=UTC)))


async def test_a_reader_that_gives_up_in_the_middle_closes_what_it_read() -> None:
    told: list[str] = []

    async def read(start: int, end: int | None) -> AsyncIterator[bytes]:
        told.append("opened")
        try:
            for _ in range(4):
                yield bytes(PIECE)
        finally:
            told.append("closed")

    file = replace(some_file(1, "a", bytes(4 * PIECE)), open=read)
    pieces = packed(await LAYOUTS["zip"].entries(some_parcel(file), ORIGIN), datetime(2026, 1, 1, tzinfo=UTC))
    await anext(pieces)
    assert told == ["opened"]
    await pieces.aclose()
    for _ in range(3):
        await asyncio.sleep(0)
    assert told == ["opened", "closed"]


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_delivery_that_moved_says_whose_it_was(layout: str) -> None:
    parcel = dossier()
    moved = replace(parcel, named=Subscriber("21740092800016", "74092"))
    assert "21740092800016-74092" in LAYOUTS[layout].name(moved)
    assert LAYOUTS[layout].name(moved) != LAYOUTS[layout].name(parcel)


def test_the_archive_is_named_by_number_procedure_and_revision() -> None:
    assert STATE.name(dossier()) == "A-9-X3UGO4V7-DAUA-2.zip"
    assert re.fullmatch(r"(?P<id>.*)-(?P<procedure>[^-]+)-(?P<sequence>\d+).zip", STATE.name(dossier()))


def test_numbers_that_look_alike_as_names_do_not_meet() -> None:
    one, other = replace(dossier(), external_id="A/1"), replace(dossier(), external_id="A_1")
    assert STATE.name(one) != STATE.name(other)
    assert "/" not in STATE.name(one)
    assert folder_name(replace(dossier(), external_id="../x")).startswith("x-")


async def test_files_are_named_as_the_state_s_form_site_names_them() -> None:
    names = (await archive(dossier(*FORM_FILES))).namelist()
    assert names == [
        "message.xml",
        "A-9-X3UGO4V7-DAUA-doc-cerfa_13703_DPMI-1-2.pdf",
        "A-9-X3UGO4V7-DAUA-doc-flux-1-2.xml",
        "A-9-X3UGO4V7-DAUA-doc-recapPDF-1-2.pdf",
        "A-9-X3UGO4V7-DAUA-ent-2.xml",
        "A-9-X3UGO4V7-DAUA-pj-Liste_des_pieces_jointes-1-2.pdf",
        "A-9-X3UGO4V7-DAUA-pj-Pieces_Jointes_DAUA-1-2.zip",
        "A-9-X3UGO4V7-DAUA-pj-Pieces_Jointes_DAUA-2-2.zip",
    ]


HOSTILE = (
    sent(1, "message.xml", "message", "text/xml"),
    sent(2, "A-9-X3UGO4V7-DAUA-ent-2.xml", "ent", "text/xml"),
    sent(3, "A-9-X3UGO4V7-DAUA-doc-x-ent-1-2.xml", "x-ent-1", "text/xml"),
    sent(4, "../../etc/passwd", "../../x"),
    sent(5, "A-9-X3UGO4V7-DAUA-doc-../x-1-2.pdf", "a"),
    sent(6, "b", "\u202e<&\"'"),
    sent(7, "c.p f", ""),
)


async def test_whatever_files_are_called_there_is_one_header_one_message_and_every_file() -> None:
    read = await archive(dossier(*HOSTILE))
    names = read.namelist()
    assert [name for name in names if re.fullmatch(r".*-ent-\d+(?:-.*)?.xml", name)] == [
        "A-9-X3UGO4V7-DAUA-ent-2.xml"
    ]
    assert names.count("message.xml") == 1
    assert len({name.casefold() for name in names}) == len(names) == 2 + len(HOSTILE)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) and ".." not in name for name in names)
    told = {read.read(name) for name in names}
    assert told >= {b"bytes of %d" % file.number for file in HOSTILE}


# --- message.xml --------------------------------------------------------------------------------------


def texts(root: Element, path: str) -> list[str]:
    return [found.text or "" for found in root.findall(path, {"m": FORM, "p": PEC})]


async def test_the_message_tells_who_sends_what_to_whom() -> None:
    parcel = dossier(*FORM_FILES)
    root = await message(parcel)
    assert root.tag == f"{{{PEC}}}Message"
    routing = "p:Header/p:Routing/"
    assert texts(root, f"{routing}p:MessageId") == [
        f"A-9-X3UGO4V7 {parcel.attempt.delivery} Principal 2026-07-03T16:26:41"
    ]
    assert texts(root, f"{routing}p:FlowType") == ["DAUA"]
    assert texts(root, f"{routing}p:Sender/p:Location/p:Siret") == ["13000210800012"]
    assert texts(root, f"{routing}p:Recipients/p:Recipient/p:Location/p:Siret") == [parcel.subscriber.siret]
    assert texts(root, f"{routing}p:AckType") == ["AVL", "ANL"]
    assert texts(root, "p:Header/p:Security/p:DateTime") == ["2026-07-03T16:26:41.000+02:00"]
    form = "p:Body/p:Content/p:Aller/"
    assert texts(root, f"{form}m:NumeroDemarche") == ["DAUA"]
    assert texts(root, f"{form}m:Teledemarche/m:NumeroTeledemarche") == ["A-9-X3UGO4V7"]
    assert texts(root, f"{form}m:Teledemarche/m:Email") == ["usager@example.org"]
    assert texts(root, f"{form}m:Routage/m:Donnee/m:Id") == ["CodeINSEE", "commune_residence", "nature"]
    assert texts(root, f"{form}m:Routage/m:Donnee/m:Valeur") == ["90017", "90017", "a<b>&"]


async def test_every_file_is_described_and_the_header_says_the_same() -> None:
    read = await archive(dossier(*FORM_FILES))
    root = fromstring(read.read("message.xml"))
    header = fromstring(read.read("A-9-X3UGO4V7-DAUA-ent-2.xml"))
    form = root.find("p:Body/p:Content/p:Aller", {"p": PEC})
    assert form is not None
    assert header.tag == f"{{{FORM}}}EnteteMetierEnveloppe"
    assert [_flat(child) for child in header] == [_flat(child) for child in form]
    told = texts(root, ".//m:PieceJointe/m:Fichier") + texts(root, ".//m:FichierDonnees")
    assert sorted(told) == sorted(set(read.namelist()) - {"message.xml", "A-9-X3UGO4V7-DAUA-ent-2.xml"})
    assert texts(root, ".//m:PieceJointe/m:Intitule")[0] == "Liste des pièces.pdf"
    assert texts(root, ".//m:Document/m:Code") == ["recapPDF", "flux", "cerfa_13703_DPMI"]


def _flat(element: Element) -> list[tuple[str, str | None]]:
    return [(found.tag, found.text) for found in element.iter()]


async def test_elements_bear_the_prefixes_that_readers_look_for() -> None:
    """Some read without name spaces."""
    text = (await archive(dossier(*FORM_FILES))).read("message.xml")
    assert text.startswith(b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><ns2:Message ')
    assert b"<ns2:Aller><NumeroDemarche>" in text
    assert b"<Document><Code>" in text


async def test_no_password_stands_in_the_message() -> None:
    read = await archive(dossier(*FORM_FILES))
    for name in ("message.xml", "A-9-X3UGO4V7-DAUA-ent-2.xml"):
        assert b"MotDePasse" not in read.read(name)


async def test_a_form_that_came_without_files_is_in_the_hub_s_description() -> None:
    content = b'{"applicant":null,"content":{"a":1},"facts":{}}'
    read = await archive(dossier(sent(1, "a.xml", "flux", "text/xml"), description=content))
    assert read.read("A-9-X3UGO4V7-DAUA-doc-description-1-2.json") == content
    without = await archive(dossier(sent(1, "a.pdf", "piece")))
    assert "A-9-X3UGO4V7-DAUA-doc-description-1-2.json" in without.namelist()


async def test_mail_is_configured_only_where_the_partner_says_from_whom() -> None:
    entries = await STATE.entries(dossier(), replace(ORIGIN, mail="ne-pas-repondre@hub.example"))
    root = fromstring(b"".join([chunk async for chunk in entries[0].open(0, None)]))
    assert texts(root, ".//p:EmailConfiguration/p:From") == ["ne-pas-repondre@hub.example"]
    assert texts(await message(dossier()), ".//p:EmailConfiguration/p:From") == []
