"""`hub territory …`: the vintages of the official places beside the rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hub import assembly
from hub.cli.shared import RulesFolder, carry_out, complain, guarded, say, with_rules
from hub.domain.errors import RuleBookError, SettingsError
from hub.domain.territory import Place
from hub.domain.territory_changes import TerritoryChanges, differences
from hub.settings import Settings

_MOST_SHOWN = 20


def commands() -> typer.Typer:
    territory = typer.Typer(help="The official places, by vintage.", no_args_is_help=True)
    territory.command("list")(list_vintages)
    territory.command("update")(update)
    return territory


def list_vintages(rules: RulesFolder = None) -> None:
    """The vintages beside the rules; `hub rules apply` uses the newest."""
    folder = assembly.rules_folder(with_rules(rules))
    table = Table("vintage", "package", "dated", "places")
    for vintage in guarded(lambda: assembly.list_vintages(folder)):
        table.add_row(vintage.name, vintage.version, vintage.dated, f"{vintage.rows:,}")
    Console().print(table)


def update(
    tarball: Annotated[Path | None, typer.Argument(help="The npm package as a file.")] = None,
    npm: Annotated[str | None, typer.Option("--npm", help="Or its version, fetched with npm.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where this vintage is here with other rows.")
    ] = False,
    rules: RulesFolder = None,
) -> None:
    """Take in another vintage, and say what it changes. What is in force stays until `hub rules apply`."""
    if (tarball is None) == (npm is None):
        raise typer.BadParameter("either a file or --npm VERSION")
    told = with_rules(rules)
    folder = assembly.rules_folder(told)

    def work() -> TerritoryChanges | None:
        before = assembly.list_vintages(folder)
        package = _package(tarball, npm)
        try:
            done = assembly.update_territory(folder, package, replace)
        except RuleBookError as error:
            raise RuleBookError(f"{tarball if npm is None else npm}: {error}") from error
        word = "was taken in" if done.written else "is here already, with the same rows"
        say(f"vintage {done.vintage.name} {word}: {done.vintage.path}")
        newest = assembly.list_vintages(folder)[-1].name
        if newest != done.vintage.name:
            say(f"hub rules apply uses the newest vintage, {newest}: this one stays beside it, unused")
        if not done.written or not before or newest != done.vintage.name:
            return None
        old = assembly.load_territory(before[-1].path)
        say(f"from vintage {before[-1].name} to {done.vintage.name}:")
        return differences(old, done.territory)

    changes = guarded(work)
    if changes is not None:
        _show(changes)
        _show_wishes(told, changes)
        say("to put it in force: hub rules apply --reason …")


def _package(tarball: Path | None, npm: str | None) -> bytes:
    if npm is not None:
        return assembly.fetched(npm)
    assert tarball is not None  # asked for above
    try:
        return tarball.read_bytes()
    except OSError as error:
        raise SettingsError(f"{tarball} cannot be read: {error.strerror}") from error


def _show(changes: TerritoryChanges) -> None:
    _show_lines(
        f"{len(changes.gone)} places are gone",
        (f"{one.place} {one.name} → {_places(one.now)}" for one in changes.gone),
    )
    _show_lines(
        f"{len(changes.arrived)} places are new",
        (f"{one.place} {one.name} ← {_places(one.was)}" for one in changes.arrived),
    )
    _show_lines(
        f"{len(changes.moved)} communes changed their EPCI",
        (f"{one.commune} {one.name}: {one.was or 'none'} → {one.now or 'none'}" for one in changes.moved),
    )


def _show_lines(label: str, lines: Iterable[str]) -> None:
    say(label)
    for number, line in enumerate(lines):
        if number == _MOST_SHOWN:
            say("  …")
            return
        say(f"  {line}")


def _places(places: Iterable[Place]) -> str:
    return ", ".join(map(str, places)) or "nothing"


def _show_wishes(told: Settings, changes: TerritoryChanges) -> None:
    """Subscriptions in force whose place is gone, where there is a store."""
    if not assembly.has_store(told):
        return
    gone = {one.place: one for one in changes.gone}

    async def look() -> list[str]:
        async with assembly.ground(told, alone=False) as ground:
            if not await ground.editions.history(1):
                return []
            book = (await ground.editions.snapshot()).book
            return [
                f"{name} → {_places(gone[one.place].now)}"
                for name, one in sorted(book.subscriptions.items())
                if one.place in gone
            ]

    found = carry_out(look)
    if found:
        complain(f"{len(found)} subscriptions in force are for a place that is gone:")
        for line in found[:_MOST_SHOWN]:
            complain(f"  {line}")
