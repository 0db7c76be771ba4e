"""What commands share: settings, the opened store, and how a fault becomes a sentence and an exit code."""

from __future__ import annotations

import getpass
import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console

from hub import assembly
from hub.domain.errors import HubError
from hub.domain.identity import Subscriber
from hub.domain.partner import is_siret
from hub.settings import Settings
from hub.telemetry import logs

Result = TypeVar("Result")

Reason = Annotated[str, typer.Option(help="Why; it is kept.")]
RulesFolder = Annotated[
    Path | None, typer.Option("--rules", help="The rules folder; default: HUB_RULES, or what is installed.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]

_HERE = ZoneInfo("Europe/Paris")


def settings() -> Settings:
    """What the environment says; ends the command with 2 when it cannot be."""
    try:
        return Settings()
    except ValidationError as error:
        for found in error.errors(include_input=False, include_url=False, include_context=False):
            name = "_".join(str(part) for part in found["loc"]).upper()
            complain(f"HUB_{name}: {found['msg']}")
        raise typer.Exit(2) from None


def with_rules(folder: Path | None) -> Settings:
    """The settings, with another rules folder."""
    told = settings()
    return told if folder is None else told.model_copy(update={"rules": folder})


def on_ground(work: Callable[[assembly.Ground], Awaitable[Result]], told: Settings | None = None) -> Result:
    """`work` on the opened store; a running hub's own server is joined."""
    found = settings() if told is None else told
    logs.configure(found.log_format)

    async def carry() -> Result:
        async with assembly.ground(found, alone=False) as ground:
            return await work(ground)

    return carry_out(carry)


def carry_out(work: Callable[[], Awaitable[Result]]) -> Result:
    async def once() -> Result:
        return await work()

    return guarded(lambda: uvloop.run(once()))


def guarded(work: Callable[[], Result]) -> Result:
    """A fault is told as a sentence, and ends the command with 2."""
    try:
        return work()
    except (HubError, BaseExceptionGroup) as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if not isinstance(cause, HubError):
            raise
        complain(str(cause), style="red")
        raise typer.Exit(2) from None


def complain(sentence: str, style: str | None = None) -> None:
    Console(stderr=True, soft_wrap=True).print(sentence, markup=False, highlight=False, style=style)


def say(sentence: str) -> None:
    Console(soft_wrap=True).print(sentence, markup=False, highlight=False)


def report(faults: Iterable[str], well: str) -> None:
    """Each fault on a line of its own, and exit code 1; or that all is well."""
    found = list(faults)
    for sentence in found:
        complain(sentence)
    if found:
        raise typer.Exit(1)
    say(well)


def write_json(told: Any) -> None:
    print(json.dumps(told, ensure_ascii=False, default=str, indent=1))


def author() -> str:
    """Who gives an order, as the journal and the editions name them."""
    return f"operator:{getpass.getuser()}"


def subscriber(text: str) -> Subscriber:
    found = Subscriber.parse(text)
    if not is_siret(found.siret) or not found.branch:
        raise typer.BadParameter("a partner is named by its SIRET and its branch, with a dash between")
    return found


def day(text: str) -> date:
    """Raises BadParameter."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a day is written as 2026-01-31") from None


def instant(text: str) -> datetime:
    """A day (its midnight in Paris) or an instant; without a zone, it is Paris's. Raises BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("an instant is written as 2026-01-31 or 2026-01-31T14:30") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=_HERE)


def moment(at: datetime) -> str:
    """An instant for a person, in Paris. The first edition's is the beginning of the calendar."""
    if at.year < 1900:
        return "the beginning"
    return f"{at.astimezone(_HERE):%Y-%m-%d %H:%M:%S}"
