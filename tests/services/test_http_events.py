"""The way back over HTTP: partners report, senders read events; each once, in order, and nobody else's.

One little hub for the whole file: each test has submissions of its own.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio

from hub.domain.lifecycle import State
from tests.conformance.samples import execute, rows
from tests.conftest import Databases
from tests.services.http_world import OTHER_SENDER, SENDER, Answer, World, offer, open_world, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "Zébulon-7319"
_numbers = count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    postgres_dsn: str, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    made = Databases(postgres_dsn, database_template)
    folder: Path = tmp_path_factory.mktemp("hub")
    async with open_world(made.make(), folder) as world:
        yield world
    made.drop()


async def parcel(world: World, who: str = SENDER) -> tuple[str, str]:
    """A submission that lies in Bonneville's mailbox: its external id, and the delivery."""
    name = f"retour-{next(_numbers)}"
    answer = await world.post(offer(external_id=name), who)
    assert answer.status == 202, answer.body
    await world.route()
    told = (await world.call("GET", f"/v1/submissions/{answer.json['id']}", who)).json
    return name, next(one["id"] for one in told["deliveries"] if one["partner"] == "Mairie de Bonneville")


async def report(world: World, delivery: str, who: str = "bonneville", **told: Any) -> Answer:
    return await world.call("POST", f"/v1/mailbox/{delivery}/events", who, json=told)


async def report_file(world: World, delivery: str, content: bytes, **told: Any) -> Answer:
    with aiohttp.MultipartWriter("form-data") as form:
        form.append_json(told).set_content_disposition("form-data", name="event")
        form.append(content).set_content_disposition("form-data", name="file", filename="x")
        return await world.call("POST", f"/v1/mailbox/{delivery}/events", "bonneville", data=form)


async def events(world: World, who: str = SENDER, since: int = 0) -> list[Any]:
    answer = await world.call("GET", f"/v1/events?since={since}&limit=500", who)
    assert answer.status == 200, answer.body
    items: list[Any] = answer.json["items"]
    return items


async def events_of(world: World, delivery: str) -> list[Any]:
    return [one for one in await events(world) if one["delivery"] == delivery]


async def state(world: World, delivery: str) -> State:
    [row] = await rows(world.database, "SELECT state FROM delivery WHERE id = $1", UUID(delivery))
    return State(row["state"])


async def test_what_a_partner_reports_its_sender_reads_once_and_in_order(world: World) -> None:
    name, delivery = await parcel(world)
    first = await report(
        world, delivery, status="IN_PROGRESS", message=f"Bien reçu. {SECRET}", reference="r-1"
    )
    again = await report(
        world, delivery, status="IN_PROGRESS", message=f"Bien reçu. {SECRET}", reference="r-1"
    )
    done = await report(world, delivery, status="DONE")
    repeated = await report(world, delivery, status="DONE")
    assert [answer.status for answer in (first, again, done, repeated)] == [201, 200, 201, 200]
    assert again.json == first.json | {"fresh": False}
    assert repeated.json == done.json | {"fresh": False}
    told = await events_of(world, delivery)
    assert [(one["status"], one["before"]) for one in told] == [
        ("IN_PROGRESS", "HUBEE_NOTIFIED"),
        ("DONE", "IN_PROGRESS"),
    ]
    assert told[0]["message"] == f"Bien reçu. {SECRET}"
    assert (told[0]["reference"], told[0]["external_id"]) == ("r-1", name)
    assert [one["id"] for one in told] == [first.json["event"], done.json["event"]]
    assert told[1]["number"] == told[0]["number"] + 1
    assert [one["number"] for one in await events(world, since=told[0]["number"])] == [told[1]["number"]]
    seen = (await world.call("GET", f"/v1/submissions/{told[0]['submission']}")).json["deliveries"]
    assert {one["id"]: one["case"] for one in seen}[delivery] == "DONE"
    # Who read what is in the journal, once.
    lines = await rows(
        world.database,
        "SELECT actor FROM journal WHERE event = 'event.shown' AND delivery = $1",
        UUID(delivery),
    )
    assert [line["actor"] for line in lines] == [f"sender:{SENDER}"] * 2


async def test_whoever_works_on_a_parcel_has_it(world: World) -> None:
    _, delivery = await parcel(world)
    assert (await report(world, delivery, message="Où est-il ?")).status == 201
    assert await state(world, delivery) is State.PLANNED
    assert (await report(world, delivery, status="SI_RECEIVED")).status == 201
    assert await state(world, delivery) is State.ACKNOWLEDGED
    lines = await rows(
        world.database, "SELECT event, detail FROM journal WHERE delivery = $1 ORDER BY id", UUID(delivery)
    )
    assert ("delivery.acknowledged", "was planned; by what it reports") in [tuple(line) for line in lines]


async def test_a_status_that_may_not_follow_is_refused_with_those_that_may(world: World) -> None:
    _, delivery = await parcel(world)
    answer = await report(world, delivery, status="ADD_AWAITING")
    assert answer.status == 409
    assert answer.rules == {("/status", "move")}
    assert "IN_PROGRESS" in answer.json["detail"]
    assert "DONE" in answer.json["detail"]
    case = (await world.call("GET", f"/v1/mailbox/{delivery}/case", "bonneville")).json
    assert case["status"] == "HUBEE_NOTIFIED"
    assert case["allowed"] == ["SENT", "SI_RECEIVED", "IN_PROGRESS", "DONE", "SI_INTG_ERROR"]
    assert await events_of(world, delivery) == []


async def test_a_reference_stands_for_what_it_was_first_used_for(world: World) -> None:
    _, delivery = await parcel(world)
    assert (await report(world, delivery, message="un", reference="a")).status == 201
    answer = await report(world, delivery, message="deux", reference="a")
    assert (answer.status, answer.rules) == (409, {("/reference", "used_before")})
    assert len(await events_of(world, delivery)) == 1


async def test_a_returned_file_is_whole_and_read_by_ranges(world: World) -> None:
    _, delivery = await parcel(world)
    content = bytes(range(256)) * 3000
    digest = hashlib.sha256(content).hexdigest()
    told = {"name": f"récépissé {SECRET}.pdf", "media_type": "application/pdf", "sha256": digest}
    first = await report_file(world, delivery, content, status="DONE", file=told)
    again = await report_file(world, delivery, content, status="DONE", file=told)
    assert (first.status, again.status) == (201, 200)
    [event] = await events_of(world, delivery)
    assert event["file"]["size"] == len(content)
    assert event["file"]["original_name"] == told["name"]
    whole = await world.call("GET", f"/v1/events/{event['id']}/file")
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["ETag"] == f'"{digest}"'
    part = await world.call("GET", f"/v1/events/{event['id']}/file", headers={"Range": "bytes=256-1023"})
    assert (part.status, part.body) == (206, content[256:1024])
    assert part.headers["Repr-Digest"] == whole.headers["Content-Digest"]
    assert (await world.call("GET", f"/v1/events/{event['id']}/file", OTHER_SENDER)).status == 404
    assert (await world.call("GET", f"/v1/events/{event['id']}/file", "bonneville")).status == 403
    # Of the two that came, one file is kept, sealed, and the sweep knows it.
    [row] = await rows(world.database, "SELECT location FROM event WHERE id = $1", UUID(event["id"]))
    assert await rows(world.database, "SELECT FROM stored_file WHERE location = $1", row["location"])
    await until(lambda: sum(path.stat().st_size > len(content) for path in world.files()) == 1)


async def test_a_small_file_may_come_inline(world: World) -> None:
    _, delivery = await parcel(world)
    file = {"name": "avis.txt", "content": base64.b64encode(b"bonjour").decode()}
    assert (await report(world, delivery, file=file)).status == 201
    [event] = await events_of(world, delivery)
    assert (await world.call("GET", f"/v1/events/{event['id']}/file")).body == b"bonjour"
    assert event["status"] is None


BAD = [
    ({}, {("", "empty")}),
    ({"status": "FINI"}, {("/status", "literal_error")}),
    ({"status": "CLOSED"}, {("/status", "literal_error")}),
    ({"message": ""}, {("/message", "string_too_short")}),
    ({"message": "x" * 1001}, {("/message", "string_too_long")}),
    ({"message": "a\x00b"}, {("/message", "signs")}),
    ({"message": "a\ud800b"}, {("", "json_invalid")}),
    ({"message": " \n "}, {("/message", "blank")}),
    ({"message": "a", "reference": "b\nc"}, {("/reference", "signs")}),
    ({"message": "a", "author": "x"}, {("/author", "extra_forbidden")}),
    ({"file": {"name": "a"}}, {("/file", "missing_file")}),
    ({"file": {"name": "a", "content": "?"}}, {("/file/content", "base64")}),
    ({"file": {"name": "a", "content": "AAAA", "size": 4}}, {("/file/size", "truncated")}),
    ({"file": {"name": "a", "content": "AAAA", "size": 2}}, {("/file/size", "oversized")}),
    ({"file": {"name": "a", "content": "AAAA", "sha256": "0" * 64}}, {("/file/sha256", "digest_mismatch")}),
    ({"file": {"name": "a\nb", "content": "AAAA"}}, {("/file/name", "signs")}),
]


async def test_what_breaks_a_rule_names_the_field_and_keeps_nothing(world: World) -> None:
    _, delivery = await parcel(world)
    before = len(world.files())
    for told, rules in BAD:
        body = json.dumps(told).encode()
        answer = await world.call(
            "POST",
            f"/v1/mailbox/{delivery}/events",
            "bonneville",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        assert (answer.status, answer.rules) == (422, rules), told
    for content in (b"[]", b"null", b"{", b"\xff", b'"a"', b"[" * 100_000):
        answer = await world.call(
            "POST",
            f"/v1/mailbox/{delivery}/events",
            "bonneville",
            data=content,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status == 422, content[:9]
    assert await events_of(world, delivery) == []
    await until(lambda: len(world.files()) == before)


async def test_a_body_that_is_cut_or_goes_on_leaves_nothing(world: World) -> None:
    _, delivery = await parcel(world)
    before = len(world.files())

    def part(name: bytes, content: bytes) -> bytes:
        return b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, content)

    told = json.dumps({"file": {"name": "a"}}).encode()
    bodies = {
        part(b"event", told) + part(b"file", b"abc"): "multipart",
        part(b"event", told) + b"--x--\r\n": "missing_file",
        part(b"file", b"abc") + b"--x--\r\n": "first_part",
        part(b"event", told) + part(b"file", b"a") + part(b"file", b"b") + b"--x--\r\n": "extra_file",
        part(b"event", b'{"message":"m"}') + part(b"file", b"a") + b"--x--\r\n": "extra_file",
    }
    for body, rule in bodies.items():
        answer = await world.call(
            "POST",
            f"/v1/mailbox/{delivery}/events",
            "bonneville",
            data=body,
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert answer.status == 422, (rule, answer.body)
        assert {one for _, one in answer.rules} == {rule}
    assert await events_of(world, delivery) == []
    await until(lambda: len(world.files()) == before)


async def test_another_partner_s_deliveries_do_not_exist(world: World) -> None:
    _, delivery = await parcel(world)
    nowhere = str(UUID(int=4 << 76))
    theirs = await report(world, delivery, "ministry", status="DONE")
    missing = await report(world, nowhere, "ministry", status="DONE")
    assert (theirs.status, theirs.body) == (missing.status, missing.body)
    assert theirs.status == 404
    assert (await report(world, "x", "bonneville", status="DONE")).status == 404
    assert (await report(world, delivery, SENDER, status="DONE")).status == 403
    assert (await world.call("GET", f"/v1/mailbox/{delivery}/case", "ministry")).status == 404
    assert (await world.call("GET", "/v1/events", "bonneville")).status == 403
    assert (await world.call("GET", "/v1/events", None)).status == 401
    assert await events_of(world, delivery) == []


async def test_what_was_withdrawn_can_be_reported_on_no_more(world: World) -> None:
    _, delivery = await parcel(world)
    await execute(
        world.database, f"UPDATE delivery SET state = 'withdrawn', due_at = NULL WHERE id = '{delivery}'"
    )
    answer = await report(world, delivery, status="DONE")
    assert (answer.status, answer.rules) == (409, {("", "withdrawn")})


async def test_of_a_purged_submission_the_sender_still_learns_that_there_was_an_event(world: World) -> None:
    _, delivery = await parcel(world)
    assert (await report(world, delivery, status="DONE", message=SECRET)).status == 201
    await execute(
        world.database,
        f"DELETE FROM submission_key WHERE submission = (SELECT submission FROM delivery WHERE id = '{delivery}')",
    )
    [event] = await events_of(world, delivery)
    assert (event["status"], event["message"], event["purged"]) == ("DONE", None, True)
    answer = await report(world, delivery, message="encore")
    assert (answer.status, answer.rules) == (409, {("", "purged")})


async def test_reports_of_many_at_once_are_numbered_without_a_gap(world: World) -> None:
    deliveries = [(await parcel(world, OTHER_SENDER))[1] for _ in range(8)]
    answers = await asyncio.gather(
        *(report(world, one, status=status) for one in deliveries for status in ("DONE", "DONE"))
    )
    assert sorted(answer.status for answer in answers) == [200] * 8 + [201] * 8
    told = await events(world, OTHER_SENDER)
    assert [one["number"] for one in told] == list(range(1, 9))
    assert {one["delivery"] for one in told} == set(deliveries)


async def test_what_was_said_stands_nowhere_in_clear(world: World) -> None:
    _, delivery = await parcel(world)
    file = {"name": f"{SECRET}.txt", "content": base64.b64encode(SECRET.encode() * 99).decode()}
    answer = await report(world, delivery, status="DONE", message=SECRET, reference=SECRET, file=file)
    assert answer.status == 201
    tables = await rows(
        world.database,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
    )
    for table in tables:
        found = await rows(
            world.database,
            f'SELECT count(*) AS found FROM "{table["relname"]}" AS held'
            f" WHERE held::text LIKE '%' || $1 || '%' OR held::text LIKE '%' || $2 || '%'",
            SECRET,
            SECRET.encode().hex(),
        )
        assert found[0]["found"] == 0, table["relname"]
    for path in world.files():
        assert SECRET.encode() not in path.read_bytes()
