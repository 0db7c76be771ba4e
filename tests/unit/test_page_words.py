"""The page's French, and what it makes of any content that a form site sends."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.domain.lifecycle import State
from hub.entrypoints.http.page import words
from hub.entrypoints.http.page.content import Line, read
from hub.ports.mailboxes import Entry

SUMMER = datetime(2026, 8, 1, 22, 5, tzinfo=UTC)
ENTRY = Entry(
    UUID(int=1), UUID(int=2), 7, "osl", "d-1", "CERTDC", SUMMER, State.DELIVERED, "mailbox", SUMMER, 1, 12, False,
    None, False,
)  # fmt: skip


def test_instants_are_told_on_the_clocks_of_paris() -> None:
    assert words.moment(SUMMER) == "2 août 2026 à 0\u00a0h\u00a005"
    assert words.moment(datetime(2026, 12, 1, 8, 0, tzinfo=UTC)) == "1er décembre 2026 à 9\u00a0h\u00a000"
    assert words.short(SUMMER) == "02/08/2026 00:05"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "0 octet"), (1, "1 octet"), (2, "2 octets"), (999, "999 octets"), (1_000, "1 Ko"), (12_340, "12,3 Ko"),
        (999_400, "999 Ko"), (999_900, "1 Mo"), (99_960_000, "100 Mo"), (1_500_000_000, "1,5 Go"),
    ],
)  # fmt: skip
def test_sizes_are_told_as_file_managers_do(number: int, told: str) -> None:
    assert words.size(number).replace("\u00a0", " ") == told


def test_every_state_of_every_channel_has_a_sentence() -> None:
    told = {
        (state, channel, fetched, leased): words.standing(
            replace(
                ENTRY,
                state=state,
                channel=channel,
                fetched=fetched,
                leased_until=SUMMER + timedelta(hours=1) if leased else None,
            )
        )
        for state in State
        for channel in ("mailbox", "sftp", "fax")
        for fetched in (False, True)
        for leased in (False, True)
    }
    assert told[State.DELIVERED, "mailbox", False, False] == "À relever"
    assert told[State.DELIVERED, "mailbox", True, False] == "Consulté, à confirmer"
    assert (
        told[State.DELIVERED, "mailbox", True, True] == "Réservé par votre logiciel jusqu’à 1\u00a0h\u00a005"
    )
    assert told[State.DELIVERED, "sftp", False, False] == "Remis par SFTP le 2 août 2026 à 0\u00a0h\u00a005"
    assert told[State.PARKED, "fax", False, False] == "N’a pas pu être remis par fax"
    assert told[State.WAITING, "sftp", False, False] == "En cours d’envoi par SFTP"
    assert told[State.ACKNOWLEDGED, "sftp", False, True].startswith("Réception confirmée le 2 août")
    assert {status: words.refusal(status) for status in (404, 418)} == {
        404: words.REFUSALS[404],
        418: words.REFUSALS[500],
    }


def shown(**told: Any) -> Any:
    return read(json.dumps({"applicant": None, "facts": {}, "content": None, **told}).encode())


def test_content_is_shown_as_it_is_nested() -> None:
    found = shown(
        applicant={"first_name": "Léa", "phone": None, "autre": "x"},
        facts={"commune_residence": "74042"},
        content={"date_naissance": "1990", "parents": [{"nom": "A"}, "B"], "vide": {}, "oui": False},
    )
    assert found.applicant == (Line("Prénom", "Léa"),)
    assert found.facts == (Line("Commune residence", "74042"),)
    assert found.content == (
        Line("Date naissance", "1990"),
        Line("Parents", under=(Line("1", under=(Line("Nom", "A"),)), Line("2", "B"))),
        Line("Vide", "–"),
        Line("Oui", "non"),
    )
    assert not found.cut


@pytest.mark.parametrize(
    "content",
    [
        {f"f{number}": "x" for number in range(5_000)},
        {"long": "x" * 100_000},
        {"deep": json.loads("[" * 400 + "]" * 400)},
        {"list": list(range(3_000))},
    ],
    ids=["many", "long", "deep", "list"],
)
def test_what_is_too_much_for_a_page_is_left_out_and_said_so(content: Any) -> None:
    found = shown(content=content)
    assert found.cut
    assert len(repr_of(found.content)) < 100_000


def repr_of(lines: tuple[Line, ...]) -> str:
    return "".join(line.label + (line.text or "") + repr_of(line.under) for line in lines)


def test_signs_that_show_something_else_than_what_is_written_are_not_shown() -> None:
    found = shown(content={"\u202enom\u200b": "a\u202eb\x00c\r\n\ud800d", "\u200b": "x"})
    assert found.content == (Line("Nom", "abc\nd"), Line("–", "x"))


def test_no_text_of_a_citizen_stands_in_what_a_line_says_of_itself() -> None:
    assert "Léa" not in repr(Line("Prénom", "Léa"))
