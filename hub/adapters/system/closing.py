"""A mark in the hub's folder: what it held is being relocated, or was, and nothing here may be started again.

Business of this file: that the mark is durable before whoever wrote it goes on. What it means is its callers'.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from hub.domain.errors import SettingsError

MARK = "relocated"


@dataclass(frozen=True, slots=True)
class Closing:
    """`to`: where what lay here goes, in words for the operator, without secrets. `done`: it is there."""

    to: str
    since: str
    done: bool

    @property
    def sentence(self) -> str:
        if self.done:
            return f"it was relocated to {self.to} ({self.since}): start the hub with the settings of there"
        return f"it is being relocated to {self.to} ({self.since}): go on with `hub relocate`"


def read_closing(folder: Path) -> Closing | None:
    """None: the folder is open. Raises SettingsError when its mark cannot be read."""
    path = folder / MARK
    try:
        told = json.loads(path.read_text("utf-8"))
        return Closing(str(told["to"]), str(told["since"]), told["done"] is True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{path} says that the folder was relocated, and cannot be read") from None


def close_folder(folder: Path, to: str, now: datetime, *, done: bool) -> None:
    """Raises SettingsError."""
    path = folder / MARK
    draft = folder / f"{MARK}.writing"
    told = asdict(Closing(to, f"{now:%Y-%m-%d %H:%M} UTC", done))
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(folder)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error


def reopen_folder(folder: Path) -> None:
    """Raises SettingsError."""
    path = folder / MARK
    try:
        path.unlink(missing_ok=True)
        _sync(folder)
    except OSError as error:
        raise SettingsError(f"{path} cannot be removed: {error.strerror}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
