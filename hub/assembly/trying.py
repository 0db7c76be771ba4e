"""A trial room for a command: connectors as a role has them, closed when the command ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from hub.assembly.ground import Ground
from hub.assembly.house import House
from hub.services.trying import TrialRoom


@asynccontextmanager
async def trial_room(ground: Ground) -> AsyncIterator[TrialRoom]:
    """Raises SettingsError."""
    async with AsyncExitStack() as stack:
        yield House(ground, stack).trials
