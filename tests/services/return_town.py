"""A town hall with a return folder on OpenSSH's own server, for the tests of what is left there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connectors.sftp import SftpConnector
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.return_folders import PostgresReturnFolders
from hub.domain.partner import Endpoint, Partner
from hub.ports.partners import KeptPartner
from hub.ports.returns import Returns
from hub.services.collecting import CollectingRoom, CollectPace
from hub.services.endpoints import EndpointRoom
from tests.conformance.samples import execute, rows
from tests.conftest import Databases
from tests.connectors.openssh import OpenSsh, missing, openssh
from tests.connectors.partners import surroundings, with_settings
from tests.services.http_world import SENDER, World, offer, open_world
from tests.unit.samples import BONNEVILLE

PACE = CollectPace(timedelta(minutes=5), timedelta(seconds=10))
MOST_RETURNED = 2_000_000

Ground = tuple[World, OpenSsh]

_numbers = count(1)


@dataclass
class Town:
    """Bonneville, with a return folder."""

    world: World
    room: CollectingRoom
    sftp: SftpConnector
    folder: Path
    endpoint: Endpoint

    async def dossier(self) -> tuple[str, str]:
        """A submission for it: its number, and the delivery."""
        name = f"retour-{next(_numbers)}"
        answer = await self.world.post(offer(external_id=name))
        await self.world.route()
        told = (await self.world.call("GET", f"/v1/submissions/{answer.json['id']}")).json
        found = (one["id"] for one in told["deliveries"] if one["partner"] == "Mairie de Bonneville")
        return name, next(found)

    def leave(self, name: str, inside: str, at: int = 1_700_000_000) -> None:
        (self.folder / name).write_text(f"<acquittement>{inside}</acquittement>")
        os.utime(self.folder / name, (at, at))

    def there(self) -> list[str]:
        return sorted(found.name for found in self.folder.iterdir())

    async def look(self, room: CollectingRoom | None = None) -> int:
        """As if the time for it had come, to its end."""
        await execute(self.world.database, "UPDATE return_folder SET due_at = clock_timestamp()")
        room = room or self.room
        looks = await room.run_once()
        await room.close(60)
        return looks

    async def told(self) -> list[str]:
        """Why files were told to be unreadable, so far."""
        found = await rows(
            self.world.database,
            "SELECT detail FROM journal WHERE event = 'return_file.unreadable' ORDER BY at, detail",
        )
        return [row["detail"].rpartition(", ")[2] for row in found]

    async def events(self, delivery: str) -> list[Any]:
        told = (await self.world.call("GET", "/v1/events?since=0&limit=500", SENDER)).json["items"]
        return [one for one in told if one["delivery"] == delivery]

    async def settle(self, **more: Any) -> None:
        """With other settings, beside those that it has."""
        self.endpoint = with_settings(self.endpoint, **more)
        await PostgresPartners(self.world.database).keep([_sealed(self.endpoint)])

    def over(self, returns: Returns, pace: CollectPace = PACE) -> CollectingRoom:
        database, keyring = self.world.database, LocalKeyring(bytes(range(32)))
        return CollectingRoom(
            PostgresReturnFolders(database),
            PostgresPartners(database),
            {"sftp": returns},
            self.world.rooms.reports,
            EndpointRoom(keyring),
            self.world.rooms.clock,
            pace,
        )


@asynccontextmanager
async def return_ground(
    dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ground]:
    """Skips where there is no OpenSSH."""
    if (why := missing()) is not None:
        pytest.skip(why)
    made = Databases(dsn, template)
    with openssh(tmp_path_factory.mktemp("sshd")) as server:
        async with open_world(made.make(), tmp_path_factory.mktemp("hub")) as world:
            yield world, server
    made.drop()


@asynccontextmanager
async def return_town(ground: Ground) -> AsyncIterator[Town]:
    """With an empty folder of its own."""
    world, server = ground
    folder, _ = server.fresh(f"retour-{next(_numbers)}")
    endpoint = server.at(".", return_directory=str(folder), return_max_size=MOST_RETURNED)
    await PostgresPartners(world.database).keep([_sealed(endpoint)])
    await execute(world.database, "DELETE FROM return_folder", "DELETE FROM return_file")
    sftp = SftpConnector(surroundings())
    town = Town(world, None, sftp, folder, endpoint)  # type: ignore[arg-type]
    town.room = town.over(sftp)
    yield town
    await sftp.close()


def _sealed(endpoint: Endpoint) -> KeptPartner:
    return EndpointRoom(LocalKeyring(bytes(range(32)))).seal(
        Partner(BONNEVILLE, "Mairie de Bonneville", endpoint)
    )


class Dying:
    """Comes to its end, as a process would, when the files are to be taken away."""

    def __init__(self, returns: Returns) -> None:
        self._returns = returns

    async def collect(self, *given: Any) -> Any:
        return await self._returns.collect(*given)

    def read(self, *given: Any, **named: Any) -> Any:
        return self._returns.read(*given, **named)

    async def done(self, *given: Any) -> Any:
        raise RuntimeError
