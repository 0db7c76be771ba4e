"""The schema registry: which number stands for which of the hub's published schemas.

Business of this port: numbers and names. What a schema says, and how a record carries its number, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class SchemaRegistry(Protocol):
    """Both verbs raise Unavailable when it is away, SettingsError when it refuses this hub."""

    async def ids(self) -> Mapping[str, int]:
        """The number of each published schema, by its name (`decision.v2`). One that the registry does not have
        yet is registered."""
        ...

    async def name(self, id: int) -> str | None:
        """Which of the published schemas this number stands for; None: for none of them, or for nothing."""
        ...
