"""`hub rules check`, `apply`, `rollback`, `diff` and `history`: the rule book in force, and changing it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub import assembly
from hub.cli.shared import (
    MOST_FAULTS,
    AsJson,
    Reason,
    RulesFolder,
    author,
    carry_out,
    complain,
    moment,
    on_ground,
    say,
    with_rules,
    write_json,
)
from hub.cli.shown import as_json as differences_as_json
from hub.cli.shown import show
from hub.domain.errors import HubError
from hub.domain.review import Finding, Severity
from hub.services.editions import Proposal

_MOST_SHOWN = 20
_EVERYTHING = sys.maxsize

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def add_to(rules: typer.Typer) -> None:
    rules.command()(check)
    rules.command()(apply)
    rules.command()(rollback)
    rules.command()(diff)
    rules.command()(history)


# --- checking -----------------------------------------------------------------------------------------


def check(
    rules: RulesFolder = None,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Do not look at the store's subscriptions and partners.")
    ] = False,
) -> None:
    """Check the rules and the cases beside them; with the subscriptions in force, where there is a store."""
    told = with_rules(rules)

    async def look() -> tuple[Sequence[Finding], bool]:
        if files_only or not assembly.has_store(told):
            return await asyncio.to_thread(assembly.findings, told), False
        async with assembly.ground(told, alone=False) as ground:
            found, _ = await ground.propose()
            return found, True

    found, with_store = carry_out(look)
    _show_findings(found)
    if any(one.severity is Severity.FAULT for one in found):
        raise typer.Exit(1)
    say("the rules and their cases hold" + (", with the subscriptions in force" if with_store else ""))


def _show_findings(found: Sequence[Finding]) -> None:
    faults = [one.sentence for one in found if one.severity is Severity.FAULT]
    for sentence in faults[:MOST_FAULTS]:
        complain(sentence)
    if len(faults) > MOST_FAULTS:
        complain(f"… and {len(faults) - MOST_FAULTS} more faults")
    warnings = [one for one in found if one.severity is Severity.WARNING]
    if warnings:
        complain(
            f"{len(warnings)} warnings, which stop nothing:"
            if len(warnings) > 1
            else "a warning, which stops nothing:"
        )
    for one in warnings[:_MOST_SHOWN]:
        complain(f"  {one.sentence}")
    if len(warnings) > _MOST_SHOWN:
        complain(f"  … and {len(warnings) - _MOST_SHOWN} more")


# --- changing -----------------------------------------------------------------------------------------


def apply(reason: Reason, rules: RulesFolder = None, yes: Yes = False) -> None:
    """Make these rules the rule book in force; subscriptions and successions stay as they are."""
    told = with_rules(rules)

    async def work(ground: assembly.Ground) -> None:
        found, proposal = await ground.propose()
        _show_findings(found)
        if proposal is None:
            complain("nothing was changed: what is in force stays in force", style="red")
            raise typer.Exit(1)
        await _publish(ground, proposal, reason, yes)

    on_ground(work, told)


def rollback(
    reason: Reason,
    to: Annotated[int | None, typer.Option(min=1, help="Default: the one before the newest.")] = None,
    rules_only: Annotated[
        bool, typer.Option("--rules-only", help="Leave subscriptions and successions as they are.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Publish a new edition that says what an earlier one said."""

    async def work(ground: assembly.Ground) -> None:
        proposal = await ground.editions.propose_back(to, rules_only=rules_only)
        await _publish(ground, proposal, reason, yes)

    on_ground(work)


async def _publish(ground: assembly.Ground, proposal: Proposal, reason: str, yes: bool) -> None:
    if proposal.changes_nothing:
        say(f"rule book {proposal.based_on} says this already; nothing was changed")
        return
    show(proposal.differences, _MOST_SHOWN)
    if not yes and not _agreed():
        say("nothing was changed")
        raise typer.Exit(1)
    edition = await ground.editions.publish(proposal, author(), reason)
    say(f"rule book {edition.number} is in force from {moment(edition.effective_from)} (Paris)")


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise HubError("nobody is here to be asked: say --yes")
    return typer.confirm("Publish this?")


# --- looking ------------------------------------------------------------------------------------------


def diff(
    old: Annotated[int | None, typer.Argument(min=1, metavar="[A]")] = None,
    new: Annotated[int | None, typer.Argument(min=1, metavar="[B]")] = None,
    rules: RulesFolder = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every line.")] = False,
    as_json: AsJson = False,
) -> None:
    """What differs from edition A to edition B (default: the newest); without any, from the newest edition
    to the rule files."""
    told = with_rules(rules)

    async def work(ground: assembly.Ground) -> None:
        if old is None or rules is not None:
            files = await asyncio.to_thread(assembly.declared_rules, told)
            number, found = await ground.editions.rules_differ(files.rule_items(), old)
            between = f"from rule book {number} to the files"
        else:
            to = (await ground.editions.newest()).number if new is None else new
            found = await ground.editions.between(old, to)
            between = f"from rule book {old} to rule book {to}"
        if as_json:
            write_json(differences_as_json(found))
            return
        say(between if found else f"{between}: no difference")
        show(found, _EVERYTHING if everything else _MOST_SHOWN)

    if new is not None and rules is not None:
        raise typer.BadParameter("compare two editions, or one with a folder")
    on_ground(work, told)


def history(
    most: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    as_json: AsJson = False,
) -> None:
    """The editions of the rule book, the newest first."""

    async def work(ground: assembly.Ground) -> None:
        editions = await ground.editions.history(most)
        if as_json:
            write_json(
                [
                    {
                        "number": edition.number,
                        "effective_from": edition.effective_from.isoformat(),
                        "published_at": edition.published_at.isoformat(),
                        "author": edition.author,
                        "reason": edition.reason,
                        "pruned": edition.pruned,
                    }
                    for edition in editions
                ]
            )
            return
        table = Table("number", "in force from", "author", "reason", "")
        for edition in editions:
            table.add_row(
                str(edition.number),
                moment(edition.effective_from),
                escape(edition.author),
                escape(edition.reason),
                "gone" if edition.pruned else "",
            )
        Console().print(table)

    on_ground(work)
