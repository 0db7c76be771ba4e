"""The hub's keys from a program of the operator's: one that asks a key management service, a vault, a smart card.

Business of this file: that it is given nothing of the hub's settings, is ended when it takes too long, and that nothing
of what it says is told anybody. It says what a key file holds.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from typing import IO

from hub.adapters.keys.file import LONGEST_FILE, HubKeys, read_keys
from hub.domain.errors import SettingsError

LIMIT = 30.0
"""Seconds that it may take."""
_DYING = 1.0
"""Seconds that are waited for the end of one that was ended."""


class KeyProgram:
    """`command`'s words are parted as a shell would, and no shell is asked. Asked by one at a time."""

    def __init__(self, command: str, limit: float = LIMIT) -> None:
        self._command = command
        self._limit = limit
        self._left: subprocess.Popen[bytes] | None = None

    def keys(self) -> HubKeys:
        """What it writes to its standard output. Raises SettingsError, which quotes nothing of it."""
        # Asked every minute, programs that nobody can end would heap up.
        if self._left is not None and self._left.poll() is None:
            raise SettingsError("the program that was asked before has not ended yet")
        program = self._left = _started(self._command)
        assert program.stdout is not None
        try:
            told = _heard(program, program.stdout, self._limit)
        finally:
            program.stdout.close()
            _end(program)
        return read_keys(told.decode("ascii", errors="replace"))


def _started(command: str) -> subprocess.Popen[bytes]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise SettingsError("it must be a program and its arguments")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            # Of its own group: whatever it started ends with it.
            start_new_session=True,
        )
    except OSError as error:
        raise SettingsError(f"the program cannot be started: {error.strerror}") from None
    except ValueError:
        raise SettingsError("it must be a program and its arguments") from None


def _heard(program: subprocess.Popen[bytes], voice: IO[bytes], limit: float) -> bytes:
    # Not `select`, which knows no descriptor beyond 1024: a hub at work has more.
    waiting = select.poll()
    waiting.register(voice)
    until = time.monotonic() + limit
    told = b""
    try:
        while len(told) <= LONGEST_FILE:
            if not waiting.poll(max(until - time.monotonic(), 0) * 1000):
                raise SettingsError(f"the program did not end within {limit:g} seconds")
            if not (more := os.read(voice.fileno(), LONGEST_FILE)):
                break
            told += more
        else:
            raise SettingsError("the program says more than keys")
        if status := program.wait(max(until - time.monotonic(), 0)):
            raise SettingsError(f"the program ended with status {status}")
    except subprocess.TimeoutExpired:
        raise SettingsError(f"the program did not end within {limit:g} seconds") from None
    return told


def _end(program: subprocess.Popen[bytes]) -> None:
    # As long as nobody asked how it ended, its number is no other's; what it started may live on without it.
    if program.returncode is not None:
        return
    # One that runs as another user is not ours to end (sudo), and one that waits for a device does not end.
    with contextlib.suppress(OSError):
        os.killpg(program.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(_DYING)
