"""`hub keys …`: the hub's own key, and its rotation."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hub import assembly
from hub.cli.shared import AsJson, complain, on_ground, say, write_json

_TELL_EVERY = 50_000


def commands() -> typer.Typer:
    keys = typer.Typer(help="The hub's own key, and its rotation.", no_args_is_help=True)
    keys.command("list")(list_keys)
    keys.command("rotate")(rotate)
    keys.command("forget")(forget)
    return keys


def list_keys(as_json: AsJson = False) -> None:
    """The keys by their ids, and how much is wrapped under each; never a key."""

    async def work(ground: assembly.Ground) -> bool:
        found = await ground.rotation.standing()
        if as_json:
            write_json(
                [
                    {"id": one.id.hex(), "newest": one.newest, "known": one.known, "wrapped": one.wrapped}
                    for one in found
                ]
            )
        else:
            table = Table("key", "", "wrapped under it")
            for one in found:
                stands = "newest" if one.newest else "known" if one.known else "unknown here"
                table.add_row(one.id.hex(), stands, str(one.wrapped))
            Console().print(table)
        return all(one.known for one in found)

    if not on_ground(work):
        raise typer.Exit(1)


def rotate(
    everywhere: Annotated[
        bool,
        typer.Option("--everywhere", help="Every process of the hub has the new key: use it."),
    ] = False,
) -> None:
    """Make a new key of the hub, and wrap anew what is wrapped under the old one. The hub goes on meanwhile. What was
    begun is gone on with; the old key stays until `hub keys forget`."""
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        if done - told >= _TELL_EVERY:
            told = done
            say(f"{done} so far")

    async def work(ground: assembly.Ground) -> bool:
        done = await ground.rotation.rotate(everywhere=everywhere, told=tell)
        if done.announced:
            say(
                f"there is a new key in {ground.settings.key_file}, and it is not used yet: give this file to every"
                " process of the hub (none needs to be started again), then rotate with --everywhere"
            )
            return True
        say(f"{done.done} keys are wrapped anew, under {ground.keyring.ids[0].hex()}")
        for id, number in sorted((done.left or {}).items()):
            complain(f"{number} could not be, under {id.hex()}: they are damaged, or their key is not here")
        return not done.left

    if not on_ground(work):
        raise typer.Exit(1)


def forget(
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Even while links are good that were signed under it.")
    ] = False,
) -> None:
    """Forget every key but the newest, when nothing is wrapped under them any more. From then on no process can keep
    anything that it wrapped under one."""

    async def work(ground: assembly.Ground) -> None:
        number = await ground.rotation.forget(at_once=at_once)
        if not number:
            say("there is one key, and nothing to forget")
        elif (kept := _kept_by_operator(ground)) is not None:
            say(f"nothing needs the older keys any more: take them out of {kept}, for every process")
        else:
            say(f"{number} forgotten" if number > 1 else "the older key is forgotten")

    on_ground(work)


def _kept_by_operator(ground: assembly.Ground) -> str | None:
    """Where keys stand that no command of ours can change."""
    if ground.settings.key is not None:
        return "HUB_KEY"
    return None if ground.settings.key_command is None else "what HUB_KEY_COMMAND says"
