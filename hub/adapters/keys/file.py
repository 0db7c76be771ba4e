"""The hub's keys where an operator keeps them: a file that only its owner may touch, or a setting.

Business of this file: reading keys, making a file, and changing it so that whoever is killed, or reads at that moment,
finds the keys of before or those of after.

    <base64 of 32 bytes>        the newest: what is wrapped is wrapped under it
    next <base64>               known, and not used yet: others are still to learn it
    <base64>                    older ones, that still open what was wrapped under them

Lines of a file; in a setting, blanks or commas stand between.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hub.domain.errors import SettingsError

KEY = 32
NEXT = "next"

# Far more than keys take, far less than a device file that was named by mistake gives.
LONGEST_FILE = 4096


@dataclass(frozen=True, slots=True)
class HubKeys:
    """`used`: newest first, at least one; `next`: known, and not used yet."""

    used: tuple[bytes, ...] = field(repr=False)
    next: bytes | None = field(default=None, repr=False)

    @property
    def known(self) -> tuple[bytes, ...]:
        """All of them, the newest that is used first."""
        return self.used if self.next is None else (*self.used, self.next)

    def written(self) -> str:
        lines = [_coded(key) for key in self.used]
        if self.next is not None:
            lines.insert(1, f"{NEXT} {_coded(self.next)}")
        return "\n".join(lines) + "\n"


def read_keys(text: str) -> HubKeys:
    """Raises SettingsError, which quotes nothing."""
    used: list[bytes] = []
    coming: list[bytes] = []
    words = iter(text.replace(",", " ").split())
    for word in words:
        (coming if word == NEXT else used).append(_key(next(words, "") if word == NEXT else word))
    if not used:
        raise SettingsError("there is no key of the hub")
    if len(coming) > 1:
        raise SettingsError("there is more than one next key of the hub")
    if len({*used, *coming}) < len(used) + len(coming):
        raise SettingsError("a key of the hub stands there twice")
    return HubKeys(tuple(used), coming[0] if coming else None)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        # Not chained: what could not be decoded is a secret with a typing error in it.
        raise SettingsError("the hub's key is not base64") from None
    if len(key) != KEY:
        raise SettingsError(f"the hub's key must be {KEY} bytes")
    return key


def _coded(key: bytes) -> str:
    return base64.b64encode(key).decode()


Look = tuple[int, int, int, int]


class KeyFile:
    """Implements `hub.ports.keys.KeyPlace`, for the file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> HubKeys:
        """Raises SettingsError."""
        try:
            return read_keys(_read(self.path))
        except OSError as error:
            raise SettingsError(f"the key file {self.path}: {error.strerror}") from error
        except SettingsError as error:
            raise SettingsError(f"the key file {self.path}: {error}") from None

    def look(self) -> Look | None:
        """Another one after each change; None: it cannot be looked at."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_dev

    def make(self) -> None:
        """With a fresh key, unless it is there. Of several hubs that start at once, all get the same key."""
        if self.path.exists():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A link, not a rename: it never overwrites, so the first of several hubs decides for all.
            keys = HubKeys((os.urandom(KEY),))
            with _written(self.path, keys, None) as temporary, contextlib.suppress(FileExistsError):
                os.link(temporary, self.path)
        except OSError as error:
            raise SettingsError(f"the key file {self.path}: {error.strerror}") from error

    @property
    def announced(self) -> bool:
        return self.read().next is not None

    def announce(self) -> None:
        """A fresh key is known, and not used; one that is there already stays. Raises SettingsError."""
        keys = self.read()
        if keys.next is None:
            self._replace(HubKeys(keys.used, os.urandom(KEY)))

    def promote(self) -> None:
        """The announced key is the newest; nothing, where there is none. Raises SettingsError."""
        keys = self.read()
        if keys.next is not None:
            self._replace(HubKeys((keys.next, *keys.used)))

    def forget(self) -> None:
        """Only the newest stays. Raises SettingsError."""
        keys = self.read()
        if len(keys.used) > 1:
            self._replace(HubKeys(keys.used[:1], keys.next))

    def _replace(self, keys: HubKeys) -> None:
        # What a link leads to is the file: others may read it under another name.
        path = self.path.resolve()
        try:
            for left in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 16}"):
                # Whoever was killed left it there, with keys in it that are to be forgotten one day.
                left.unlink(missing_ok=True)
            with _written(path, keys, os.stat(path)) as temporary:
                os.rename(temporary, path)
        except OSError as error:
            raise SettingsError(f"the key file {self.path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _written(path: Path, keys: HubKeys, like: os.stat_result | None) -> Iterator[Path]:
    """A file beside it, on the disk before it takes its name, and that name before this ends: content will be
    sealed under these keys at once, and a power cut must not take the key and leave the content."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            if like is not None:
                # Whoever rotates may be another account than the hub's, which has to read it.
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.write(descriptor, keys.written().encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> str:
    # Asked of the opened file: between a look at the name and its opening, the name may change hands.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SettingsError("it is not a file")
        if found.st_mode & 0o077:
            raise SettingsError(
                "it is open to others than its owner "
                f"(mode {stat.S_IMODE(found.st_mode):04o}): chmod 600 it, and consider the key known"
            )
        return os.read(descriptor, LONGEST_FILE).decode("ascii", errors="replace")
    finally:
        os.close(descriptor)
