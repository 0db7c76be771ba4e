"""A trial of an SFTP endpoint: its key, the login, what the account may do in the folder, how much room there is."""

from __future__ import annotations

import asyncio
import posixpath

from connectors.sftp.judging import FAULTS, judge
from connectors.sftp.sessions import Session, Sessions
from connectors.sftp.settings import Target
from connectors.trials import servers, traces
from connectors.trials.steps import Steps
from hub.domain.partner import Endpoint
from hub.domain.trials import Step
from hub.ports.connector import Outgoing

_LITTLE = 100_000_000
"""Bytes of room below which it is told."""


async def try_out(
    endpoint: Endpoint, target: Target, sessions: Sessions, outgoing: Outgoing, limit: float
) -> list[Step]:
    """`limit`: seconds to wait for a silent server, at each step."""
    steps = Steps(judge)
    async with steps.within(limit):
        servers.account(steps, target.server)
        if await servers.look(steps, target, outgoing, limit):
            await _inside(steps, endpoint, target, sessions, limit)
    return steps.noted


async def _inside(steps: Steps, endpoint: Endpoint, target: Target, sessions: Sessions, limit: float) -> None:
    try:
        session = await sessions.enter(endpoint, target, limit)
    except FAULTS as fault:
        servers.not_entered(steps, target, fault)
        return
    servers.entered(steps, target, session)
    try:
        await _folders(steps, session, target)
    except FAULTS as fault:
        steps.fault("session", fault, "Session SFTP", "Session of SFTP")
    except BaseException:
        session.abort()
        raise
    await session.leave()


# --- rights and room ----------------------------------------------------------------------------------


async def _folders(steps: Steps, session: Session, target: Target) -> None:
    directory, made = _without_words(target.directory), None
    try:
        there = await session.is_directory(directory)
    except FAULTS as fault:
        steps.fault("folder", fault, f"Dossier {directory}", f"Folder {directory}")
        return
    if there:
        steps.well("folder", f"Le dossier {directory} existe.", f"The folder {directory} is there.")
        made = await _rights(steps, session, directory)
        await _room(steps, session, directory)
    elif target.make_directories:
        steps.note(
            "folder",
            f"Le dossier {directory} sera créé au premier pli.",
            f"The folder {directory} is made with the first parcel.",
        )
    else:
        steps.refused("folder", "sftp.directory_missing", f"Dossier {directory}", f"Folder {directory}")
    for name, folder, fr, en in (
        ("returns", target.return_directory, "Le dossier de retour", "The return folder"),
        ("kept", target.return_kept, "Le dossier de ce qui est lu", "The folder of what was read"),
    ):
        if folder is not None:
            await _is_there(steps, session, name, folder, fr, en)
    if made is not None:
        # Last of all: of how long it takes, nothing else depends.
        await traces.sweep(session, directory, made)


def _without_words(directory: str) -> str:
    """The folder above what each parcel fills in."""
    plain, brace, _ = directory.partition("{")
    return directory if not brace else plain.rpartition("/")[0] or ("/" if plain.startswith("/") else ".")


async def _rights(steps: Steps, session: Session, directory: str) -> int | None:
    """What delivering takes: a hidden folder, a file in it that is not yet there, another name, and away with it. When
    that was, by the server's clock; None, if it does not say."""
    before, after = (posixpath.join(directory, name) for name in traces.names())
    sftp, trying, made = session.sftp, ("créer un dossier", "make a folder"), None
    may_be: tuple[str, ...] = (before,)
    try:
        await session.soon(sftp.mkdir(before))
        made = await traces.made_at(session, before)
        trying = "écrire un fichier", "write a file"
        file = await session.soon(sftp.open(f"{before}/essai", "xb"))
        await session.soon(file.write(b"essai\n"))
        await session.soon(file.close())
        trying, may_be = ("renommer", "rename"), (after, before)
        await session.soon(sftp.rename(before, after))
        trying, may_be = ("supprimer", "remove"), (after,)
        await session.soon(sftp.remove(f"{after}/essai"))
        await session.soon(sftp.rmdir(after))
    except FAULTS as fault:
        steps.fault("rights", fault, f"Dans {directory}, {trying[0]}", f"In {directory}, {trying[1]}")
        await traces.even_so(traces.take_away(steps, session, may_be))
        # Most servers have no word for a full disk: the room that is left is the next thing to look at.
        return made
    except asyncio.CancelledError:
        await traces.even_so(traces.take_away(steps, session, may_be))
        raise
    steps.well(
        "rights",
        f"Dans {directory}, le compte peut créer, écrire, renommer et supprimer ; l'essai n'y a rien laissé.",
        f"In {directory}, the account may make, write, rename and remove; the trial left nothing there.",
    )
    return made


async def _room(steps: Steps, session: Session, directory: str) -> None:
    try:
        found = await session.soon(session.sftp.statvfs(directory))
    except FAULTS:
        steps.note(
            "space",
            "Le serveur ne dit pas la place qui reste.",
            "The server does not tell how much room is left.",
        )
        return
    # Some servers do not count in their own blocks.
    free = found.bavail * (found.frsize or found.bsize)
    told = f"{free / 1e9:.1f} Go", f"{free / 1e9:.1f} GB"
    if free < _LITTLE:
        steps.wrong("space", f"Il ne reste que {told[0]}.", f"There is only {told[1]} left.", "sftp.no_space")
    else:
        steps.well("space", f"Il reste {told[0]}.", f"There is {told[1]} left.")


async def _is_there(steps: Steps, session: Session, name: str, folder: str, fr: str, en: str) -> None:
    try:
        there = await session.is_directory(folder)
    except FAULTS as fault:
        steps.fault(name, fault, f"{fr} {folder}", f"{en} {folder}")
        return
    if there:
        steps.well(name, f"{fr} {folder} existe.", f"{en} {folder} is there.")
    else:
        steps.refused(name, "sftp.directory_missing", f"{fr} {folder}", f"{en} {folder}")
