"""`hub partners fields` and `hub partners test`: what a channel asks of an endpoint, and an endpoint tried."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub import assembly
from hub.cli.shared import AsJson, guarded, on_ground, say, write_json
from hub.cli.shared import subscriber as named
from hub.domain.errors import SettingsError
from hub.domain.fields import Field
from hub.domain.trials import StepState, Trial
from hub.wire.fields import form, schema, table
from hub.wire.trials import trial_answers


def add_to(partners: typer.Typer) -> None:
    partners.command("fields")(fields)
    partners.command("test")(try_out)


class Language(StrEnum):
    FR = "fr"
    EN = "en"


Lang = Annotated[Language, typer.Option("--lang", help="Of what is told.")]


def fields(
    channel: Annotated[str | None, typer.Argument(help="Default: all of them.")] = None,
    lang: Lang = Language.FR,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="For the connectors' README.")] = False,
) -> None:
    """What a channel asks of an endpoint: its settings and secrets; with --json, its JSON Schema too."""
    known = guarded(assembly.channel_fields)
    if channel is not None and channel not in known:
        raise typer.BadParameter(f"there is no such channel here; one of: {', '.join(sorted(known))}")
    wanted = sorted(known) if channel is None else [channel]
    if as_json:
        write_json(
            [
                {"channel": one, "fields": form(known[one]), "schema": schema(one, known[one])}
                for one in wanted
            ]
        )
        return
    if markdown:
        print("\n\n".join("\n".join((f"### `{one}`", "", *table(known[one]))) for one in wanted))
        return
    for one in wanted:
        told = Table("field", "kind", "", "", title=one, title_justify="left")
        for field in known[one]:
            told.add_row(field.name, field.kind, _needed(field), escape(getattr(field, lang)))
        if known[one]:
            Console().print(told)
        else:
            say(f"{one}: nothing is asked")


def _needed(field: Field) -> str:
    told = ["secret"] if field.secret else []
    if field.required:
        told.append("needed")
    elif field.unless:
        told.append(f"needed without {' or '.join(field.unless)}")
    return ", ".join(told)


def try_out(
    partner: Annotated[str, typer.Argument(metavar="PARTNER", help="SIRET-branch")],
    send: Annotated[
        bool, typer.Option("--send", help="Send a webhook a signed ping, which its server sees.")
    ] = False,
    limit: Annotated[float, typer.Option(min=1, max=120, help="Seconds to wait for a silent server.")] = 15,
    lang: Lang = Language.FR,
    as_json: AsJson = False,
) -> None:
    """Try its endpoint, as a parcel would meet it, without one: name, address, encryption, key, login, rights, room.
    Nothing stays there. Ends with 1 when something is wrong."""
    subscriber = named(partner)

    async def work(ground: assembly.Ground) -> Sequence[Trial]:
        async with assembly.trial_room(ground) as room:
            trials = await room.try_out(subscriber, limit, send=send)
            if trials is None:
                raise SettingsError(f"{subscriber} is no partner: import it first")
            return trials

    trials = on_ground(work)
    if as_json:
        write_json([one.model_dump(mode="json") for one in trial_answers(trials)])
    else:
        for one in trials:
            say(_TITLES[lang][one.notice].format(channel=one.channel))
            for step in one.steps:
                cause = f" [{step.cause}]" if step.cause else ""
                say(f"  {_SIGNS[step.state]} {getattr(step, lang)}{cause}")
    if not all(one.is_well for one in trials):
        raise typer.Exit(1)


_SIGNS = {StepState.WELL: "✓", StepState.WRONG: "✗", StepState.NOTED: "–"}
_TITLES = {
    Language.FR: ("Point de remise ({channel})", "Avis de repli ({channel})"),
    Language.EN: ("Endpoint ({channel})", "Notices ({channel})"),
}
