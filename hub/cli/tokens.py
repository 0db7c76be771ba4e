"""`hub tokens …`: who may knock at the HTTP door."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hub import assembly
from hub.cli.shared import on_ground, say
from hub.cli.shared import subscriber as named
from hub.domain.errors import HubError
from hub.ports.tokens import Identity, OperatorIdentity, PartnerIdentity, Role, SenderIdentity

Lifetime = Annotated[int, typer.Option("--days", help="Days until it expires.", min=1, max=3650)]


def commands() -> typer.Typer:
    tokens = typer.Typer(help="Who may knock at the HTTP door.", no_args_is_help=True)
    create = typer.Typer(help="Make a token and print it, once.", no_args_is_help=True)
    tokens.add_typer(create, name="create")
    create.command("sender")(create_sender)
    create.command("partner")(create_partner)
    create.command("operator")(create_operator)
    tokens.command("list")(list_tokens)
    tokens.command("revoke")(revoke_token)
    return tokens


def create_sender(
    name: str,
    procedure: Annotated[list[str], typer.Option(help="A procedure it may post; give it several times.")],
    days: Lifetime = 365,
) -> None:
    """For a form site that posts submissions."""
    _create([SenderIdentity(name, frozenset(procedure))], days)


def create_partner(subscribers: list[str], days: Lifetime = 365) -> None:
    """For partners (SIRET-branch) that read their mailbox; a line for each, in order."""
    _create([PartnerIdentity(named(subscriber)) for subscriber in subscribers], days)


def create_operator(name: str, role: Role = Role.READER, days: Lifetime = 90) -> None:
    """For a person who watches or replays."""
    _create([OperatorIdentity(name, role)], days)


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

    on_ground(read)


def revoke_token(id: str) -> None:
    """From now on nobody gets in with it."""

    async def revoke(ground: assembly.Ground) -> None:
        if not await ground.tokens.revoke(id):
            raise HubError("there is no such token")
        say("revoked")

    on_ground(revoke)


def _create(identities: Sequence[Identity], days: int) -> None:
    async def create(ground: assembly.Ground) -> None:
        for identity in identities:
            print(await ground.tokens.create(identity, timedelta(days=days)))

    on_ground(create)


def _owner(identity: Identity) -> str:
    match identity:
        case SenderIdentity(sender=sender, procedures=procedures):
            return f"sender {sender} ({', '.join(sorted(procedures))})"
        case PartnerIdentity(subscriber=subscriber):
            return f"partner {subscriber}"
        case OperatorIdentity(name=name, role=role):
            return f"{role} {name}"
