"""What the embedded server's home holds: the database cluster, its settings and its door.

Business of this module: making the cluster once, whole or not at all; refusing one of another major
version; writing the settings, the list of who may enter and under which name; reading the file in which a
server says that it runs. Not its business: where all this lies (`embedded_home`), and when the server
runs (`embedded`).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hub.adapters.postgres.embedded_home import MAJOR, Home, lend, run_as_account
from hub.domain.errors import SettingsError, Unavailable

DATABASE = "hub"
USER = "hub"
# The role that owns the cluster: for operators and backups. The hub is an ordinary role, as on any server.
KEEPER = "postgres"

SETTINGS = """\
# Written anew at each start of the hub: changes made here are lost.
listen_addresses = ''
port = 5432
unix_socket_permissions = 0700
max_connections = 100
allow_alter_system = off

# One machine, shared with the hub itself.
shared_buffers = 256MB
effective_cache_size = 1GB
work_mem = 8MB
maintenance_work_mem = 128MB
random_page_cost = 1.1
jit = off
autovacuum_naptime = 15s

# A submission answered with a 202 is on the disk.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_compression = on
max_wal_size = 2GB
checkpoint_timeout = 15min

# Seven files, each emptied when its weekday comes again.
logging_collector = on
log_filename = 'server-%w.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_timezone = UTC
log_line_prefix = '%m [%p] '
# Messages of the level ERROR quote what was sent ("invalid input syntax ..."), details and statements too.
# The hub gets them as answers; the log keeps only what concerns the server itself.
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_statement = none
log_min_duration_statement = -1

timezone = UTC
lc_messages = C
"""

DOOR = """\
# Written anew at each start of the hub: changes made here are lost.
# Only through the socket, and only who the operating system says to be listed in pg_ident.conf.
local all all peer map=hub
local replication all peer map=hub
"""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a server says of itself in postmaster.pid: `status` is starting, ready or stopping."""

    pid: int
    data: Path
    sockets: Path
    status: str


def write_settings(home: Home) -> list[str]:
    """The options that make a server use the settings of this hub, which are written beside the data.

    They do not lie in the data folder: that one is the account's, and root writes no file there.
    """
    folder = home.location / "settings"
    folder.mkdir(exist_ok=True)
    if not home.account.is_ours:
        folder.chmod(0o711)
    names = {"root", home.account.name, pwd.getpwuid(os.geteuid()).pw_name}
    admitted = [f'hub "{name}" {role}\n' for name in sorted(names) for role in (USER, KEEPER)]
    for name, text in (
        ("postgresql.conf", SETTINGS),
        ("pg_hba.conf", DOOR),
        ("pg_ident.conf", "".join(admitted)),
    ):
        _replace(folder / name, text)
    log = lend(home.location / "log", home.account)
    options = {
        "config_file": folder / "postgresql.conf",
        "hba_file": folder / "pg_hba.conf",
        "ident_file": folder / "pg_ident.conf",
        "log_directory": log,
    }
    return [word for name, value in options.items() for word in ("-c", f"{name}={value}")]


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, 0o644)
        file.write(text)
    os.replace(name, path)


def make_data(home: Home, binaries: Path) -> None:
    """The cluster with the hub's role and database, made if missing. A half-made one is begun anew."""
    for half in home.location.glob("data.new-*"):
        # An initdb whose hub was killed may still be writing there; what is left goes next time.
        shutil.rmtree(half, ignore_errors=True)
    if home.data.exists():
        _check_version(home.data)
        return
    half = lend(home.location / f"data.new-{os.urandom(4).hex()}", home.account)
    try:
        _fill(home, binaries, half)
        half.rename(home.data)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    folder = os.open(home.location, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _fill(home: Home, binaries: Path, half: Path) -> None:
    initdb = [
        *(str(binaries / "initdb"), "--pgdata", str(half), "--username", KEEPER),
        *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale"),
        *("--data-checksums", "--auth-local=peer", "--auth-host=reject", "--no-instructions"),
    ]
    _succeeds(run_as_account(home.account, initdb))
    # Before the first start, without a door: no moment at which a half-made database can be entered.
    alone = [str(binaries / "postgres"), "--single", "-D", str(half), "-c", "exit_on_error=on", "postgres"]
    words = f"CREATE ROLE {USER} LOGIN CREATEDB;\nCREATE DATABASE {DATABASE} OWNER {USER};\n"
    _succeeds(run_as_account(home.account, alone, said=words))


def _succeeds(ended: subprocess.CompletedProcess[str]) -> None:
    if ended.returncode != 0:
        command = Path(ended.args[0]).name
        raise Unavailable(f"the database could not be made ({command} said):\n{tail(ended.stdout)}")


def _check_version(data: Path) -> None:
    try:
        written = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise SettingsError(f"{data} is not a database folder: it has no file PG_VERSION") from None
    if written != str(MAJOR):
        raise SettingsError(
            f"the database in {data} is of PostgreSQL {written}, this hub brings PostgreSQL {MAJOR}: "
            f"dump it with PostgreSQL {written} (pg_dump), and restore it into an empty folder"
        )


def tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def left_behind(data: Path) -> Postmaster | None:
    """What the last server wrote of itself and did not take away, whether it lives or not."""
    try:
        lines = (data / "postmaster.pid").read_text("utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 6 or not lines[0].strip().isdigit():
        return None  # just being written, or by the single-user mode
    status = lines[7].strip() if len(lines) > 7 else "starting"
    return Postmaster(int(lines[0]), Path(lines[1]), Path(lines[4].strip()), status)


def living(data: Path) -> Postmaster | None:
    """The server that works on these data. Its number alone proves nothing.

    A server that died without a word leaves its file behind, and after a restart of a container the same
    small numbers come again, for other processes.
    """
    found = left_behind(data)
    command = None if found is None else _command_of(found.pid)
    if found is None or command is None:
        return None
    # The folder it was started with is asked for too: it may have been moved under its feet.
    return found if any(f" {folder} " in command for folder in (data, found.data)) else None


def _command_of(pid: int) -> str | None:
    """The command line of a living process; None when there is none, or only its remains."""
    if Path("/proc/self/cmdline").exists():
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")) or None
        except OSError:
            return None
    question = ["/bin/ps", "-ww", "-p", str(pid), "-o", "command="]
    listed = subprocess.run(question, capture_output=True, text=True, check=False)
    return f"{listed.stdout.strip()} " if listed.stdout.strip() else None
