"""What commands share: settings, the opened store, and how a fault becomes a sentence and an exit code."""

from __future__ import annotations

import getpass
import json
import re
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Iterable
from datetime import date, datetime, time
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
from hub.settings import Settings, WrittenSettings
from hub.telemetry import logs

Result = TypeVar("Result")


def reason_given(told: str | None) -> str | None:
    """As it is kept: one line that can be printed and says something. Raises BadParameter."""
    if told is None:
        return None
    text = told.strip()
    if not 3 <= len(text) <= 500 or printable(text) != text or "\n" in text:
        raise typer.BadParameter("say why, in 3 to 500 signs that can be printed, on one line")
    return text


Reason = Annotated[str, typer.Option(help="Why; it is kept.", callback=reason_given)]
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
        _complain_of(error, "")
        raise typer.Exit(2) from None


def written_settings(path: Path) -> Settings:
    """What a file says, whatever the environment does; ends the command with 2 when it cannot be."""
    try:
        return WrittenSettings.read(path)
    except ValidationError as error:
        _complain_of(error, f"{path}: ")
    except OSError as error:
        complain(f"{path} cannot be read: {error.strerror}")
    except ValueError:
        complain(f"{path} is no file of lines HUB_NAME=value")
    raise typer.Exit(2) from None


def _complain_of(error: ValidationError, where: str) -> None:
    for found in error.errors(include_input=False, include_url=False, include_context=False):
        name = "_".join(str(part) for part in found["loc"]).upper()
        complain(f"{where}HUB_{name}: {found['msg']}")


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
    console = Console(stderr=True, soft_wrap=True)
    console.print(printable(sentence), markup=False, highlight=False, style=style)


def say(sentence: str) -> None:
    Console(soft_wrap=True).print(printable(sentence), markup=False, highlight=False)


def printable(text: str) -> str:
    """What comes from files and arguments gives no orders to the terminal."""
    return "".join(sign if sign.isprintable() or _is_blank(sign) else "?" for sign in text)


def _is_blank(sign: str) -> bool:
    """The spaces of French typography are none that Python prints."""
    return sign == "\n" or unicodedata.category(sign) == "Zs"


MOST_FAULTS = 50


def report(faults: Iterable[str], well: str) -> None:
    """Each fault on a line of its own (the first fifty), and exit code 1; or that all is well."""
    found = list(faults)
    for sentence in found[:MOST_FAULTS]:
        complain(sentence)
    if len(found) > MOST_FAULTS:
        complain(f"… and {len(found) - MOST_FAULTS} more")
    if found:
        raise typer.Exit(1)
    say(well)


def write_json(told: Any) -> None:
    """Where the terminal cannot write every sign, those are written as JSON may."""
    everywhere = (sys.stdout.encoding or "").casefold().replace("-", "") == "utf8"
    print(json.dumps(told, ensure_ascii=not everywhere, default=str, indent=1))


def author() -> str:
    """Who gives an order, as the journal and the editions name them."""
    return f"operator:{getpass.getuser()}"


def subscriber(text: str) -> Subscriber:
    """Raises BadParameter."""
    if not _NUMBER.fullmatch(text):
        raise typer.BadParameter("a partner is named by its SIRET and its branch, with a dash between")
    found = Subscriber.parse(text)
    if not is_siret(found.siret):
        raise typer.BadParameter("the check sum of this SIRET is wrong; look for a mistyped digit")
    return found


_NUMBER = re.compile(r"[0-9]{14}-[0-9A-Za-z]{1,10}", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?", re.ASCII)
_FIRST_YEAR, _LAST_YEAR = 1900, 2199
"""A year outside is a typing error; and instants far away overflow when they change their time zone."""


def day(text: str) -> date:
    """Raises BadParameter."""
    if not _DAY.fullmatch(text):
        raise typer.BadParameter("a day is written as 2026-01-31")
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("there is no such day in the calendar") from None
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise typer.BadParameter(f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}")
    return found


def instant(text: str) -> datetime:
    """A day (its midnight in Paris) or an instant; without a zone, it is Paris's. Raises BadParameter."""
    begun, sign, rest = text.partition("T")
    on = day(begun)
    if not sign:
        return datetime.combine(on, time(), _HERE)
    try:
        if not _TIME.fullmatch(rest):
            raise ValueError
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("an instant is written as 2026-01-31 or 2026-01-31T14:30") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=_HERE)


def moment(at: datetime) -> str:
    """An instant for a person, in Paris. The first edition's is the beginning of the calendar."""
    if at.year < 1900:
        return "the beginning"
    return f"{at.astimezone(_HERE):%Y-%m-%d %H:%M:%S}"
