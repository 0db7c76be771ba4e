"""What all connectors do with a page of parcels: several at a time, one outcome each, harmless names.

Business of this file: what has nothing to do with a protocol. Faults that are ours and concern one parcel
(its file is away, or does not open) become an outcome of that parcel: raised, they would take with them
the good news of its neighbours, which would then be sent a second time.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Awaitable, Callable, Sequence

import structlog

from hub.domain.delivery import About, Deferred, Outcome, Refused
from hub.domain.errors import HubError, MissingKey, Tampered
from hub.ports.connector import Parcel, ParcelFile

log = structlog.get_logger()

SLOWEST = 16 * 1024
"""Bytes a second that a partner's server must take at least, over a whole parcel."""

_HARMLESS = re.compile(r'(?![. ])[^/\\:*?"<>|\x00-\x1f\x7f]{1,150}(?<![. ])')
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


async def each(
    parcels: Sequence[Parcel],
    at_once: int,
    deliver: Callable[[Parcel], Awaitable[Outcome]],
    apiece: int = 1,
) -> list[Outcome]:
    """One outcome for each parcel, in order, with at most `at_once` under way, and no more than are needed for
    `apiece` to go one after the other: over one connection, if the protocol keeps them."""
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(parcels))

    async def one_after_the_other() -> None:
        for place, parcel in waiting:
            outcomes[place] = await _guarded(deliver, parcel)

    clerks = min(at_once, -(-len(parcels) // apiece))
    if clerks == 1:
        await one_after_the_other()
    else:
        await asyncio.gather(*(one_after_the_other() for _ in range(clerks)))
    return [outcomes[place] for place in range(len(parcels))]


async def _guarded(deliver: Callable[[Parcel], Awaitable[Outcome]], parcel: Parcel) -> Outcome:
    try:
        return await deliver(parcel)
    except HubError as fault:
        return own_fault(fault)
    except Exception as fault:
        return unforeseen(fault)


def patience(size: int, limit: float) -> float:
    """Seconds that a parcel of so many bytes may take in all: a server that is never silent for `limit`, and says or
    takes a byte at a time, would hold its lane for days."""
    return 4 * limit + size / SLOWEST


def unforeseen(fault: Exception) -> Outcome:
    """A fault of ours that nobody thought of, with one parcel: raised, it would take the news of its
    neighbours with it, which would be sent again."""
    log.error("connector.failed", error=type(fault).__name__)
    return Deferred("hub.fault", About.PARCEL)


def own_fault(fault: HubError) -> Outcome:
    """The parcel cannot be read on our side: no fault of the partner, and none of its neighbours."""
    if isinstance(fault, Tampered | MissingKey):
        return Refused("hub.content_unreadable", About.PARCEL)
    return Deferred("hub.content_away", About.PARCEL)


def exhausted(fault: BaseException | None) -> Deferred | None:
    """This process ran out of something: the partner must not be blamed for it."""
    if isinstance(fault, OSError) and fault.errno in _EXHAUSTED:
        return Deferred("hub.exhausted", About.PARCEL)
    return None


def harmless_name(file: ParcelFile) -> str:
    """The file's name if it can do no harm on a partner's disk, else one made from its number and what is
    left of it. The hub makes names safe already; a partner's disk is worth a second look."""
    if _HARMLESS.fullmatch(file.name) and file.name.isprintable() and len(file.name.encode()) <= 255:
        return file.name
    return f"{file.number}-{slug(file.name, 100)}"


def slug(text: str, longest: int) -> str:
    """Letters, digits, dot, hyphen and underscore only; never empty, never hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:longest] or "_"
