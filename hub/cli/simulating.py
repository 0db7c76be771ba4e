"""`hub rules simulate`: how a past period would have been routed by another rule book. Nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hub import assembly
from hub.cli.shared import AsJson, RulesFolder, instant, moment, on_ground, say, with_rules, write_json
from hub.domain.rule_book import RuleBook
from hub.services.simulation import PartnerTally, Simulation, SimulationRoom, Tally

_MOST_SHOWN = 30
_EXAMPLES = 3


def add_to(rules: typer.Typer) -> None:
    rules.command()(simulate)


def simulate(
    since: Annotated[str, typer.Option(help="A day, or an instant: 2026-01-31T14:30.")],
    until: Annotated[str | None, typer.Option(help="Before this; default: now.")] = None,
    rules: RulesFolder = None,
    edition: Annotated[int | None, typer.Option(min=1, help="A published rule book instead.")] = None,
    procedure: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Decide what was received in a period anew, by the rule files or another edition, and print what would
    differ from what was decided then. Writes nothing, sends nothing."""
    if rules is not None and edition is not None:
        raise typer.BadParameter("either --rules or --edition")
    begin, end = instant(since), datetime.now(UTC) if until is None else instant(until)
    if begin >= end:
        raise typer.BadParameter("the period ends before it begins")

    async def work(ground: assembly.Ground) -> None:
        book, label = await _book(ground, edition)
        if procedure is not None and procedure not in book.procedures:
            raise typer.BadParameter(f"{label} knows no procedure {procedure}")
        assembly.settle_memory()
        found = await SimulationRoom(ground.received, _EXAMPLES).run(book, begin, end, procedure)
        if as_json:
            write_json(_as_json(found, begin, end, label))
            return
        _show(found, f"received from {moment(begin)} to {moment(end)}", label)

    on_ground(work, with_rules(rules))


async def _book(ground: assembly.Ground, edition: int | None) -> tuple[RuleBook, str]:
    if edition is not None:
        return (await ground.editions.snapshot(edition)).book, f"rule book {edition}"
    return await ground.imagined(), "the rule files"


def _show(found: Simulation, period: str, label: str) -> None:
    say(f"{found.compared} submissions {period}: by {label}, {found.differ} would be decided otherwise")
    if found.undecided:
        say(f"{found.undecided} more are not decided yet, and left out")
    if found.outcomes:
        outcomes = Table("what came of it", "what would", "submissions", "for example", title="Outcomes")
        ordered = sorted(found.outcomes.items(), key=lambda one: (-one[1].count, one[0]))
        for (before, after), tally in ordered[:_MOST_SHOWN]:
            outcomes.add_row(before, after, str(tally.count), _examples(tally))
        Console().print(outcomes)
        _left_out(len(ordered))
    if found.partners:
        partners = Table("partner", "gains", "loses", "other files", "for example", title="Partners")
        rows = sorted(found.partners.items(), key=lambda one: (-one[1].count, one[0]))
        for subscriber, tallies in rows[:_MOST_SHOWN]:
            counts = (tallies.gained, tallies.lost, tallies.altered)
            partners.add_row(str(subscriber), *(str(one.count or "") for one in counts), _one_of(tallies))
        Console().print(partners)
        _left_out(len(rows))


def _left_out(count: int) -> None:
    if count > _MOST_SHOWN:
        say(f"… {count} in all; --json tells each")


def _examples(tally: Tally) -> str:
    return "\n".join(str(example) for example in tally.examples)


def _one_of(tallies: PartnerTally) -> str:
    """The first of each kind."""
    kinds = (("+", tallies.gained), ("-", tallies.lost), ("~", tallies.altered))
    return "\n".join(f"{sign} {tally.examples[0]}" for sign, tally in kinds if tally.examples)


def _as_json(found: Simulation, begin: datetime, end: datetime, label: str) -> Mapping[str, Any]:
    return {
        "since": begin.isoformat(),
        "until": end.isoformat(),
        "rule_book": label,
        "compared": found.compared,
        "differ": found.differ,
        "undecided": found.undecided,
        "outcomes": [
            {"before": before, "after": after, **_tally(tally)}
            for (before, after), tally in sorted(found.outcomes.items())
        ],
        "partners": [
            {
                "subscriber": str(subscriber),
                "gained": _tally(tallies.gained),
                "lost": _tally(tallies.lost),
                "altered": _tally(tallies.altered),
            }
            for subscriber, tallies in sorted(found.partners.items())
        ],
    }


def _tally(tally: Tally) -> Mapping[str, Any]:
    return {"count": tally.count, "examples": [str(example) for example in tally.examples]}
