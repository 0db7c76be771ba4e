"""A trial of an SFTP endpoint: its key, the login, what the account may do in the folder, how much room there is."""

from __future__ import annotations

import posixpath
import re
import secrets
from contextlib import suppress

from connectors.sftp.judging import ABSENT, FAULTS, judge
from connectors.sftp.sessions import Session, Sessions
from connectors.sftp.settings import Target
from connectors.trials import servers
from connectors.trials.steps import Steps
from hub.domain.partner import Endpoint
from hub.domain.trials import Step
from hub.ports.connector import Outgoing

_OF_A_TRIAL = re.compile(r"\.aiguillage-essai-[0-9a-f]{16}(-2)?")
_LITTLE = 100_000_000
"""Bytes of room below which it is told."""


async def try_out(
    endpoint: Endpoint, target: Target, sessions: Sessions, outgoing: Outgoing, limit: float
) -> list[Step]:
    """`limit`: seconds to wait for a silent server, at each step."""
    steps = Steps(judge)
    servers.account(steps, target.server)
    if not await servers.look(steps, target, outgoing, limit):
        return steps.noted
    try:
        session = await sessions.enter(endpoint, target, limit)
    except FAULTS as fault:
        servers.not_entered(steps, target, fault)
        return steps.noted
    servers.entered(steps, target, session)
    try:
        await _folder(steps, session, target)
    except FAULTS as fault:
        steps.fault("session", fault, "Session SFTP", "Session of SFTP")
    finally:
        await session.leave()
    return steps.noted


# --- rights and room ----------------------------------------------------------------------------------


async def _folder(steps: Steps, session: Session, target: Target) -> None:
    directory = _without_words(target.directory)
    try:
        there = await session.is_directory(directory)
    except FAULTS as fault:
        steps.fault("folder", fault, f"Dossier {directory}", f"Folder {directory}")
        return
    if there:
        steps.well("folder", f"Le dossier {directory} existe.", f"The folder {directory} is there.")
        await _rights(steps, session, directory)
        await _room(steps, session, directory)
    elif target.make_directories:
        steps.note(
            "folder",
            f"Le dossier {directory} sera créé au premier pli.",
            f"The folder {directory} is made with the first parcel.",
        )
    else:
        steps.refused("folder", "sftp.directory_missing", f"Dossier {directory}", f"Folder {directory}")
    if target.return_directory is not None:
        await _returns(steps, session, target.return_directory)


def _without_words(directory: str) -> str:
    """The folder above what each parcel fills in."""
    plain, brace, _ = directory.partition("{")
    return directory if not brace else plain.rpartition("/")[0] or ("/" if plain.startswith("/") else ".")


async def _rights(steps: Steps, session: Session, directory: str) -> None:
    """What delivering takes: a hidden folder, a file in it that is not yet there, another name, and away with it."""
    await _sweep(session, directory)
    name = f".aiguillage-essai-{secrets.token_hex(8)}"
    before, after = posixpath.join(directory, name), posixpath.join(directory, f"{name}-2")
    sftp, trying = session.sftp, ("créer un dossier", "make a folder")
    try:
        await session.soon(sftp.mkdir(before))
        trying = "écrire un fichier", "write a file"
        file = await session.soon(sftp.open(f"{before}/essai", "xb"))
        await session.soon(file.write(b"essai\n"))
        await session.soon(file.close())
        trying = "renommer", "rename"
        await session.soon(sftp.rename(before, after))
        trying = "supprimer", "remove"
        await session.soon(sftp.remove(f"{after}/essai"))
        await session.soon(sftp.rmdir(after))
    except FAULTS as fault:
        steps.fault("rights", fault, f"Dans {directory}, {trying[0]}", f"In {directory}, {trying[1]}")
        if await _left(session, before, after):
            steps.note(
                "left",
                f"Le dossier d'essai {name} n'a pas pu être supprimé : supprimez-le.",
                f"The folder of this trial {name} could not be removed: remove it.",
            )
        # Most servers have no word for a full disk: the room that is left is the next thing to look at.
        return
    steps.well(
        "rights",
        f"Dans {directory}, le compte peut créer, écrire, renommer et supprimer ; l'essai n'y a rien laissé.",
        f"In {directory}, the account may make, write, rename and remove; the trial left nothing there.",
    )


async def _sweep(session: Session, directory: str) -> None:
    """A trial that was killed left its folder there."""
    with suppress(*FAULTS):
        names = await session.soon(session.sftp.listdir(directory))
        for name in filter(_OF_A_TRIAL.fullmatch, names):
            await _left(session, posixpath.join(directory, name))


async def _left(session: Session, *folders: str) -> bool:
    """Whether something stays that cannot be taken away again."""
    left = False
    for folder in folders:
        with suppress(*FAULTS):
            await session.soon(session.sftp.remove(f"{folder}/essai"))
        try:
            await session.soon(session.sftp.rmdir(folder))
        except ABSENT:
            continue
        except FAULTS:
            with suppress(*FAULTS):
                left = left or await session.is_directory(folder)
    return left


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


async def _returns(steps: Steps, session: Session, directory: str) -> None:
    try:
        there = await session.is_directory(directory)
    except FAULTS as fault:
        steps.fault("returns", fault, f"Dossier de retour {directory}", f"Return folder {directory}")
        return
    if there:
        steps.well(
            "returns", f"Le dossier de retour {directory} existe.", f"The return folder {directory} is there."
        )
    else:
        steps.refused(
            "returns",
            "sftp.directory_missing",
            f"Dossier de retour {directory}",
            f"Return folder {directory}",
        )
