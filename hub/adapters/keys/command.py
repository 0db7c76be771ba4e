"""The hub's keys from a program of the operator's: one that asks a key management service, a vault, a smart card.

Business of this file: that it is given nothing of the hub's settings, is ended when it takes too long, and that nothing
of what it says is told anybody. It says what a key file holds.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import time

from hub.adapters.keys.file import LONGEST_FILE, HubKeys, read_keys
from hub.domain.errors import SettingsError

LIMIT = 30.0
"""Seconds that it may take."""


def keys_of(command: str, limit: float = LIMIT) -> HubKeys:
    """What `command` writes to its standard output; its words are parted as a shell would, and no shell is asked.
    Raises SettingsError, which quotes nothing of it."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise SettingsError("it must be a program and its arguments")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    try:
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            # Of its own group: whatever it started ends with it.
            start_new_session=True,
        ) as program:
            told = _heard(program, limit)
    except OSError as error:
        raise SettingsError(f"the program cannot be started: {error.strerror}") from None
    except ValueError:
        raise SettingsError("it must be a program and its arguments") from None
    return read_keys(told.decode("ascii", errors="replace"))


def _heard(program: subprocess.Popen[bytes], limit: float) -> bytes:
    assert program.stdout is not None
    # Not `select`, which knows no descriptor beyond 1024: a hub at work has more.
    waiting = select.poll()
    waiting.register(program.stdout)
    until = time.monotonic() + limit
    told = b""
    try:
        while len(told) <= LONGEST_FILE:
            if not waiting.poll(max(until - time.monotonic(), 0) * 1000):
                raise SettingsError(f"the program did not end within {limit:g} seconds")
            if not (more := os.read(program.stdout.fileno(), LONGEST_FILE)):
                break
            told += more
        else:
            raise SettingsError("the program says more than keys")
        if status := program.wait(max(until - time.monotonic(), 0)):
            raise SettingsError(f"the program ended with status {status}")
    except subprocess.TimeoutExpired:
        raise SettingsError(f"the program did not end within {limit:g} seconds") from None
    finally:
        # As long as nobody asked how it ended, its number is no other's; what it started may live on without it.
        if program.returncode is None:
            os.killpg(program.pid, signal.SIGKILL)
    return told
