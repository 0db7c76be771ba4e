"""A bucket that is away, slow, shut, or lies: nothing is believed that was not kept, nobody waits for long,
and no secret is told."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import product

import pytest
from moto.s3.models import FakeKey

from hub.adapters.objects.s3 import MARK, S3Attachments
from hub.adapters.objects.sealing import HEADER, SEGMENT, TAG
from hub.adapters.objects.upload import PART
from hub.domain.errors import Unavailable
from tests.conformance.attachment_places import KEY, chunked, old, whole
from tests.conformance.attachment_server import (
    ACCESS_KEY,
    SECRET_KEY,
    Answer,
    Asked,
    Kept,
    Server,
    dawdle,
    refuse,
    serving,
)

SMALL = os.urandom(400_000)
# One request, and several to read it.
MEDIUM = os.urandom(3_000_000)
# Two parts.
LARGE = os.urandom(PART + 1_000_000)
EVERY_KIND = ("PUT", "HEAD", "uploads", "part", "complete", "GET", "list", "delete")
PATIENCE = 1.0
# What a put may take in all where the store does not answer: its request, and taking it back.
BOUND = 3 * PATIENCE


@pytest.fixture(scope="module")
def serving_all() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def server(serving_all: Server) -> Iterator[Server]:
    serving_all.well()
    yield serving_all
    serving_all.well()


@pytest.fixture
def bucket(server: Server) -> Kept:
    return server.bucket()


@pytest.fixture
def attachments(bucket: Kept) -> S3Attachments:
    return S3Attachments(bucket.settings())


@pytest.fixture
def impatient(bucket: Kept) -> S3Attachments:
    """The same place, for what waits."""
    return S3Attachments(bucket.settings(patience=PATIENCE))


async def put(attachments: S3Attachments, content: bytes) -> str:
    return (await attachments.put(chunked(content), KEY)).name


# --- what is asked of the store -----------------------------------------------------------------------


async def test_a_small_file_is_one_request_and_one_look_at_what_is_kept(
    server: Server, attachments: S3Attachments
) -> None:
    name = await put(attachments, SMALL)
    assert server.kinds() == ["PUT", "HEAD"]
    server.asked.clear()
    assert await whole(attachments, name) == SMALL
    assert server.kinds() == ["GET"]


async def test_a_large_file_travels_in_parts_of_the_least_length(
    server: Server, attachments: S3Attachments
) -> None:
    await put(attachments, LARGE)
    parts = [asked.length for asked in server.asked if asked.kind == "part"]
    assert max(parts) == PART
    assert sorted(server.kinds()) == ["HEAD", "complete", "part", "part", "uploads"]


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART])
async def test_a_file_about_as_long_as_its_parts_is_kept_whole(attachments: S3Attachments, size: int) -> None:
    # So long when it is sealed: a header, and a tag for each segment.
    plain = size - HEADER - TAG * -(-(size - HEADER) // (SEGMENT + TAG))
    content = (LARGE + LARGE)[:plain]
    assert await whole(attachments, await put(attachments, content)) == content


async def test_a_range_asks_for_the_header_and_the_segments_it_needs(
    server: Server, attachments: S3Attachments
) -> None:
    name = await put(attachments, LARGE)
    server.asked.clear()
    assert (
        await whole(attachments, name, 9 * SEGMENT - 5, 9 * SEGMENT + 5)
        == (LARGE[9 * SEGMENT - 5 : 9 * SEGMENT + 5])
    )
    first = HEADER + 8 * (SEGMENT + TAG)
    assert [asked.range for asked in server.asked] == [
        f"bytes=0-{HEADER - 1}",
        f"bytes={first}-{first + 2 * (SEGMENT + TAG) - 1}",
    ]


async def test_a_range_at_the_beginning_asks_once_for_what_it_needs(
    server: Server, attachments: S3Attachments
) -> None:
    name = await put(attachments, LARGE)
    server.asked.clear()
    assert await whole(attachments, name, 0, 10) == LARGE[:10]
    assert [asked.range for asked in server.asked] == [f"bytes=0-{HEADER + SEGMENT + TAG - 1}"]


async def test_a_reader_who_takes_a_long_time_reads_to_the_end(impatient: S3Attachments) -> None:
    name = await put(impatient, LARGE)
    told = hashlib.sha256()
    async for chunk in impatient.read(name, KEY):
        told.update(chunk)
        await asyncio.sleep(PATIENCE / 3)
    assert told.digest() == hashlib.sha256(LARGE).digest()


async def test_many_names_are_removed_a_thousand_at_a_time(
    server: Server, bucket: Kept, attachments: S3Attachments
) -> None:
    names = [f"{number:032x}" for number in range(2500)]
    for name in names:
        bucket.lay(f"essai/pieces/{name}", b"x")
    told = [name async for page in attachments.names_older_than(timedelta(seconds=-5)) for name in page]
    assert sorted(told) == names
    server.asked.clear()
    await attachments.remove(told)
    assert server.kinds() == ["delete"] * 3
    assert bucket.all() == {}


async def test_what_lies_beside_the_prefix_or_has_another_name_is_neither_told_nor_removed(
    bucket: Kept, attachments: S3Attachments
) -> None:
    others = [f"{'a' * 32}", f"essai/{'b' * 32}", f"essai/pieces/ici/{'c' * 32}", "essai/pieces/notes.txt"]
    others.append(f"essai/pieces-autres/{'d' * 32}")
    for key in others:
        bucket.lay(key, b"of somebody else")
    name = await put(attachments, SMALL)
    assert await old(attachments, timedelta(seconds=-5)) == [name]
    await attachments.remove([name, "a" * 32, "b" * 32, "c" * 32, "notes.txt"])
    assert len(bucket.all()) == len(others)


# --- what the store says it keeps ---------------------------------------------------------------------


def damage(bucket: Kept) -> Callable[[Asked], Answer | None]:
    """Before anybody looks at it, one bit of what is kept turns over."""

    def conduct(asked: Asked) -> Answer | None:
        if asked.kind == "HEAD":
            [(name, kept)] = bucket.all().items()
            bucket.overwrite(name, kept[:-1000] + bytes([kept[-1000] ^ 1]) + kept[-999:])
        return None

    return conduct


def cut(bucket: Kept) -> Callable[[Asked], Answer | None]:
    def conduct(asked: Asked) -> Answer | None:
        if asked.kind == "HEAD":
            [(name, kept)] = bucket.all().items()
            bucket.overwrite(name, kept[:-1])
        return None

    return conduct


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("spoil", [damage, cut])
async def test_a_store_that_keeps_something_else_is_not_believed_and_nothing_remains(
    server: Server,
    bucket: Kept,
    attachments: S3Attachments,
    content: bytes,
    spoil: Callable[[Kept], Callable[[Asked], Answer | None]],
) -> None:
    server.conduct = spoil(bucket)
    with pytest.raises(Unavailable):
        await put(attachments, content)
    assert bucket.all() == {}


@pytest.fixture
def opaque(monkeypatch: pytest.MonkeyPatch) -> None:
    """ETags as of a store that encrypts under keys of its own: of the right form, and no digest."""
    told = property(lambda kept: f'"{hashlib.sha256(str(kept.name).encode()).hexdigest()[:32]}"')
    monkeypatch.setattr(FakeKey, "etag", told)


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.usefixtures("opaque")
async def test_where_etags_are_no_digests_all_of_a_file_is_read_back_before_it_counts(
    server: Server, bucket: Kept, attachments: S3Attachments, content: bytes
) -> None:
    name = await put(attachments, content)
    assert server.kinds().count("GET") == -(-len(bucket.all()[name]) // 2**20)
    assert await whole(attachments, name) == content
    await attachments.remove([name])
    server.conduct = damage(bucket)
    with pytest.raises(Unavailable):
        await put(attachments, content)
    assert bucket.all() == {}


@pytest.mark.parametrize("kind", ["PUT", "HEAD", "uploads", "part"])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_an_answer_that_was_lost_is_made_good(
    server: Server, bucket: Kept, attachments: S3Attachments, kind: str, content: bytes
) -> None:
    server.lose(kind)
    name = await put(attachments, content)
    assert [found for found in bucket.all() if len(found) == 32] == [name]
    assert await whole(attachments, name) == content


async def test_a_completion_whose_answer_was_lost_leaves_nothing_or_a_whole_file(
    server: Server, bucket: Kept, attachments: S3Attachments
) -> None:
    server.lose("complete")
    name = None
    with suppress(Unavailable):
        name = await put(attachments, LARGE)
    assert set(bucket.all()) == ({name} if name else set())


# --- a store that is away -----------------------------------------------------------------------------

WORDS = b"<Error><Code>Essai</Code><AWSAccessKeyId>%s</AWSAccessKeyId></Error>" % ACCESS_KEY.encode()

ABSENCES: dict[str, Callable[[Server], None]] = {
    "refuses connections": Server.shut,
    "does not answer": lambda server: setattr(server, "conduct", dawdle(PATIENCE * 2.5)),
    "503": lambda server: setattr(server, "conduct", refuse("503 Slow Down", body=WORDS)),
    "403": lambda server: setattr(server, "conduct", refuse("403 Forbidden", body=WORDS)),
    "no such bucket": lambda server: setattr(server, "conduct", refuse("404 Not Found", body=WORDS)),
    "speaks of something else": lambda server: setattr(server, "conduct", refuse("200 OK", body=b"<html>")),
}


async def _told(attachments: S3Attachments) -> None:
    async for _ in attachments.names_older_than(timedelta(0)):
        pass


VERBS: dict[str, Callable[[S3Attachments, str], Awaitable[object]]] = {
    "put a small file": lambda attachments, _: put(attachments, SMALL),
    "put a large file": lambda attachments, _: put(attachments, LARGE),
    "read": lambda attachments, name: whole(attachments, name),
    "read far in": lambda attachments, name: whole(attachments, name, len(MEDIUM) - 10),
    "remove": lambda attachments, name: attachments.remove([name]),
    "names": lambda attachments, _: _told(attachments),
    "whose it is": lambda attachments, _: attachments.owner("this store"),
}


@pytest.mark.parametrize(
    ("verb", "absence"),
    # Whatever else is told, it is not the name of this store.
    [pair for pair in product(VERBS, ABSENCES) if pair != ("whose it is", "speaks of something else")],
)
async def test_a_store_that_is_away_is_unavailable_soon_and_back_when_it_is_back(
    server: Server,
    bucket: Kept,
    attachments: S3Attachments,
    impatient: S3Attachments,
    absence: str,
    verb: str,
) -> None:
    name = await put(attachments, MEDIUM)
    await attachments.owner("this store")
    ABSENCES[absence](server)
    try:
        async with asyncio.timeout(BOUND):
            with pytest.raises(Unavailable) as caught:
                await VERBS[verb](impatient, name)
    finally:
        if absence == "refuses connections":
            server.open()
        server.well()
    told = "".join(traceback.format_exception(caught.value))
    for secret in (ACCESS_KEY, SECRET_KEY, bucket.name, name, "essai/pieces", "127.0.0.1"):
        assert secret not in told
    assert set(bucket.all()) == {name, MARK}
    assert await whole(attachments, name) == MEDIUM
    assert await whole(attachments, await put(attachments, SMALL)) == SMALL


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests"])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_a_store_that_fails_for_a_moment_is_asked_again(
    server: Server, attachments: S3Attachments, status: str, content: bytes
) -> None:
    once = {kind: refuse(status, kind, times=1) for kind in EVERY_KIND}
    server.conduct = lambda asked: once[asked.kind](asked)
    name = await put(attachments, content)
    assert await whole(attachments, name) == content
    assert name in await old(attachments, timedelta(seconds=-5))
    await attachments.remove([name])
    assert await old(attachments, timedelta(seconds=-5)) == []


@pytest.mark.parametrize("kind", ["uploads", "part", "complete", "HEAD"])
@pytest.mark.parametrize("status", ["503 Slow Down", "403 Forbidden"])
async def test_a_large_file_that_fails_on_its_way_leaves_nothing_at_all(
    server: Server, bucket: Kept, attachments: S3Attachments, kind: str, status: str
) -> None:
    server.conduct = refuse(status, kind)
    with pytest.raises(Unavailable):
        await put(attachments, LARGE)
    assert bucket.all() == {}


async def test_a_sender_that_is_slow_hears_of_a_store_that_went_away_with_its_next_chunk(
    server: Server, attachments: S3Attachments
) -> None:
    given = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal given
        async for chunk in chunked(4 * LARGE, 2**20):
            given += 1
            yield chunk
            await asyncio.sleep(0.05)

    server.conduct = refuse("403 Forbidden", "uploads", "part")
    with pytest.raises(Unavailable):
        await attachments.put(chunks(), KEY)
    assert given < 10


async def test_a_connection_that_was_closed_meanwhile_is_no_absence(
    server: Server, attachments: S3Attachments
) -> None:
    for _ in range(3):
        name = await put(attachments, SMALL)
        server.shut()
        await asyncio.sleep(0.1)
        server.open()
        assert await whole(attachments, name) == SMALL


# --- given up -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "kind"), [(SMALL, "PUT"), (LARGE, "part"), (LARGE, "complete")])
async def test_what_arrives_while_a_put_is_being_cancelled_does_not_remain(
    server: Server, bucket: Kept, attachments: S3Attachments, content: bytes, kind: str
) -> None:
    server.conduct = dawdle(0.15, kind)
    task = asyncio.create_task(put(attachments, content))
    async with asyncio.timeout(5):
        while kind not in server.kinds():
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bucket.all() == {}
    await asyncio.sleep(0.3)
    assert bucket.all() == {}


@pytest.mark.parametrize("kind", ["PUT", "uploads", "part", "complete", "HEAD"])
async def test_cancelling_does_not_wait_for_a_store_that_does_not_answer(
    server: Server, impatient: S3Attachments, kind: str
) -> None:
    server.conduct = dawdle(4 * PATIENCE, kind, "abort", "delete")
    task = asyncio.create_task(put(impatient, SMALL if kind == "PUT" else LARGE))
    async with asyncio.timeout(5):
        while kind not in server.kinds():
            await asyncio.sleep(0.005)
    began = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - began < PATIENCE


# --- whose the bucket is ------------------------------------------------------------------------------


async def test_a_place_in_a_bucket_belongs_to_the_first_store_that_asks(bucket: Kept) -> None:
    one, other = (S3Attachments(bucket.settings()) for _ in range(2))
    assert await one.owner("store-1") == "store-1"
    assert await other.owner("store-2") == "store-1"
    assert await S3Attachments(bucket.settings("ailleurs")).owner("store-2") == "store-2"
    assert await old(one, timedelta(seconds=-5)) == []


async def test_of_stores_that_ask_at_once_one_is_the_owner(bucket: Kept) -> None:
    several = [S3Attachments(bucket.settings()) for _ in range(8)]
    told = await asyncio.gather(*(each.owner(f"store-{n}") for n, each in enumerate(several)))
    assert len(set(told)) == 1


async def test_an_unresolvable_store_is_unavailable(bucket: Kept) -> None:
    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unbound.getsockname()[1]}"
    for endpoint in (nobody, "https://store.invalid"):
        attachments = S3Attachments(bucket.settings(endpoint=endpoint, patience=PATIENCE / 2))
        async with asyncio.timeout(BOUND):
            with pytest.raises(Unavailable):
                await put(attachments, SMALL)
