"""The embedded PostgreSQL: a server of the hub's own, that starts and stops with it.

Business of this module: one hub for one folder; starting the server, or taking over the one a killed hub
left running; a socket only this machine's listed accounts get through; waiting until it answers; stopping
it. Not its business: tables (the migrations), connections (the store's pool), where the data lie and as
whom the server runs (`embedded_home`), what the cluster holds (`embedded_cluster`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import asyncpg

from hub.adapters.postgres.embedded_cluster import (
    DATABASE,
    USER,
    Postmaster,
    left_behind,
    living,
    make_data,
    tail,
    write_settings,
)
from hub.adapters.postgres.embedded_home import Home, binaries, existing, lend, popen_as_account, settle
from hub.domain.errors import SettingsError, Unavailable

Result = TypeVar("Result")

# Kept over restarts of the machine, and only root makes folders there: nobody can lay one out beforehand.
# Not /var/tmp: many systems empty it of what was not touched for a month, and this is the system of record.
ELSEWHERE = Path("/var/lib")
SHORT = Path("/tmp")  # noqa: S108 - only as the parent of a folder that mkdtemp makes
SHORT_PREFIX = "aiguillage-"
LONGEST_SOCKET = 107 - len("/.s.PGSQL.5432")


@dataclass(frozen=True, slots=True)
class _Prepared:
    home: Home
    command: list[str]
    sockets: Path


@dataclass(frozen=True, slots=True)
class _Running:
    postmaster: Postmaster
    child: subprocess.Popen[str] | None  # None: a server that another hub started

    def lives(self, data: Path) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        found = living(data)
        return found is not None and found.pid == self.postmaster.pid


class EmbeddedPostgres:
    """A PostgreSQL 18 below `folder`, for one hub at a time.

    `run_as` is the account that runs it when the hub is root (HUB_POSTGRES_USER; default: `postgres`, else
    `nobody`). After `start`, `location` is where everything lies; when that is not `folder`, because the
    account cannot reach it, `notice` says so in a sentence for the operator. A server that dies is not
    started again by itself: `lives` tells. `patience` is in seconds, for starting and for stopping.
    """

    def __init__(
        self, folder: Path, *, run_as: str | None = None, elsewhere: Path = ELSEWHERE, patience: float = 60
    ) -> None:
        self._wanted = folder.resolve()
        self._run_as = run_as
        self._elsewhere = elsewhere
        self._patience = patience
        self._lock: int | None = None
        self._running: _Running | None = None
        self._dsn: str | None = None
        self.location = self._wanted
        self.notice: str | None = None

    async def start(self) -> str:
        """The address to connect to, for the database `hub` as its owner `hub`; the server answers.

        Raises SettingsError (another hub works here, no account, other version, ...), or Unavailable
        with the end of the server's log when it does not become ready.
        """
        if self._running is not None:
            raise SettingsError(f"the database in {self.location} is started already")
        try:
            prepared = await _to_its_end(self._prepare)
            running = await self._taken_over(prepared.home)
            if running is None:
                running = await self._started(prepared)
            self._running = running
            self._dsn = _address(running.postmaster.sockets)
            return self._dsn
        except BaseException:
            self._release()
            raise

    @property
    def exists(self) -> bool:
        """Whether data lie there, or where they were put instead. Raises SettingsError when they are not ours."""
        return existing(self._wanted, self._elsewhere) is not None

    async def running(self) -> str | None:
        """The address of the server another hub has running in this folder, once it answers; None when
        there is none. It stays that hub's: it is neither taken over nor stopped."""
        home = await asyncio.to_thread(existing, self._wanted, self._elsewhere)
        if home is None:
            return None
        self.location, self.notice = home.location, home.notice
        deadline = time.monotonic() + self._patience
        while (found := living(home.data)) is not None and time.monotonic() < deadline:
            if found.status == "ready" and await _answers(found.sockets):
                return _address(found.sockets)
            await asyncio.sleep(0.1)
        return None

    async def stop(self) -> None:
        """Stop the server (open transactions are rolled back) and let the folder go. Harmless when not started."""
        running, self._running, self._dsn = self._running, None, None
        try:
            if running is not None:
                await self._ended(running)
                _remove_private(running.postmaster.sockets)
        finally:
            self._release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def dsn(self) -> str:
        """What `start` returned. Raises Unavailable when the server is not started."""
        if self._dsn is None:
            raise Unavailable("the embedded database is not started")
        return self._dsn

    @property
    def lives(self) -> bool:
        return self._running is not None and self._running.lives(self.location / "data")

    def _prepare(self) -> _Prepared:
        home = settle(self._wanted, self._run_as, self._elsewhere)
        self.location, self.notice = home.location, home.notice
        self._lock = _locked(home.location)
        folder = binaries(home)
        options = write_settings(home)
        make_data(home, folder)
        return _Prepared(
            home,
            [str(folder / "postgres"), "-D", str(home.data), *options],
            lend(home.location / "run", home.account),
        )

    async def _taken_over(self, home: Home) -> _Running | None:
        """The server that a killed hub left behind, once it answers; None when there is none."""
        deadline = time.monotonic() + self._patience
        while (found := living(home.data)) is not None:
            running = _Running(found, None)
            if found.status == "ready":
                if await _answers(found.sockets):
                    return running
                await self._ended(running)  # its socket is gone: cleaned away, or moved with the folder
            elif time.monotonic() > deadline:
                raise Unavailable(
                    f"a PostgreSQL (process {found.pid}) is {found.status} in {home.location} for too long"
                )
            await asyncio.sleep(0.02)
        return None

    async def _started(self, prepared: _Prepared) -> _Running:
        left = left_behind(prepared.home.data)
        if left is not None:
            _remove_private(left.sockets)
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return await self._started_once(prepared, left)
            except Unavailable:
                # Of a server that was killed, a session may go on until the end of what it does.
                if "is still in use" not in _log_tail(self.location) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)

    async def _started_once(self, prepared: _Prepared, left: Postmaster | None) -> _Running:
        sockets = _short(prepared.sockets, prepared.home)
        child: subprocess.Popen[str] | None = None
        try:
            # Not in a thread: cancelled there, the child would be lost.
            child = _launched(prepared, sockets, left)
            return _Running(await self._ready(prepared.home, child), child)
        except BaseException:
            if child is not None:
                _abandon(child)
            _remove_private(sockets)
            raise

    async def _ready(self, home: Home, child: subprocess.Popen[str]) -> Postmaster:
        deadline = time.monotonic() + self._patience
        while child.poll() is None and time.monotonic() < deadline:
            found = living(home.data)
            ready = found is not None and found.pid == child.pid and found.status == "ready"
            if found is not None and ready and await _answers(found.sockets):
                return found
            await asyncio.sleep(0.02)
        how = f"ended with {child.returncode}" if child.returncode is not None else "is not ready in time"
        raise Unavailable(f"PostgreSQL in {home.location} {how}; its log ends:\n{_log_tail(home.location)}")

    async def _ended(self, running: _Running) -> None:
        # Fast: transactions are rolled back, all is written. Immediate: the next start recovers from the log.
        for how, patience in ((signal.SIGINT, self._patience), (signal.SIGQUIT, 10.0)):
            deadline = time.monotonic() + patience
            if running.lives(self.location / "data"):
                try:
                    os.kill(running.postmaster.pid, how)
                except ProcessLookupError:
                    return
            while running.lives(self.location / "data"):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.02)
            else:
                return
        raise Unavailable(f"PostgreSQL in {self.location} (process {running.postmaster.pid}) does not stop")

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


async def _to_its_end(work: Callable[[], Result]) -> Result:
    """Work in a thread, waited for even when cancelled: the lock is not let go while initdb still writes."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


def _locked(location: Path) -> int:
    """A lock that dies with this process, however it dies; children do not inherit it."""
    path = location / "hub.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise SettingsError(
            f"another hub (process {holder}) works in {location}: stop it, or give this one a folder of its own"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _short(sockets: Path, home: Home) -> Path:
    """The socket folder, or a private one with a shorter path: the kernel takes 107 bytes.

    A comma would be read as two folders, by the server and by its clients.
    """
    text = str(sockets)
    if len(os.fsencode(text)) <= LONGEST_SOCKET and text.isprintable() and not set(text) & set(",\"'\\"):
        return sockets
    private = Path(tempfile.mkdtemp(prefix=SHORT_PREFIX, dir=SHORT))
    if not home.account.is_ours:
        os.chown(private, home.account.uid, home.account.gid, follow_symlinks=False)
    return private


def _remove_private(sockets: Path) -> None:
    if sockets.parent == SHORT and sockets.name.startswith(SHORT_PREFIX):
        shutil.rmtree(sockets, ignore_errors=True)


def _launched(prepared: _Prepared, sockets: Path, left: Postmaster | None) -> subprocess.Popen[str]:
    command = [*prepared.command, "-c", f'unix_socket_directories="{sockets}"']
    # The process that has a dead server's number now (or the dead one, which nobody buried) is not a server:
    # by this variable PostgreSQL is told so, and still looks whether the dead one's memory is in use.
    environment = {} if left is None else {"PG_GRANDPARENT_PID": str(left.pid)}
    # What it says before its own log is open. In root's folder, not in the account's.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(prepared.home.location / "start.log", flags, 0o600), "w") as output:
        return popen_as_account(
            prepared.home.account, command, stdin=subprocess.DEVNULL, output=output, environment=environment
        )


def _abandon(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGQUIT)
        with suppress(subprocess.TimeoutExpired):  # then it is found again by the next start
            child.wait(10)


def _log_tail(location: Path) -> str:
    files = [location / "start.log", *(location / "log").glob("server-*.log")]
    newest = sorted((file for file in files if file.exists()), key=lambda file: file.stat().st_mtime)[-2:]
    return tail("\n".join(file.read_text(errors="replace") for file in newest))


def _address(sockets: Path) -> str:
    # The port is spelled out: without it, PGPORT of our environment would decide.
    return f"postgresql://{USER}@/{DATABASE}?host={quote(str(sockets), safe='/')}&port=5432"


async def _answers(sockets: Path) -> bool:
    try:
        connection = await asyncpg.connect(_address(sockets), timeout=10)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    try:
        return bool(await connection.fetchval("SELECT true"))
    finally:
        await connection.close()
