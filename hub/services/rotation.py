"""The rotation (renouvellement) of the hub's key: another one is made, what the old one wrapped is wrapped anew, and
only then the old one is forgotten.

Business of this room: the order of steps, each of which may be the last before a power cut, while every process of the
hub is at work. At any moment whatever is wrapped is wrapped under a key that the file holds; whoever meets one that it
does not know looks at the file again. Where processes have files of their own, or a setting, nobody but the operator
knows whether all of them have the new key: it is used when the operator says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from hub.domain.errors import SettingsError, Tampered, UnknownKey
from hub.ports.keyring import Keyring
from hub.ports.keys import KeyPlace, WrappedKeys


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """One key of the hub: whether it is the newest, whether it is here, and how much is wrapped under it."""

    id: bytes
    newest: bool
    known: bool
    wrapped: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """`announced`: the new key is made, and not used before it is known everywhere. `left`: what could not be wrapped
    anew, by the hub key it is wrapped under."""

    announced: bool
    done: int = 0
    left: Mapping[bytes, int] | None = None


class RotationRoom:
    """`place`: where this hub's keys lie, None where they come from a setting. `shared`: every process reads them from
    there. `lifetime`: of signed links."""

    def __init__(
        self,
        keyring: Keyring,
        kept: WrappedKeys,
        place: KeyPlace | None,
        *,
        shared: bool,
        lifetime: timedelta,
    ) -> None:
        self._keyring = keyring
        self._kept = kept
        self._place = place
        self._shared = shared
        self._lifetime = lifetime

    async def standing(self) -> list[KeyStanding]:
        """The keys that are known, newest first, and those that something is wrapped under all the same."""
        known = self._keyring.ids
        counted = await self._kept.count()
        strangers = [id for id in sorted(counted) if id not in known]
        return [
            KeyStanding(id, id == known[0], id in known, counted.get(id, 0)) for id in (*known, *strangers)
        ]

    async def rotate(self, *, everywhere: bool, told: Callable[[int], None]) -> Rotated:
        """Begin a rotation, or go on with the one under way. `everywhere`: every process has the new key. `told`: how
        many keys are wrapped anew so far. Raises SettingsError, Unavailable."""
        async with self._kept.alone() as alone:
            if not alone:
                raise SettingsError("somebody else rotates the hub's key at this moment")
            if self._place is not None and not self._begin(self._place, everywhere):
                return Rotated(announced=True)
            newest = self._keyring.ids[0]
            if len(self._keyring.ids) == 1 and self._place is None:
                raise SettingsError(
                    "the hub's key comes from HUB_KEY or HUB_KEY_COMMAND: put a new one behind it, parted by a blank,"
                    " and when every process knows it, before it; then rotate"
                )
            await self._kept.begin(newest)
            return await self._walk(newest, told)

    def _begin(self, place: KeyPlace, everywhere: bool) -> bool:
        """Whether the newest key is used. Where there is an older one, a rotation is under way: no third is made."""
        if len(self._keyring.ids) == 1:
            place.announce()
            if not self._shared:
                return False
        if not (self._shared or everywhere):
            return not place.announced
        place.promote()
        return True

    async def _walk(self, newest: bytes, told: Callable[[int], None]) -> Rotated:
        walk = self._kept.rewrapping(newest, self._rewrap)
        done, left = 0, Counter[bytes]()
        while True:
            page = await walk.page()
            done += page.done
            left.update(page.left)
            told(done)
            if page.last:
                return Rotated(announced=False, done=done, left=left)

    def _rewrap(self, wrapped: bytes) -> bytes | None:
        try:
            return self._keyring.rewrap(wrapped)
        except (Tampered, UnknownKey):
            return None

    async def forget(self, *, at_once: bool) -> int:
        """Every key but the newest; how many. Raises SettingsError while something needs one, Unavailable."""
        async with self._kept.alone() as alone:
            if not alone:
                raise SettingsError("somebody else rotates the hub's key at this moment")
            newest, *others = self._keyring.ids
            if self._place is not None and self._place.announced:
                raise SettingsError("a new key was made, and is not used yet: rotate first")
            if not others:
                return 0
            kept = await self._kept.newest()
            # A key that is only about to come stands behind too, where keys come from a setting.
            if kept.id != newest or not kept.older.issuperset(others):
                raise SettingsError("there is a key that nothing was wrapped under so far: rotate first")
            if kept.age < self._lifetime and not at_once:
                left = self._lifetime - kept.age
                raise SettingsError(
                    "links were signed under the old key that are still good for"
                    f" {left.total_seconds() / 3600:.0f} hours; --at-once ends them now"
                )
            for id in others:
                if not await self._kept.forbid(id):
                    raise SettingsError(f"something is still wrapped under {id.hex()}: rotate again")
            if self._place is not None:
                self._place.forget()
            return len(others)
