"""`hub rules coverage`: which communes a procedure's submissions would reach nobody from."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub import assembly
from hub.cli.shared import AsJson, RulesFolder, on_ground, say, with_rules, write_json
from hub.domain.coverage import Coverage, Figures, coverage
from hub.domain.errors import RuleBookError, SettingsError
from hub.domain.rule_book import RuleBook

_MOST_SHOWN = 20


def add_to(rules: typer.Typer) -> None:
    rules.command("coverage")(show_coverage)


def show_coverage(
    procedure: Annotated[
        list[str] | None, typer.Option(help="Give it several times; default: all of them.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it too: an SVG file, by département.")] = None,
    rules: RulesFolder = None,
    as_json: AsJson = False,
) -> None:
    """What would be reached by submissions from each commune now, by the rule book in force (or the files
    of --rules, with the subscriptions in force)."""

    if picture is not None and picture.suffix.casefold() != ".svg":
        raise typer.BadParameter("a picture is an SVG file: name it so")

    async def work(ground: assembly.Ground) -> None:
        book = await _book(ground, rules)
        codes = tuple(dict.fromkeys(procedure or sorted(book.procedures)))
        told = await asyncio.to_thread(_surveyed, book, codes)
        if picture is not None:
            _draw(picture, told)
        if as_json:
            write_json([_as_json(one) for one in told])
            return
        _show_totals(told)
        for one in told if procedure or len(told) == 1 else ():
            _show_departements(one)
        if not procedure and len(told) > 1:
            say("by département, and which communes: hub rules coverage --procedure CODE")
        if picture is not None:
            say(f"drawn in {picture}")

    on_ground(work, with_rules(rules))


async def _book(ground: assembly.Ground, rules: Path | None) -> RuleBook:
    if rules is None:
        return (await ground.editions.snapshot()).book
    return await ground.imagined()


def _surveyed(book: RuleBook, procedures: Sequence[str]) -> Sequence[Coverage]:
    if not procedures:
        raise RuleBookError("the rule book has no procedure")
    for code in procedures:
        if code not in book.procedures:
            there = ", ".join(sorted(book.procedures))
            raise RuleBookError(f"the rule book has no procedure {code}; it has: {there}")
    now = datetime.now(UTC)
    return [coverage(code, book, now) for code in procedures]


def _draw(picture: Path, told: Sequence[Coverage]) -> None:
    try:
        picture.write_text(assembly.render_coverage(told), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{picture} cannot be written: {error.strerror}") from error


def _show_totals(told: Sequence[Coverage]) -> None:
    table = Table("procedure", "communes", "covered", "share", "would reach nobody", "people there")
    for one in told:
        table.add_row(one.procedure, *_figures(one.total))
    Console().print(table)
    for one in told:
        if one.left_out:
            say(
                f"{one.procedure}: {one.combinations} combinations of words were tried, {one.left_out} were not"
            )
        if one.stand_ins:
            said = ", ".join(f"{name} {value}" for name, value in sorted(one.stand_ins.items()))
            say(f"{one.procedure}: tried with {said}")


def _show_departements(told: Coverage) -> None:
    heads = ("communes", "covered", "share", "would reach nobody", "people there")
    table = Table("département", *heads, title=told.procedure)
    for one in told.departements:
        table.add_row(f"{one.code} {escape(one.name)}", *_figures(one.figures))
    Console().print(table)
    uncovered = told.uncovered
    if uncovered:
        say("not covered, the largest first:")
    for commune in sorted(uncovered, key=lambda one: -one.population)[:_MOST_SHOWN]:
        missing = f", misses {', '.join(commune.missing)}" if commune.missing else ""
        say(f"  {commune.code} {commune.name}: reaches {commune.reach}{missing}")
    if len(uncovered) > _MOST_SHOWN:
        say(f"  … {len(uncovered)} in all; --json tells each")


def _figures(told: Figures) -> tuple[str, ...]:
    return (
        f"{told.communes:,}",
        f"{told.covered:,}",
        _share(told),
        f"{told.nobody:,}",
        f"{told.population_nobody:,}",
    )


def _share(told: Figures) -> str:
    """As the picture says it: never 100 % while a commune is missing, nor 0 % while one is covered."""
    if not told.communes:
        return ""
    percent = 100 * told.covered // told.communes
    return "< 1 %" if percent == 0 and told.covered else f"{percent} %"


def _as_json(told: Coverage) -> Mapping[str, Any]:
    return {
        "procedure": told.procedure,
        "vintage": told.vintage,
        "at": told.at.isoformat(),
        "total": dataclasses.asdict(told.total),
        "departements": [
            {"code": one.code, "name": one.name, **dataclasses.asdict(one.figures)}
            for one in told.departements
        ],
        "uncovered": [commune._asdict() for commune in told.uncovered],
        "combinations": told.combinations,
        "left_out": told.left_out,
        "stand_ins": dict(told.stand_ins),
    }
