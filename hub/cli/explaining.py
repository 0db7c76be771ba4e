"""`hub rules explain`: who gets a submission, by which rule, subscription and territory step; who does not,
and why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hub import assembly
from hub.cli.shared import AsJson, RulesFolder, moment, on_ground, say, with_rules, write_json
from hub.domain.decisions import Recipient, Routed, Verdict
from hub.domain.differences import between_verdicts, outcome
from hub.domain.document import OfferedFile
from hub.domain.errors import Flaw, HubError, Invalid, Pruned, SettingsError
from hub.domain.explaining import Explanation, Look, explain
from hub.domain.facts import check
from hub.domain.rule_book import RuleBook
from hub.domain.submission import RoutingFacts
from hub.ports.views import Received
from hub.wire import read_id
from hub.wire.questions import NOBODY_S, read_question

_LARGEST = 1_000_000


def add_to(rules: typer.Typer) -> None:
    rules.command("explain")(explain_submission)


@dataclass(frozen=True, slots=True)
class _Book:
    book: RuleBook
    label: str


def explain_submission(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="FILE|ID",
            help="A JSON file with procedure, facts, perhaps files (their types) and received_at; or the id"
            " of a submission.",
        ),
    ],
    rules: RulesFolder = None,
    edition: Annotated[int | None, typer.Option(min=1, help="By this rule book.")] = None,
    as_json: AsJson = False,
) -> None:
    """Why a submission goes where it goes. Without --rules or --edition: by the rule book that decided it,
    or the one in force."""
    if rules is not None and edition is not None:
        raise typer.BadParameter("either --rules or --edition")

    async def work(ground: assembly.Ground) -> None:
        received = await _received(ground, asked)
        by = await _book(ground, received, rules, edition)
        if received.facts.submission == NOBODY_S:
            _check(asked, received.facts, by.book)
        told = explain(received.facts, by.book)
        if as_json:
            write_json(_as_json(received, told, by.label))
            return
        for line in _lines(received, told, by.label):
            say(line)

    on_ground(work, with_rules(rules))


async def _received(ground: assembly.Ground, asked: str) -> Received:
    name = read_id(asked)
    if name is None:
        return Received(await asyncio.to_thread(_question, Path(asked)), None, None)
    found = await ground.received.one(name)
    if found is None:
        raise HubError("there is no such submission")
    return found


def _question(path: Path) -> RoutingFacts:
    try:
        with path.open("rb") as file:
            body = file.read(_LARGEST + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if len(body) > _LARGEST:
        raise SettingsError(f"{path}: larger than {_LARGEST} bytes")
    try:
        return read_question(body, datetime.now(UTC))
    except Invalid as error:
        raise _flawed(path, error) from None


def _flawed(path: Path, error: Invalid) -> SettingsError:
    fields = (", ".join(flaw.field.split("/")[1:]) for flaw in error.flaws)
    told = zip(fields, error.flaws, strict=True)
    return SettingsError(
        "\n".join(f"{path}: {f'{field}: ' if field else ''}{flaw.detail}" for field, flaw in told)
    )


def _check(asked: str, facts: RoutingFacts, book: RuleBook) -> None:
    """Whether a submission could say this. Raises SettingsError."""
    procedure = book.procedures.get(facts.procedure)
    if procedure is None:
        there = ", ".join(sorted(book.procedures))
        raise SettingsError(f"{asked}: procedure: there is no such one here; there are: {there}")
    files = [OfferedFile(file.number, "", file.type, "", 0, "") for file in facts.attachments]
    try:
        check(procedure, facts.facts, files, book.territory)
    except Invalid as error:
        flaws = (
            Flaw(flaw.field.replace("/attachments/", "/files/").removesuffix("/type"), flaw.rule, flaw.detail)
            for flaw in error.flaws
        )
        raise _flawed(Path(asked), Invalid(*flaws)) from None


async def _book(
    ground: assembly.Ground, received: Received, rules: Path | None, edition: int | None
) -> _Book:
    if rules is not None:
        return _Book(await ground.imagined(), "the rule files")
    wanted = edition if edition is not None else received.snapshot or None
    try:
        snapshot = await ground.editions.snapshot(wanted)
    except Pruned:
        if edition is not None:
            raise
        # What was decided by it stays written; why can only be told by what is here.
        snapshot = await ground.editions.snapshot()
    return _Book(snapshot.book, f"rule book {snapshot.number}")


# --- for a person -------------------------------------------------------------------------------------


def _lines(received: Received, told: Explanation, label: str) -> Iterator[str]:
    facts = received.facts
    yield f"{facts.procedure}, received {moment(facts.received_at)} (Paris)"
    if received.verdict is not None:
        yield f"decided then, by rule book {received.snapshot}: {_came_to(received.verdict)}"
        yield from _recipients(received.verdict)
        if between_verdicts(received.verdict, told.verdict) is None:
            yield f"by {label}: the same"
        else:
            yield f"by {label}, it would be otherwise: {_came_to(told.verdict)}"
            yield from _recipients(told.verdict)
    else:
        yield f"by {label}: {_came_to(told.verdict)}"
        yield from _recipients(told.verdict)
    yield "rule by rule:"
    for rule in told.rules:
        yield f"  {rule.rule}: {rule.sentence}"
        yield from (f"    {_look(look)}" for look in rule.looked)


def _look(look: Look) -> str:
    where = () if look.place is None else (look.place,)
    who = look.subscription or look.subscriber
    what = look.why_not or "chosen"
    return ": ".join((*where, *(() if who is None else (who,)), what))


def _came_to(verdict: Verdict) -> str:
    if isinstance(verdict, Routed):
        count = len(verdict.recipients)
        return f"{count} recipient{'s' if count > 1 else ''}"
    return outcome(verdict)


def _recipients(verdict: Verdict) -> Iterator[str]:
    for one in verdict.recipients if isinstance(verdict, Routed) else ():
        files = ", ".join(map(str, one.attachments)) or "none"
        by_mailbox = ", by its mailbox" if one.mailbox else ""
        yield f"  {one.subscriber}, files {files}{by_mailbox}"
        for reason in one.reasons:
            way = ", ".join((*reason.steps, *((reason.subscription,) if reason.subscription else ())))
            yield f"    by {reason.rule}{': ' if way else ''}{way}"


# --- for programs -------------------------------------------------------------------------------------


def _as_json(received: Received, told: Explanation, label: str) -> Mapping[str, Any]:
    decided = received.verdict
    return {
        "procedure": received.facts.procedure,
        "received_at": received.facts.received_at.isoformat(),
        "decided": None if decided is None else {"rule_book": received.snapshot, **_verdict(decided)},
        "explained_by": label,
        **_verdict(told.verdict),
        "rules": [
            {
                "rule": rule.rule,
                "recipient": rule.recipient,
                "sentence": rule.sentence,
                "looked": [
                    {
                        "place": look.place,
                        "subscriber": look.subscriber,
                        "subscription": look.subscription,
                        "why_not": look.why_not,
                    }
                    for look in rule.looked
                ],
            }
            for rule in told.rules
        ],
    }


def _verdict(verdict: Verdict) -> Mapping[str, Any]:
    recipients = verdict.recipients if isinstance(verdict, Routed) else ()
    return {"outcome": outcome(verdict), "recipients": [_recipient(one) for one in recipients]}


def _recipient(one: Recipient) -> Mapping[str, Any]:
    return {
        "subscriber": str(one.subscriber),
        "files": list(one.attachments),
        "mailbox": one.mailbox,
        "reasons": [reason._asdict() for reason in one.reasons],
    }
