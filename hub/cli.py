"""The command line: `hub …`. It reads settings, calls the assembly, and prints for a person.

Exit codes: 0 all is well; 1 something is not accounted for, or a check found a fault; 2 it could not be
tried.
"""

from __future__ import annotations

import asyncio
import dataclasses
import getpass
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID, uuid4

import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from hub import assembly
from hub.domain.errors import HubError
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.partner import is_siret
from hub.ports.store import Accounts, Selection
from hub.ports.tokens import Identity, OperatorIdentity, PartnerIdentity, Role, SenderIdentity
from hub.ports.views import DeliveryFilter
from hub.services.reconciliation import ReconciliationRoom
from hub.settings import Settings
from hub.telemetry import logs

Result = TypeVar("Result")

app = typer.Typer(
    name="hub", help="The exchange hub.", no_args_is_help=True, pretty_exceptions_show_locals=False
)
rules_app = typer.Typer(help="The rule book.", no_args_is_help=True)
tokens_app = typer.Typer(help="Who may knock at the HTTP door.", no_args_is_help=True)
create_app = typer.Typer(help="Make a token and print it, once.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")
app.add_typer(tokens_app, name="tokens")
tokens_app.add_typer(create_app, name="create")

Lifetime = Annotated[int, typer.Option("--days", help="Days until it expires.", min=1, max=3650)]


def main() -> None:
    app()


# --- running ------------------------------------------------------------------------------------------


@app.command()
def run() -> None:
    """Start the hub in the foreground; it stops cleanly on SIGTERM or SIGINT."""
    settings = _settings()
    logs.configure(settings.log_format)

    async def serve() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await assembly.run(settings, stopping, _announce)

    _carry_out(serve)


def _announce(running: assembly.Running) -> None:
    out = Console()
    if running.notice:
        out.print(running.notice)
    out.print(f"The hub answers at [bold]{running.url}[/bold] (rule book {running.snapshot}).")
    out.print(f"  description  {running.url}/openapi.json")
    out.print(f"  health       {running.url}/readyz    metrics {running.url}/metrics")
    out.print("  tokens       hub tokens create sender NAME --procedure CODE")


@app.command()
def check() -> None:
    """Validate settings, rules and partners without starting anything."""
    settings = _settings()
    found = _guarded(lambda: assembly.faults(settings))
    _report(found, "settings, rules and partners are in order")


@rules_app.command("check")
def rules_check() -> None:
    """Check the rules and the cases beside them."""
    settings = _settings().model_copy(update={"partners": None})
    _report(_guarded(lambda: assembly.faults(settings)), "the rules and their cases hold")


def _report(found: list[str], well: str) -> None:
    for sentence in found:
        Console(stderr=True).print(sentence, markup=False, highlight=False)
    if found:
        raise typer.Exit(1)
    Console().print(well)


# --- tokens -------------------------------------------------------------------------------------------


@create_app.command("sender")
def create_sender(
    name: str,
    procedure: Annotated[list[str], typer.Option(help="A procedure it may post; give it several times.")],
    days: Lifetime = 365,
) -> None:
    """For a form site that posts submissions."""
    _create([SenderIdentity(name, frozenset(procedure))], days)


@create_app.command("partner")
def create_partner(subscribers: list[str], days: Lifetime = 365) -> None:
    """For partners (SIRET-branch) that read their mailbox; a line for each, in order."""
    _create([PartnerIdentity(_subscriber(subscriber)) for subscriber in subscribers], days)


@create_app.command("operator")
def create_operator(name: str, role: Role = Role.READER, days: Lifetime = 90) -> None:
    """For a person who watches or replays."""
    _create([OperatorIdentity(name, role)], days)


@tokens_app.command("list")
def list_tokens() -> None:
    """Tokens with their owner, expiry and last use; never the tokens themselves."""

    async def read(ground: assembly.Ground) -> None:
        table = Table("id", "owner", "expires", "last used", "revoked")
        for token in await ground.tokens.list():
            table.add_row(
                token.id,
                _owner(token.identity),
                f"{token.expires_at:%Y-%m-%d}",
                "never" if token.last_used_at is None else f"{token.last_used_at:%Y-%m-%d %H:%M}",
                "" if token.revoked_at is None else f"{token.revoked_at:%Y-%m-%d %H:%M}",
            )
        Console().print(table)

    _on_ground(read)


@tokens_app.command("revoke")
def revoke_token(id: str) -> None:
    """From now on nobody gets in with it."""

    async def revoke(ground: assembly.Ground) -> None:
        if not await ground.tokens.revoke(id):
            raise HubError("there is no such token")
        Console().print("revoked")

    _on_ground(revoke)


def _create(identities: Sequence[Identity], days: int) -> None:
    async def create(ground: assembly.Ground) -> None:
        for identity in identities:
            print(await ground.tokens.create(identity, timedelta(days=days)))

    _on_ground(create)


def _owner(identity: Identity) -> str:
    match identity:
        case SenderIdentity(sender=sender, procedures=procedures):
            return f"sender {sender} ({', '.join(sorted(procedures))})"
        case PartnerIdentity(subscriber=subscriber):
            return f"partner {subscriber}"
        case OperatorIdentity(name=name, role=role):
            return f"{role} {name}"


# --- operating ----------------------------------------------------------------------------------------


@app.command()
def deliveries(
    state: Annotated[State | None, typer.Option()] = None,
    procedure: Annotated[str | None, typer.Option()] = None,
    cause: Annotated[str | None, typer.Option()] = None,
    partner: Annotated[str | None, typer.Option(help="SIRET-branch")] = None,
    most: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """What is parked, grouped by cause; and the deliveries that a filter chooses."""
    where = DeliveryFilter(
        state=state,
        procedure=procedure,
        cause=cause,
        subscriber=None if partner is None else _subscriber(partner),
    )

    async def read(ground: assembly.Ground) -> None:
        groups = Table(
            "cause", "channel", "deliveries", "partners", "first", "last", title="Parked, by cause"
        )
        for group in await ground.views.parked():
            groups.add_row(
                group.cause,
                group.channel,
                str(group.deliveries),
                str(group.partners),
                f"{group.first_at:%Y-%m-%d %H:%M}",
                f"{group.last_at:%Y-%m-%d %H:%M}",
            )
        Console().print(groups)
        if where == DeliveryFilter():
            return
        found = Table("delivery", "submission", "procedure", "partner", "channel", "state", "cause")
        for item in (await ground.views.deliveries(where, None, most)).items:
            found.add_row(
                str(item.id),
                str(item.submission),
                item.procedure,
                item.partner,
                item.channel,
                item.state,
                item.cause or "",
            )
        Console().print(found)

    _on_ground(read)


@app.command()
def replay(
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    cause: Annotated[str | None, typer.Option()] = None,
    procedure: Annotated[str | None, typer.Option()] = None,
    channel: Annotated[str | None, typer.Option()] = None,
    partner: Annotated[str | None, typer.Option(help="SIRET-branch")] = None,
    delivery: Annotated[list[UUID] | None, typer.Option()] = None,
) -> None:
    """Send parked deliveries again; the running hub carries it out."""
    if not any((cause, procedure, channel, partner, delivery)):
        raise typer.BadParameter("say which: at least one of cause, procedure, channel, partner, delivery")
    selection = Selection(
        deliveries=tuple(delivery) if delivery else None,
        subscriber=None if partner is None else _subscriber(partner),
        channel=channel,
        procedure=procedure,
        cause=cause,
    )

    async def begin(ground: assembly.Ground) -> None:
        begun = await ground.replays.begin(uuid4(), selection, f"operator:{getpass.getuser()}", reason)
        Console().print(f"replay {begun.id}: {begun.matched} deliveries will be sent again")

    _on_ground(begin)


@app.command()
def reconcile(
    as_json: Annotated[Path | None, typer.Option("--json", help="Write it there too, for programs.")] = None,
) -> None:
    """Is everything accounted for? Prints both equations; exits with 1 if anything is not."""

    async def read(ground: assembly.Ground) -> bool:
        accounts, differences = await ReconciliationRoom(ground.ledger).read()
        if as_json is not None:
            told = {"accounts": dataclasses.asdict(accounts), "differences": differences}
            as_json.write_text(json.dumps(told, default=str) + "\n", encoding="utf-8")
        for table in account_tables(accounts):
            Console().print(table)
        for sentence in differences:
            Console().print(sentence, markup=False, highlight=False, style="red")
        return not differences

    if not _on_ground(read):
        raise typer.Exit(1)


def account_tables(accounts: Accounts) -> tuple[Table, Table]:
    """The two equations, line by line."""
    submissions = Table(
        "procedure",
        "accepted",
        "=",
        "routed",
        "unroutable",
        "set aside",
        "not yet routed",
        title="Submissions",
    )
    for line in accounts.submissions:
        numbers = (line.routed, line.unroutable, line.set_aside, line.undecided)
        submissions.add_row(line.procedure, str(line.accepted), "=", *map(str, numbers))
    used = [state for state in State if any(line.states.get(state) for line in accounts.deliveries)]
    deliveries = Table("procedure", "channel", "named", "=", *used, title="Deliveries")
    for told in accounts.deliveries:
        states = (str(told.states.get(state, 0)) for state in used)
        deliveries.add_row(told.procedure, told.channel, str(told.named), "=", *states)
    return submissions, deliveries


# --- small --------------------------------------------------------------------------------------------


def _subscriber(text: str) -> Subscriber:
    found = Subscriber.parse(text)
    if not is_siret(found.siret) or not found.branch:
        raise typer.BadParameter("a partner is named by its SIRET and its branch, with a dash between")
    return found


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        for found in error.errors(include_input=False, include_url=False, include_context=False):
            name = "_".join(str(part) for part in found["loc"]).upper()
            Console(stderr=True).print(f"HUB_{name}: {found['msg']}", markup=False)
        raise typer.Exit(2) from None


def _on_ground(work: Callable[[assembly.Ground], Awaitable[Result]]) -> Result:
    settings = _settings()
    logs.configure(settings.log_format)

    async def carry() -> Result:
        async with assembly.ground(settings, alone=False) as ground:
            return await work(ground)

    return _carry_out(carry)


def _carry_out(work: Callable[[], Awaitable[Result]]) -> Result:
    async def once() -> Result:
        return await work()

    return _guarded(lambda: uvloop.run(once()))


def _guarded(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except (HubError, BaseExceptionGroup) as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if not isinstance(cause, HubError):
            raise
        Console(stderr=True).print(str(cause), markup=False, highlight=False, style="red")
        raise typer.Exit(2) from None


if __name__ == "__main__":
    main()
