"""Relocation: what lies in this machine's folder brought to the servers of a cluster, and the folder closed.

Business of this room: the order in which it happens, so that whenever it ends the two sides are never both
open. First everything is looked at. Then the folder is closed; files are carried; the store follows, in one
transaction, last: a hub there finds nothing, or everything. Begun again, it goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from hub.adapters.postgres.database import OwnConnection
from hub.adapters.postgres.migrations import store_id
from hub.adapters.postgres.relocation import (
    Found,
    Standing,
    accounts,
    copy_store,
    count_named,
    held_still,
    look,
)
from hub.adapters.system.closing import close_folder, read_closing, reopen_folder
from hub.assembly.checking import flaws_in
from hub.assembly.ground import Ground, given_keyring, ground, has_store
from hub.assembly.journey import differing_topics, written_topics
from hub.assembly.objects import claim, known_owner, place_of_files, sealed_files
from hub.domain.errors import HubError, SettingsError, UnknownKey
from hub.ports.accounts import Accounts
from hub.services.reconciliation import differences
from hub.services.relocation import Carried, RelocationRoom
from hub.settings import Settings

_CLOCKS_APART = timedelta(seconds=30)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Relocated:
    """`rows`: None where the store was there already, or nothing was done. `files`: None where they stay where
    they are. `lost`: files that submissions name and that were not there before either."""

    rows: int | None
    files: Carried | None
    lost: int
    accounts: Accounts
    to: str


@dataclass(frozen=True, slots=True)
class _Looked:
    """`resumed`: an earlier run closed the folder."""

    base: Ground
    held: OwnConnection
    store: str
    dsn: str
    standing: Standing
    resumed: bool


async def relocate(here: Settings, there: Settings, *, dry: bool, say: Say) -> Relocated:
    """The embedded store of `here`, and its attachments, brought to where `there` says. `dry`: only looked at.
    Raises SettingsError with a sentence for each thing that is against it, and nothing was changed; or
    Unavailable: then begun again it goes on."""
    async with _opened(here) as (base, held):
        looked = await _look(base, held, there)
        to = described(looked.dsn)
        room = RelocationRoom(sealed_files(here), lambda names: count_named(held, names))
        moving = place_of_files(here) != place_of_files(there)
        told = await accounts(held)
        if dry:
            return _told(None, await room.count() if moving else None, told, to, await _named(held))
        close_folder(here.folder, to, datetime.now(UTC), done=False)
        carried = None
        if moving:
            say("The folder is closed. Files are carried …")
            await claim(there, looked.store)
            carried = await room.carry(sealed_files(there))
        rows = None
        if looked.standing is Standing.EMPTY:
            say("The store is carried …")
            copied = await copy_store(held, looked.dsn, looked.store, with_log=there.kafka is None)
            rows, told = copied.rows, copied.accounts
        close_folder(here.folder, to, datetime.now(UTC), done=True)
        return _told(rows, carried, told, to, await _named(held))


async def reopen(here: Settings, there: Settings) -> bool:
    """The way back: the folder is open again; False: it was. Raises SettingsError while its store lies there,
    Unavailable when that cannot be asked."""
    closing, dsn = read_closing(here.folder), _address(there)
    if closing is None:
        return False
    if closing.to != described(dsn):
        raise SettingsError(f"{described(dsn)} is not where this store went: {closing.sentence}")
    async with _opened(here) as (base, _):
        found = await look(dsn, await store_id(base.database))
        if found.standing is Standing.SAME:
            raise SettingsError(
                f"the store lies in {described(dsn)}, and perhaps a hub works there: two would both deliver."
                " Stop it, and drop that database first; what was accepted there goes with it"
            )
    reopen_folder(here.folder)
    return True


def described(dsn: str) -> str:
    """Where a database is, without who asks and how they prove it."""
    try:
        parts = urlsplit(dsn)
        host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
        port = f":{parts.port}" if parts.port else ""
        return f"postgresql://{host}{port}{parts.path}"
    except ValueError:
        return "the other database"


@asynccontextmanager
async def _opened(here: Settings) -> AsyncIterator[tuple[Ground, OwnConnection]]:
    """The store in the folder, alone and held still until its server has stopped."""
    if here.database_url is not None:
        raise SettingsError(
            "the store is not in HUB_FOLDER: HUB_DATABASE_URL is set. What another server holds is brought"
            " elsewhere by its own tools"
        )
    if not has_store(here):
        raise SettingsError(f"there is no store in {here.folder}: nothing is to be relocated")
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(ground(here, alone=True, relocating=True))
        assert base.embedded is not None
        held = await stack.enter_async_context(held_still(base.embedded.dsn))
        # Before the locks are let go: a command that joined this server earlier may wait for them.
        stack.push_async_callback(base.embedded.stop)
        yield base, held


# --- whether it can be done ---------------------------------------------------------------------------


async def _look(base: Ground, held: OwnConnection, there: Settings) -> _Looked:
    """Raises SettingsError with a sentence for each thing that is against it."""
    dsn, store = _address(there), await store_id(base.database)
    closing = read_closing(base.settings.folder)
    resumed = closing is not None
    found: Found | None = None
    against = [*flaws_in(there), *_against_key(base, there), *_against_log(base.settings, there)]
    if closing is not None and closing.to != described(dsn):
        against.append(f"{described(dsn)} is not where this store went: {closing.sentence}")
    try:
        found = await look(dsn, store)
        against += _against_store(found, dsn, resumed)
    except HubError as error:
        against.append(f"{described(dsn)}: {error}")
    against += [f"the equations do not hold here: {line}" for line in differences(await accounts(held))]
    if not flaws_in(there):
        against += await _against_files(base.settings, there, store)
        against += await _against_topics(base.settings, there, resumed)
    if against or found is None:
        raise SettingsError("\n".join(against))
    return _Looked(base, held, store, dsn, found.standing, resumed)


def _address(there: Settings) -> str:
    if there.database_url is None:
        raise SettingsError("the settings of the hub there name no HUB_DATABASE_URL")
    return there.database_url.get_secret_value()


def _against_store(found: Found, dsn: str, resumed: bool) -> list[str]:
    against = []
    if found.standing is Standing.OTHER:
        against.append(f"{described(dsn)} is not empty: give the hub a database of its own")
    if found.standing is Standing.SAME and not resumed:
        against.append(
            f"{described(dsn)} holds a copy of this store that was made otherwise, and may be older: empty it"
        )
    apart = abs(found.at - datetime.now(UTC))
    if apart > _CLOCKS_APART + found.took:
        against.append(
            f"the clock of {described(dsn)} and this machine's are {apart.total_seconds():.0f} s apart:"
            " what is due is due by the database's clock"
        )
    return against


def _against_key(base: Ground, there: Settings) -> list[str]:
    try:
        given = given_keyring(there)
        if given is None:
            return [
                "the settings of the hub there name no key: set HUB_KEY or HUB_KEY_COMMAND, or HUB_KEY_FILE to a"
                f" copy of {base.settings.folder / 'hub.key'}"
            ]
        given.unwrap(base.keyring.fresh().wrapped)
        if not set(base.keyring.ids) <= set(given.ids):
            return [
                "this hub's key is being rotated: HUB_KEY or HUB_KEY_FILE there must hold the older one too"
            ]
    except UnknownKey:
        return ["HUB_KEY or HUB_KEY_FILE there is another key than this hub's: nothing would open"]
    except SettingsError as error:
        return [str(error)]
    return []


def _against_log(here: Settings, there: Settings) -> list[str]:
    if there.kafka is None and here.kafka is None and there.log_partitions != here.log_partitions:
        return ["the log goes with the store: HUB_LOG_PARTITIONS must be there what it is here"]
    return []


async def _against_files(here: Settings, there: Settings, store: str) -> list[str]:
    if place_of_files(here) == place_of_files(there):
        return []
    try:
        owner = await known_owner(there)
        if owner is None:
            async for page in sealed_files(there).sizes():
                if page:
                    return ["where attachments go there are files already that belong to no store: empty it"]
        elif owner != store:
            return ["where attachments go there are those of another store: give this one a place of its own"]
    except HubError as error:
        return [str(error)]
    return []


async def _against_topics(here: Settings, there: Settings, resumed: bool) -> list[str]:
    if there.kafka is None:
        return []
    try:
        told = [
            f"{line} (`hub topics create` with the settings of there)"
            for line in await differing_topics(there)
        ]
        same = (here.kafka, here.kafka_prefix) == (there.kafka, there.kafka_prefix)
        if not told and not same and not resumed and (used := await written_topics(there)):
            told.append(
                f"the topics {', '.join(used)} have been written to by another hub: set another HUB_KAFKA_PREFIX"
            )
        return told
    except HubError as error:
        return [str(error)]


# --- what came of it ----------------------------------------------------------------------------------


async def _named(held: OwnConnection) -> int:
    found: int = await held.fetchval("SELECT count(*) FROM stored_file")
    return found


def _told(rows: int | None, files: Carried | None, told: Accounts, to: str, named: int) -> Relocated:
    return Relocated(rows, files, 0 if files is None else named - files.named, told, to)
