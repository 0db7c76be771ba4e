"""The mailbox over HTTP: drawers, what programs hold, and that another partner's parcels do not exist."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio

from tests.conformance.samples import execute, rows
from tests.services.http_world import SENDER, Answer, World, inline, offer, open_world

CONTENT = bytes(range(256)) * 20
JSON = {"Content-Type": "application/json"}
NOWHERE = str(UUID(int=4 << 76))


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


async def fill(world: World, count: int) -> list[str]:
    """So many parcels, in Bonneville's mailbox and the ministry's; the names of Bonneville's, by their numbers."""
    for number in range(count):
        answer = await world.post(offer(external_id=f"d-{number}", attachments=[inline(CONTENT)]))
        assert answer.status == 202, answer.body
    await world.route()
    await world.deliver()
    return [item["delivery"] for item in (await look(world))["items"]]


async def look(world: World, query: str = "", who: str = "bonneville") -> Any:
    answer = await world.call("GET", f"/v1/mailbox{query}", who)
    assert answer.status == 200, answer.body
    return answer.json


async def order(world: World, path: str, body: object, who: str = "bonneville") -> Answer:
    return await world.call("POST", f"/v1/mailbox/{path}", who, data=json.dumps(body).encode(), headers=JSON)


async def lease(world: World, **asked: object) -> Any:
    answer = await order(world, "leases", asked)
    assert answer.status == 200, answer.body
    return answer.json


def sequences(told: Any) -> list[int]:
    return [item["sequence"] for item in told["items"]]


async def test_two_programs_take_different_parcels_and_fetch_and_acknowledge_them(world: World) -> None:
    await fill(world, 5)
    one, two = await asyncio.gather(lease(world, limit=3), lease(world, limit=3))
    assert sorted(sequences(one) + sequences(two)) == [1, 2, 3, 4, 5]
    assert one["reader"] != two["reader"]
    assert {item["leased_until"] for item in one["items"]} == {one["until"]}
    link = one["items"][0]["files"][1]["link"].replace("https://hub.example", world.url)
    assert (await world.call("GET", link, None)).body == CONTENT
    names = [item["delivery"] for told in (one, two) for item in told["items"]]
    answer = await order(world, "acknowledge", {"deliveries": names})
    assert answer.json == {"items": [{"delivery": name, "state": "acknowledged"} for name in names]}
    assert (await look(world))["items"] == []
    assert sequences(await look(world, "?drawer=acknowledged")) == [5, 4, 3, 2, 1]


async def test_a_program_gives_back_what_it_will_not_treat_and_only_its_own(world: World) -> None:
    await fill(world, 3)
    assert sequences(await lease(world, reader="poste-1", limit=2)) == [1, 2]
    assert sequences(await lease(world, reader="poste-2")) == [3]
    for who, released in (("ministry", 0), ("bonneville", 2), ("bonneville", 0)):
        answer = await world.call("DELETE", "/v1/mailbox/leases/poste-1", who)
        assert (answer.status, answer.json) == (200, {"released": released})
    assert sequences(await lease(world, reader="poste-2")) == [1, 2, 3]
    for odd in ("%00", "x" * 500, "%F0%9F%98%80", "a%20b"):
        answer = await world.call("DELETE", f"/v1/mailbox/leases/{odd}", "bonneville")
        assert (answer.status, answer.json) == (200, {"released": 0})


async def test_what_does_not_open_is_named_and_keeps_a_program_from_nothing_else(world: World) -> None:
    first, second = await fill(world, 2)
    await execute(
        world.database,
        "UPDATE submission SET sealed = sealed || '\\x00'::bytea"
        f" WHERE id = (SELECT submission FROM delivery WHERE id = '{first}')",
    )
    told = await lease(world)
    assert [item["delivery"] for item in told["items"]] == [second]
    assert told["unreadable"] == [first]


async def test_looking_holds_nothing_and_shows_what_is_held(world: World) -> None:
    await fill(world, 2)
    await lease(world, reader="poste-1", limit=1)
    held, free = (await look(world))["items"]
    assert held["leased_until"] is not None
    assert free["leased_until"] is None
    assert sequences(await lease(world, reader="poste-2")) == [2]


async def test_a_lease_that_asks_for_what_there_is_not_names_the_field_and_holds_nothing(
    world: World,
) -> None:
    await fill(world, 1)
    for body, flaw in _BAD_LEASES.items():
        answer = await world.call("POST", "/v1/mailbox/leases", "bonneville", data=body, headers=JSON)
        assert (answer.status, answer.rules) == (422, {flaw}), body
    assert await rows(world.database, "SELECT FROM mailbox_lease") == []


_BAD_LEASES = {
    b'{"seconds": 0}': ("/seconds", "greater_than_equal"),
    b'{"seconds": 3601}': ("/seconds", "less_than_equal"),
    b'{"seconds": "300"}': ("/seconds", "int_type"),
    b'{"limit": 201}': ("/limit", "less_than_equal"),
    b'{"reader": "a b"}': ("/reader", "string_pattern_mismatch"),
    b'{"reader": ""}': ("/reader", "string_pattern_mismatch"),
    b'{"readers": "x"}': ("/readers", "extra_forbidden"),
    b"[]": ("", "model_type"),
    b"{": ("", "json"),
    b"\xff": ("", "encoding"),
}


async def test_of_several_what_is_not_this_partner_s_is_told_and_keeps_it_from_no_other(world: World) -> None:
    first, second = await fill(world, 2)
    [theirs, _] = [item["delivery"] for item in (await look(world, who="ministry"))["items"]]
    asked = [second, theirs, NOWHERE, first, second]
    answer = await order(world, "acknowledge", {"deliveries": asked})
    assert [(item["delivery"], item["state"]) for item in answer.json["items"]] == [
        (second, "acknowledged"),
        (theirs, "not_found"),
        (NOWHERE, "not_found"),
        (first, "acknowledged"),
    ]
    assert len((await look(world, who="ministry"))["items"]) == 2
    bodies: tuple[object, ...] = (
        {"deliveries": []},
        {"deliveries": ["x"]},
        {"deliveries": [NOWHERE] * 501},
        {},
    )
    for body in bodies:
        assert (await order(world, "acknowledge", body)).status == 422


async def test_a_parcel_is_found_by_its_name_in_whichever_drawer_it_is(world: World) -> None:
    [name] = await fill(world, 1)
    path = f"/v1/mailbox/{name}"
    parcel = (await world.call("GET", path, "bonneville")).json
    assert (parcel["delivery"], parcel["state"], parcel["channel"]) == (name, "delivered", "mailbox")
    assert parcel["files"][1]["sha256"]
    await world.call("POST", f"{path}/acknowledge", "bonneville")
    assert (await world.call("GET", path, "bonneville")).json["state"] == "acknowledged"
    for odd in ("%00", "leases", "x" * 500, "..%2F..%2Fetc"):
        assert (await world.call("GET", f"/v1/mailbox/{odd}", "bonneville")).status in (404, 405)


async def test_on_every_route_another_partner_s_parcel_is_as_one_that_does_not_exist(world: World) -> None:
    """Every route of the description that names a parcel of a partner: the same answer, word for word, and the same
    look at the store."""
    [name] = await fill(world, 1)
    described = (await world.call("GET", "/openapi.json", None)).json["paths"]
    named = [
        (method.upper(), path)
        for path, methods in described.items()
        for method in methods
        if path.startswith(("/v1/mailbox/{delivery}", "/v1/parcels/", "/v1/deliveries/{id}"))
    ]
    assert {("GET", "/v1/mailbox/{delivery}"), ("POST", "/v1/mailbox/{delivery}/acknowledge")} < set(named)
    for method, path in named:
        answers = []
        for id in (name, NOWHERE, str(uuid4())):
            to = path.replace("{delivery}", id).replace("{id}", id).replace("{number}", "1")
            body = json.dumps({"status": "DONE"}).encode() if method == "POST" else None
            told = await world.call(method, to, "ministry", data=body, headers=JSON)
            headers = {one: value for one, value in told.headers.items() if one != "Date"}
            answers.append((told.status, told.body, headers))
        assert answers[0] == answers[1] == answers[2], (method, path)
        assert answers[0][0] in (403, 404), (method, path)
    assert len((await look(world))["items"]) == 1


async def test_a_drawer_that_there_is_not_is_refused(world: World) -> None:
    for query in ("?drawer=all", "?drawer=", "?after=-1", "?limit=0", "?lease=300"):
        assert (await world.call("GET", f"/v1/mailbox{query}", "bonneville")).status == 422


async def test_only_partners_hold_and_acknowledge(world: World) -> None:
    for who in (SENDER, "operator"):
        assert (await order(world, "leases", {}, who)).status == 403
        assert (await order(world, "acknowledge", {"deliveries": [NOWHERE]}, who)).status == 403
    answer = await world.call("POST", "/v1/mailbox/leases", "bonneville", data=b"<x/>")
    assert answer.status == 415
