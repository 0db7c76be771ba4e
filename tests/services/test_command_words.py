"""What an operator writes on the command line: days, instants, reasons, numbers; and what is shown of it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import typer

from hub.cli.shared import day, instant, printable, reason_given, subscriber
from tests.journeys.children import hub, is_a_sentence


def test_a_day_is_written_in_one_way() -> None:
    assert day("2026-01-31") == date(2026, 1, 31)
    for text in (
        "20260131",
        "2026-W01-1",
        "2026-1-31",
        "31/01/2026",
        "2026-01-31T10:00",
        "",
        "２０２６-01-31",
    ):
        with pytest.raises(typer.BadParameter, match="written as"):
            day(text)


@pytest.mark.parametrize("told", ["0001-01-01", "1899-12-31", "2200-01-01", "9999-12-31"])
def test_a_year_far_away_is_a_typing_error(told: str) -> None:
    for read in (day, instant):
        with pytest.raises(typer.BadParameter, match="the year must be between 1900 and 2199"):
            read(told)
    with pytest.raises(typer.BadParameter, match="the year"):
        instant(f"{told}T23:59:59Z")


def test_an_instant_is_a_day_or_a_time_of_it_in_paris_unless_it_says_where() -> None:
    assert instant("2026-01-31").astimezone(UTC) == datetime(2026, 1, 30, 23, tzinfo=UTC)
    assert instant("2026-07-31T14:30").astimezone(UTC) == datetime(2026, 7, 31, 12, 30, tzinfo=UTC)
    assert instant("2026-01-31T14:30:05.5Z") == datetime(2026, 1, 31, 14, 30, 5, 500_000, tzinfo=UTC)
    for text in (
        "2026-01-31 14:30",
        "2026-01-31T14",
        "2026-01-31T1430",
        "2026-01-31T25:00",
        "20260131T14:30",
    ):
        with pytest.raises(typer.BadParameter):
            instant(text)


def test_a_reason_says_something_that_can_be_printed() -> None:
    assert reason_given("  la mairie déménage : c’est dit ") == "la mairie déménage : c’est dit"
    assert reason_given("avant\u202f: après") == "avant\u202f: après"
    for text in ("", "  ", "ab", "\t\n", "x" * 501, "deux\nlignes", "rouge \x1b[31m", "d\udce9m\udce9nage"):
        with pytest.raises(typer.BadParameter):
            reason_given(text)


def test_a_partners_number_that_is_wrong_is_told_why() -> None:
    assert str(subscriber("21740042390019-74042")) == "21740042390019-74042"
    with pytest.raises(typer.BadParameter, match="check sum"):
        subscriber("99999999999999-1")
    for text in (
        "bonneville",
        "21740042390019",
        "21740042390019-",
        "21740042390019-é",
        "2174004239001-74042",
    ):
        with pytest.raises(typer.BadParameter, match="SIRET and its branch"):
            subscriber(text)


def test_what_is_shown_gives_the_terminal_no_orders() -> None:
    assert printable("ligne\x1b[31m\x07\x9b\n«\u202fsuite\u00a0»") == "ligne?[31m??\n«\u202fsuite\u00a0»"


async def test_what_a_command_cannot_take_is_a_sentence_and_nothing_is_begun(tmp_path: Path) -> None:
    environment = {"HUB_FOLDER": str(tmp_path / "hub")}
    number = "21740042390019-74042"
    for words, told in (
        (("rules", "simulate", "--since", "0001-01-01"), "the year must be"),
        (("rules", "simulate", "--since", "20260101"), "a day is written"),
        (("partners", "activate", number, "--reason", "essai", "--until", "9999-12-31"), "the year must be"),
        (("rules", "apply", "--reason", "d\udce9m\udce9nage", "--yes"), "say why"),
        (("rules", "rollback", "--reason", "   "), "say why"),
        (("partners", "import", "x.csv", "--reason", "\x1b[31m"), "say why"),
        (("replay", "--cause", "x", "--reason", " "), "say why"),
        (("partners", "suspend", "99999999999999-1", "--reason", "essai"), "check sum"),
        (("rules", "coverage", "--picture", str(tmp_path / "carte.png")), "SVG"),
    ):
        done = await hub(environment, *words)
        assert done.code == 2, (words, done)
        assert is_a_sentence(done), words
        assert told in done.errors, words
    assert not (tmp_path / "hub").exists()


async def test_a_terminal_that_cannot_write_every_sign_gets_another_one(tmp_path: Path) -> None:
    environment = {"HUB_FOLDER": str(tmp_path / "hub"), "PYTHONIOENCODING": "ascii", "HUB_RULES": "/là/bas"}
    done = await hub(environment, "rules", "check")
    assert done.code == 1
    assert done.errors.strip() == "/l?/bas: there is no such folder"
