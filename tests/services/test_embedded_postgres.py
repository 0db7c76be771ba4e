"""What the embedded PostgreSQL must be true to: data kept, a closed door, one hub at a time, nothing widened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from hub.adapters.postgres import embedded_home
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.domain.errors import SettingsError, Unavailable

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="only root can run the server as somebody else")
REPOSITORY = Path(__file__).parents[2]

HUB = """
import asyncio, sys
from pathlib import Path
from hub.adapters.postgres.embedded import EmbeddedPostgres

async def work():
    server = EmbeddedPostgres(Path(sys.argv[1]))
    print(await server.start(), flush=True)
    await asyncio.sleep(600)

asyncio.run(work())
"""


@contextlib.contextmanager
def reachable() -> Iterator[Path]:
    """A folder the server's account can reach, as a clone of an operator would be."""
    # Not pytest's tmp_path: that one is closed to all but root, and its name is too long.
    folder = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for file in folder.rglob("postmaster.pid"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(file.read_text().splitlines()[0]), signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place() -> Iterator[Path]:
    with reachable() as folder:
        yield folder


@pytest.fixture(scope="module")
def kept() -> Iterator[Path]:
    """A folder in which the hub has run before. Made once: each test leaves it fit for the next start."""

    async def once(folder: Path) -> None:
        async with EmbeddedPostgres(folder):
            pass

    with reachable() as folder:
        asyncio.run(once(folder / "database"))
        yield folder / "database"


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def hub_process(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", HUB, str(folder)], stdout=subprocess.PIPE, cwd=REPOSITORY)


async def killed_after_start(folder: Path) -> str:
    """The address of a server whose hub was killed as soon as it had started it."""
    with hub_process(folder) as hub:
        assert hub.stdout is not None
        dsn = (await asyncio.to_thread(hub.stdout.readline)).decode().strip()
        hub.kill()
    assert dsn, "the hub did not start"
    return dsn


def postmaster(server: EmbeddedPostgres) -> int:
    return int((server.location / "data" / "postmaster.pid").read_text().splitlines()[0])


async def test_it_starts_and_answers_as_an_ordinary_role(place: Path) -> None:
    async with EmbeddedPostgres(place / "database") as server, connected(server.dsn) as connection:
        assert server.location == place / "database"
        assert server.notice is None
        assert server.lives
        row = await connection.fetchrow(
            "SELECT current_user AS role, current_database() AS name, rolsuper, rolcreatedb, datlocprovider, datlocale,"
            " current_setting('server_version_num')::int / 10000 AS major, current_setting('data_checksums') AS sums,"
            " current_setting('server_encoding') AS encoding"
            " FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"
        )
        assert row is not None
        assert dict(row) == {
            "role": "hub", "name": "hub", "rolsuper": False, "rolcreatedb": True, "datlocprovider": b"b",
            "datlocale": "C.UTF-8", "major": 18, "sums": "on", "encoding": "UTF8",
        }  # fmt: skip
    assert not server.lives


async def test_a_commit_is_on_the_disk_before_it_is_answered(kept: Path) -> None:
    async with EmbeddedPostgres(kept) as server, connected(server.dsn) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval(f"SHOW {setting}") == "on"


async def test_data_survive_a_restart(kept: Path) -> None:
    async with EmbeddedPostgres(kept) as server, connected(server.dsn) as connection:
        await connection.execute("CREATE TABLE kept_1 AS SELECT 7 AS number")
    async with EmbeddedPostgres(kept) as server, connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT number FROM kept_1") == 7


async def test_the_same_object_can_be_started_again(kept: Path) -> None:
    server = EmbeddedPostgres(kept)
    for _ in range(2):
        async with server, connected(server.dsn) as connection:
            assert await connection.fetchval("SELECT 1") == 1
    with pytest.raises(Unavailable):
        _ = server.dsn


async def test_a_server_whose_hub_was_killed_is_taken_over_and_stops_with_the_next_one(kept: Path) -> None:
    dsn = await killed_after_start(kept)
    async with connected(dsn) as connection:
        await connection.execute("CREATE TABLE kept_2 AS SELECT 7 AS number")
    server = EmbeddedPostgres(kept)
    orphan = postmaster(server)
    async with server, connected(server.dsn) as connection:
        assert postmaster(server) == orphan
        assert await connection.fetchval("SELECT number FROM kept_2") == 7
    assert not (kept / "data" / "postmaster.pid").exists()


async def test_a_server_that_was_killed_with_its_hub_is_started_again(kept: Path) -> None:
    dsn = await killed_after_start(kept)
    async with connected(dsn) as connection:
        await connection.execute("CREATE TABLE kept_3 AS SELECT 7 AS number")
    server = EmbeddedPostgres(kept)
    killed = postmaster(server)
    os.kill(killed, signal.SIGKILL)
    async with server, connected(server.dsn) as connection:
        assert postmaster(server) != killed
        assert await connection.fetchval("SELECT number FROM kept_3") == 7


async def test_a_dead_server_whose_number_somebody_else_has_is_started_again(kept: Path) -> None:
    async with EmbeddedPostgres(kept) as server:
        file = server.location / "data" / "postmaster.pid"
        left = file.read_text().splitlines()
    account = embedded_home.settle(kept, None, Path("/var/lib")).account
    other = embedded_home.popen_as_account(
        account, ["/bin/sleep", "60"], stdin=subprocess.DEVNULL, output=subprocess.DEVNULL
    )
    try:
        file.write_text("\n".join([str(other.pid), *left[1:]]) + "\n")
        async with EmbeddedPostgres(kept) as server:
            assert postmaster(server) != other.pid
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_a_server_left_behind_whose_socket_is_gone_is_replaced(kept: Path) -> None:
    await killed_after_start(kept)
    (kept / "run" / ".s.PGSQL.5432").unlink()
    async with EmbeddedPostgres(kept) as server, connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_second_hub_on_the_same_folder_is_refused_by_name(kept: Path) -> None:
    async with EmbeddedPostgres(kept) as server:
        with pytest.raises(SettingsError, match=f"process {os.getpid()}.*{kept}"):
            await EmbeddedPostgres(kept).start()
        async with connected(server.dsn) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_second_process_may_join_the_server_of_a_running_hub_and_leaves_it_running(
    kept: Path,
) -> None:
    guest = EmbeddedPostgres(kept)
    assert await guest.running() is None
    async with EmbeddedPostgres(kept) as server:
        found = await guest.running()
        assert found == server.dsn
        async with connected(found) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        await guest.stop()
        assert server.lives
    assert await guest.running() is None


async def test_asking_for_a_running_server_makes_nothing(place: Path) -> None:
    assert await EmbeddedPostgres(place / "database").running() is None
    assert [*place.iterdir()] == []


async def test_only_listed_accounts_of_this_machine_get_in(kept: Path) -> None:
    async with EmbeddedPostgres(kept) as server, connected(server.dsn) as connection:
        sockets = server.location / "run"
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert stat.S_IMODE((server.location / "data").stat().st_mode) == 0o700
        assert await connection.fetchval("SHOW listen_addresses") == ""
        doors = [*server.location.rglob("pg_hba.conf")]
        assert server.location / "settings" / "pg_hba.conf" in doors
        for door in doors:
            rules = [
                line.split() for line in door.read_text().splitlines() if line and not line.startswith("#")
            ]
            assert rules
            assert all(rule[-1] in ("peer", "reject", "map=hub") for rule in rules), door
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(server.dsn, user="somebody")


async def test_the_server_runs_without_privileges_groups_or_files_of_ours(kept: Path) -> None:
    async with EmbeddedPostgres(kept) as server:
        process = Path(f"/proc/{postmaster(server)}")
        if not process.exists():
            pytest.skip("this system has no /proc to look into")
        status = dict(
            line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line
        )
        assert "0" not in status["Uid"].split()
        if ROOT:
            assert status["Groups"].split() == []
        assert os.getsid(postmaster(server)) != os.getsid(0)
        opened = {os.readlink(file) for file in (process / "fd").iterdir()}
        assert str(server.location / "hub.lock") not in opened


async def test_what_was_sent_never_reaches_the_servers_log(kept: Path) -> None:
    async with EmbeddedPostgres(kept) as server, connected(server.dsn) as connection:
        await connection.execute("CREATE TABLE citizen (name text PRIMARY KEY)")
        await connection.execute("INSERT INTO citizen VALUES ($1)", "Dupont-Durand")
        for wrong in ("INSERT INTO citizen VALUES ('Dupont-Durand')", "SELECT 'Dupont-Durand'::uuid"):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(wrong)
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("INSERT INTO citizen VALUES ($1)", "Dupont-Durand")
    logs = [*(kept / "log").iterdir(), kept / "start.log"]
    assert any("ready to accept connections" in log.read_text() for log in logs)
    assert not any("Dupont" in log.read_text() for log in logs)


async def test_nothing_outside_the_folder_is_widened_or_added(place: Path) -> None:
    parents = [place / "clone", *(place / "clone").parents]
    (place / "clone").mkdir(mode=0o751)
    before = [
        (folder, folder.stat().st_mode, folder.stat().st_uid, folder.stat().st_gid) for folder in parents
    ]
    async with EmbeddedPostgres(place / "clone" / "database") as server:
        assert server.location == place / "clone" / "database"
        assert stat.S_IMODE(server.location.stat().st_mode) in (0o700, 0o710)
    assert before == [
        (folder, folder.stat().st_mode, folder.stat().st_uid, folder.stat().st_gid) for folder in parents
    ]
    assert [*(place / "clone").iterdir()] == [place / "clone" / "database"]


@pytest.mark.parametrize("name", ["x" * 60 + "/" + "y" * 60, "one, two 'three' é"])
async def test_a_path_no_socket_can_have_is_given_a_private_one_that_goes_away(
    place: Path, name: str
) -> None:
    async with EmbeddedPostgres(place / name / "database") as server, connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1
        sockets = Path((server.location / "data" / "postmaster.pid").read_text().splitlines()[4])
        assert sockets.parent == Path("/tmp")
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()


async def test_a_private_socket_folder_of_a_killed_server_is_removed_by_the_next(place: Path) -> None:
    folder = place / ("x" * 100)
    await killed_after_start(folder)
    server = EmbeddedPostgres(folder)
    sockets = Path((folder / "data" / "postmaster.pid").read_text().splitlines()[4])
    os.kill(postmaster(server), signal.SIGKILL)
    async with server:
        assert not sockets.exists()


async def test_a_database_half_made_by_a_killed_hub_is_begun_anew(place: Path) -> None:
    folder = place / "database"
    with hub_process(folder) as hub:
        deadline = time.monotonic() + 20
        while not [*folder.glob("data.new-*/PG_VERSION")] and time.monotonic() < deadline:
            await asyncio.to_thread(time.sleep, 0.002)
        hub.kill()
    assert not (folder / "data").exists()
    async with EmbeddedPostgres(folder) as server, connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT current_database()") == "hub"


async def test_data_of_another_major_version_are_refused_untouched(kept: Path) -> None:
    version = kept / "data" / "PG_VERSION"
    version.write_text("17\n")
    try:
        with pytest.raises(SettingsError, match=r"PostgreSQL 17.*PostgreSQL 18"):
            await EmbeddedPostgres(kept).start()
        assert version.read_text() == "17\n"
    finally:
        version.write_text("18\n")


async def test_a_server_that_cannot_start_says_the_end_of_its_log_and_lets_the_folder_go(kept: Path) -> None:
    control = kept / "data" / "global" / "pg_control"
    control.rename(control.with_name("kept"))
    with pytest.raises(Unavailable, match="pg_control"):
        await EmbeddedPostgres(kept).start()
    control.with_name("kept").rename(control)
    async with EmbeddedPostgres(kept) as server:
        assert server.lives


@pytest.mark.parametrize("delay", [0.05, 0.4])
async def test_a_start_that_is_cancelled_leaves_nothing_that_hinders_the_next(
    place: Path, delay: float
) -> None:
    starting = asyncio.create_task(EmbeddedPostgres(place / "database").start())
    await asyncio.sleep(delay)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    async with EmbeddedPostgres(place / "database") as server, connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1


@only_root
async def test_a_folder_the_account_cannot_reach_is_replaced_by_one_that_is_said_and_found_again(
    place: Path,
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    locations = []
    for number in (1, 2):
        async with (
            EmbeddedPostgres(closed / "database", elsewhere=place) as server,
            connected(server.dsn) as connection,
        ):
            locations.append(server.location)
            assert server.location.parent == place
            assert server.notice is not None
            assert str(server.location) in server.notice
            assert str(closed / "database") in server.notice
            await connection.execute("CREATE TABLE IF NOT EXISTS started (number int)")
            await connection.execute("INSERT INTO started VALUES ($1)", number)
            assert await connection.fetchval("SELECT count(*) FROM started") == number
    assert locations[0] == locations[1]
    assert stat.S_IMODE(locations[0].stat().st_mode) == 0o710
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert [*closed.iterdir()] == []


@only_root
async def test_a_folder_somebody_else_laid_out_beforehand_is_refused(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    async with EmbeddedPostgres(closed / "database", elsewhere=place) as server:
        location = server.location
    shutil.rmtree(location)
    location.mkdir()
    os.chown(location, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(SettingsError, match="somebody else"):
        await EmbeddedPostgres(closed / "database", elsewhere=place).start()


@only_root
async def test_binaries_the_account_cannot_reach_are_copied_beside_the_data(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = Path(_wheel())
    closed = place / "closed"
    shutil.copytree(
        wheel / "pginstall18", closed / wheel.name / "pginstall18", ignore=shutil.ignore_patterns("include")
    )
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), closed / f"{wheel.name}.libs")
    closed.chmod(0o700)
    monkeypatch.setattr(embedded_home, "_install", lambda: closed / wheel.name / "pginstall18")
    for _ in range(2):
        async with EmbeddedPostgres(place / "database") as server, connected(server.dsn) as connection:
            assert await connection.fetchval("SELECT 1") == 1
            program = os.readlink(f"/proc/{postmaster(server)}/exe")
            assert program.startswith(str(place / "database" / "binaries-"))


@only_root
async def test_the_account_is_the_one_the_settings_name_and_never_root(place: Path) -> None:
    async with EmbeddedPostgres(place / "database", run_as="nobody") as server:
        assert (server.location / "data").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    # Its data keep their owner, whatever the settings say later.
    async with EmbeddedPostgres(place / "database") as server:
        assert (server.location / "data").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    for wrong in ("root", "no-such-user"):
        with pytest.raises(SettingsError, match="HUB_POSTGRES_USER"):
            await EmbeddedPostgres(place / "other", run_as=wrong).start()


@only_root
def test_an_ordinary_user_runs_it_as_itself(place: Path, kept: Path) -> None:
    wheel = Path(_wheel())
    nobody = pwd.getpwnam("nobody")

    async def works(folder: Path) -> None:
        async with EmbeddedPostgres(folder) as server, connected(server.dsn) as connection:
            assert await connection.fetchval("SELECT 1") == 1
            assert (server.location / "data").stat().st_uid == os.geteuid() or os.geteuid() == 0

    # Once as we are, so that all is imported: the ordinary user may not be able to read our Python.
    asyncio.run(works(kept))
    shutil.copytree(wheel, place / wheel.name, ignore=shutil.ignore_patterns("include", "*.a", "pginstall"))
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), place / f"{wheel.name}.libs")
    (place / "home").mkdir()
    os.chown(place / "home", nobody.pw_uid, nobody.pw_gid)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            sys.path.insert(0, str(place))
            asyncio.run(works(place / "home" / "database"))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (place / "home" / "database" / "data").stat().st_uid == nobody.pw_uid


def _wheel() -> str:
    install = embedded_home._install()
    return str(install.parent)
