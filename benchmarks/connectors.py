"""Connectors beside the bare loops of the libraries they are made of, on kept connections, in one run.

All on uvloop, as the hub is. SFTP on OpenSSH's own server, which keeps what it gets in memory: parcels of two small
files; one file of a gigabyte that lies sealed here, beside a bare put of a plain one and OpenSSH's own client; the
service-public zip, built and not sent.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import uvloop

from benchmarks import mails
from benchmarks.rows import Row, at_least, at_most, measured, run
from benchmarks.turns import in_turn
from connectors import sftp
from connectors.layouts import LAYOUTS, Origin, packed
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.objects.local import LocalAttachments
from hub.domain.delivery import Delivered
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector, Parcel, ParcelFile
from tests.connectors.openssh import HERE, OpenSsh, openssh
from tests.connectors.partners import some_file, some_parcel, surroundings
from tests.postfix import postfix

GIGABYTE = 1_000_000_000
PAGE = 20
"""Parcels that the engine hands over at once."""
SMALL = (3_000, 20_000)
"""Bytes of a parcel's two files."""

_MEMORY = Path("/dev/shm")  # noqa: S108
_LIMIT = 60.0


def measure(short: bool) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="hub-bench-", dir=_MEMORY) as folder:
        with openssh(Path(folder)) as server:
            rows += uvloop.run(_sftp_parcels(server, short))
            rows += uvloop.run(_sftp_gigabyte(server, Path(folder), short))
        rows += uvloop.run(_zip(Path(folder)))
    with postfix() as mail_server:
        rows += uvloop.run(mails.measure(mail_server, short))
    return rows


# --- parcels ------------------------------------------------------------------------------------------


async def _sftp_parcels(server: OpenSsh, short: bool) -> list[Row]:
    pages = 10 if short else 25
    parcels = PAGE * pages
    contents = [os.urandom(size) for size in SMALL]
    connector = sftp.connector(surroundings())
    folder, endpoint = server.fresh("parcels")
    bare_folder, _ = server.fresh("bare")
    async with _client(server) as client:

        async def ours() -> float:
            return await _delivered(connector, endpoint, folder, contents, pages)

        async def bare() -> float:
            return await _looped(client, bare_folder, contents, parcels, durable=True)

        async def careless() -> float:
            return await _looped(client, bare_folder, contents, parcels, durable=False)

        mine, floor, plain = await in_turn(3 if short else 7, ours, bare, careless)
    await connector.close()
    return [
        measured(
            f"SFTP, parcels of two files ({SMALL[0]} and {SMALL[1]} bytes)", parcels / mine, "parcels/s"
        ),
        measured("the same requests in a bare asyncssh loop (floor)", parcels / floor, "parcels/s"),
        measured("the same without making files durable", parcels / plain, "parcels/s"),
        at_least("SFTP / floor", floor / mine, "ratio", 0.8),
    ]


async def _delivered(
    connector: Connector, endpoint: Endpoint, folder: Path, contents: Sequence[bytes], pages: int
) -> float:
    made = [[_small(contents) for _ in range(PAGE)] for _ in range(pages)]
    await connector.deliver(endpoint, [_small(contents)], _LIMIT)
    begun = time.perf_counter()
    for page in made:
        outcomes = await connector.deliver(endpoint, page, _LIMIT)
        if not all(isinstance(outcome, Delivered) for outcome in outcomes):
            raise RuntimeError("not delivered")
    took = time.perf_counter() - begun
    if len(list(folder.iterdir())) != PAGE * pages + 1:
        raise RuntimeError("not all arrived")
    _empty(folder)
    return took


def _small(contents: Sequence[bytes]) -> Parcel:
    return some_parcel(
        *(some_file(number, f"{number}.bin", content) for number, content in enumerate(contents))
    )


async def _looped(
    client: asyncssh.SFTPClient, folder: Path, contents: Sequence[bytes], parcels: int, *, durable: bool
) -> float:
    """As many at once as the connector has under way: a folder under another name, its files, a rename."""
    numbers = iter(range(parcels))

    async def one_after_the_other() -> None:
        for number in numbers:
            part = f"{folder}/.{number}.part"
            await client.mkdir(part)
            for place, content in enumerate(contents):
                async with client.open(f"{part}/{place}.bin", "xb") as file:
                    await file.write(content)
                    if durable:
                        await file.fsync()
            await client.rename(part, f"{folder}/{number}")

    begun = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(sftp.AT_ONCE)))
    took = time.perf_counter() - begun
    _empty(folder)
    return took


@asynccontextmanager
async def _client(server: OpenSsh) -> AsyncIterator[asyncssh.SFTPClient]:
    told = server.endpoint.settings
    async with (
        asyncssh.connect(
            HERE,
            int(str(told["port"])),
            username=str(told["username"]),
            known_hosts=None,
            client_keys=[str(server.login)],
            encryption_algs=[sftp.CIPHERS[0]],
            compression_algs=None,
            config=None,
            agent_path=None,
        ) as connection,
        connection.start_sftp_client() as client,
    ):
        yield client


def _empty(folder: Path) -> None:
    for found in folder.iterdir():
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink()


# --- a gigabyte ---------------------------------------------------------------------------------------


async def _sftp_gigabyte(server: OpenSsh, folder: Path, short: bool) -> list[Row]:
    plain = folder / "plain.bin"
    sealed = await _sealed(folder, plain)
    target, endpoint = server.fresh("large")
    connector = sftp.connector(surroundings())
    async with _client(server) as client:

        async def ours() -> float:
            begun = time.perf_counter()
            outcomes = await connector.deliver(endpoint, [some_parcel(sealed)], _LIMIT)
            took = time.perf_counter() - begun
            if not isinstance(outcomes[0], Delivered):
                raise RuntimeError("not delivered")
            _empty(target)
            return took

        async def bare() -> float:
            begun = time.perf_counter()
            await client.put(str(plain), f"{target}/plain.bin")
            took = time.perf_counter() - begun
            _empty(target)
            return took

        async def theirs() -> float:
            took = await asyncio.to_thread(_batch, server, plain, target)
            _empty(target)
            return took

        mine, floor, openssh_client = await in_turn(1 if short else 5, ours, bare, theirs)
    await connector.close()
    plain.unlink()
    return [
        measured("SFTP, a sealed file of 1 GB", GIGABYTE / mine / 1e6, "MB/s"),
        measured("bare asyncssh put of a plain one (floor)", GIGABYTE / floor / 1e6, "MB/s"),
        measured(
            f"OpenSSH's own client, {sftp.CIPHERS[0]} as the others", GIGABYTE / openssh_client / 1e6, "MB/s"
        ),
        at_least("sealed / floor", floor / mine, "ratio", 0.7),
    ]


def _batch(server: OpenSsh, plain: Path, target: Path) -> float:
    told = server.endpoint.settings
    begun = time.perf_counter()
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    subprocess.run(
        [
            "sftp",
            "-q",
            "-b",
            "-",
            *("-P", str(told["port"]), "-i", str(server.login), "-F", "none", "-c", sftp.CIPHERS[0]),
            *(part for option in options for part in ("-o", option)),
            f"{told['username']}@{HERE}",
        ],
        input=f"put {plain} {target}/theirs.bin\n".encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - begun


async def _sealed(folder: Path, plain: Path) -> ParcelFile:
    """A file of a gigabyte as the hub keeps it, and the same bytes beside it."""
    keyring = LocalKeyring(bytes(32))
    store, key = LocalAttachments(folder / "sealed"), keyring.fresh()
    block = os.urandom(1_000_000)

    async def chunks() -> AsyncIterator[bytes]:
        with plain.open("wb") as file:
            for _ in range(GIGABYTE // len(block)):
                file.write(block)
                yield block

    stored = await store.put(chunks(), key)
    return ParcelFile(
        number=1,
        name="plan.tif",
        original="plan.tif",
        type="plan",
        media_type="image/tiff",
        size=stored.size,
        sha256=stored.sha256.hex(),
        open=lambda start, end: store.read(stored.name, key, start, end),
    )


# --- the zip ------------------------------------------------------------------------------------------


async def _zip(folder: Path) -> list[Row]:
    sealed = await _sealed(folder, folder / "again.bin")
    layout = LAYOUTS["service-public"]
    parcel = some_parcel(some_file(0, "submission.json", b"{}"), sealed)
    # From here on the highest is counted anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    begun, size = time.perf_counter(), 0
    entries = await layout.entries(parcel, Origin("21640122200017", "AIGUILLAGE"))
    async for _, piece in packed(entries, parcel.received_at):
        size += len(piece)
    took = time.perf_counter() - begun
    grown = _peak() - before
    return [
        at_least("service-public zip of a sealed file of 1 GB, built", size / took / 1e6, "MB/s", 200),
        at_most("memory that it cost", grown, "MB", 50),
    ]


def _peak() -> float:
    """Of this process's memory, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    run("connectors", measure)
