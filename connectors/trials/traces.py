"""What a trial of an SFTP endpoint makes at a partner's, and that it is taken away again, whatever ends the trial.

Business of this file: whose such a folder is, and that what stays there is named. What is tried with it is `sftp`'s
business.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
import secrets
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from connectors.sftp.judging import ABSENT, FAULTS
from connectors.sftp.returning import LISTED
from connectors.sftp.sessions import Session
from connectors.trials.steps import Steps

_OF_A_TRIAL = re.compile(r"\.aiguillage-essai-[0-9a-f]{16}(-2)?")
_LONGEST = 3600
"""Seconds that no trial takes."""
_SHARE, _SHORT = 1.5, 5.0
"""How long it may take to take a folder away: so many times as an answer may, and so many seconds, at most."""

_LEFT: Mapping[bool | None, tuple[str, str]] = {
    False: (
        "Le dossier d'essai {} n'a pas pu être supprimé : supprimez-le.",
        "The folder of this trial {} could not be removed: remove it.",
    ),
    None: (
        "Le dossier d'essai {} a pu rester : supprimez-le s'il y est.",
        "The folder of this trial {} may have stayed: remove it if it is there.",
    ),
}
"""By whether it is gone; None: nobody knows."""


def names() -> tuple[str, str]:
    """Of the folder that a trial makes, before and after it is renamed."""
    name = f".aiguillage-essai-{secrets.token_hex(8)}"
    return name, f"{name}-2"


async def made_at(session: Session, folder: str) -> int | None:
    """When, by the server's clock; None, if it does not say."""
    with suppress(*FAULTS):
        return (await session.soon(session.sftp.stat(folder))).mtime
    return None


async def take_away(steps: Steps, session: Session, folders: Sequence[str]) -> None:
    """In a short time. What stays is a step. The first is where it most likely is."""
    found: list[bool | None] = [None for _ in folders]
    with suppress(TimeoutError):
        async with asyncio.timeout(min(session.limit * _SHARE, _SHORT)):
            found = await asyncio.gather(*(_is_gone(session, folder) for folder in folders))
    for is_gone, (fr, en) in _LEFT.items():
        left = [folder for folder, known in zip(folders, found, strict=True) if known is is_gone]
        if left:
            steps.note("left", fr.format(" ou ".join(left)), en.format(" or ".join(left)))


async def even_so(work: Coroutine[Any, Any, None]) -> None:
    """Done to its end, which is near, though who waits for it is told to go, be it again and again; then he goes."""
    doing, told = asyncio.ensure_future(work), False
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError:
            told = True
    doing.result()
    if told:
        raise asyncio.CancelledError


async def sweep(session: Session, directory: str, made: int) -> None:
    """Trials that were killed left their folders there; one that is under way, perhaps on another machine, keeps its
    own. `made`: when a folder was made a moment ago, by the server's clock, which is not ours. Of a long folder,
    what is told in time is looked at."""
    with suppress(*FAULTS):
        async with asyncio.timeout(session.limit):
            entries = session.sftp.scandir(directory)
            for _ in range(LISTED):
                entry = await session.soon(anext(entries, None))
                if entry is None:
                    break
                name, at = str(entry.filename), entry.attrs.mtime
                if _OF_A_TRIAL.fullmatch(name) and at is not None and at < made - _LONGEST:
                    await _is_gone(session, posixpath.join(directory, name))


async def _is_gone(session: Session, folder: str) -> bool | None:
    """None: nobody knows. The file and the folder at once, for a server may be slow; one that looks at the folder first
    finds it empty the second time."""
    sftp = session.sftp
    for _ in range(2):
        _, is_gone = await asyncio.gather(
            _removed(session, sftp.remove(f"{folder}/essai")), _removed(session, sftp.rmdir(folder))
        )
        if is_gone:
            return True
    try:
        return not await session.is_directory(folder)
    except FAULTS:
        return None


async def _removed(session: Session, asked: Awaitable[None]) -> bool:
    try:
        await session.soon(asked)
    except ABSENT:
        return True
    except FAULTS:
        return False
    return True
