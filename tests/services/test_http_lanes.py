"""Operators' lanes and trials, and partners' numbers over HTTP: who may ask, what is told, and what is refused by
its field."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest_asyncio

from hub.adapters.postgres.database import Connection
from hub.domain.errors import TrialUnderWay
from hub.services.trying import TrialRoom
from tests.services.http_world import SENDER, Answer, World, offer, open_world
from tests.unit.samples import BONNEVILLE


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        for name in ("d-1", "d-2"):
            assert (await world.post(offer(external_id=name))).status == 202
        await world.route()
        yield world


async def run(world: World, statement: str, *arguments: object) -> list[Any]:
    async def work(connection: Connection) -> list[Any]:
        return list(await connection.fetch(statement, *arguments))

    return await world.database.run(work)


async def open_lane(world: World, id: object, who: str, **told: object) -> Answer:
    headers = {"Content-Type": "application/json"}
    return await world.call(
        "POST", f"/v1/lanes/{id}/open", who, data=json.dumps(told).encode(), headers=headers
    )


async def test_an_operator_sees_a_closed_lane_with_its_cause_and_opens_it(world: World) -> None:
    assert (await world.call("GET", "/v1/lanes", "operator")).json == {"items": [], "next": None}
    [lane] = await run(
        world,
        "UPDATE lane SET closed_at = clock_timestamp(), closed_cause = 'sftp.login_refused' WHERE subscriber = $1"
        " RETURNING id",
        str(BONNEVILLE),
    )
    [told] = (await world.call("GET", "/v1/lanes?closed=true&limit=1", "operator")).json["items"]
    assert (told["id"], told["subscriber"], told["cause"], told["waiting"], told["closed"]) == (
        lane["id"],
        str(BONNEVILLE),
        "sftp.login_refused",
        2,
        True,
    )
    opened = await open_lane(world, told["id"], "operator", reason="mot de passe changé")
    assert (opened.status, opened.json) == (200, {"id": told["id"], "opened": True})
    assert (await open_lane(world, told["id"], "operator", reason="encore")).json["opened"] is False
    assert (await world.call("GET", "/v1/lanes", "operator")).json["items"] == []


async def test_lanes_are_for_operators_and_bad_orders_name_their_field(world: World) -> None:
    for who in (SENDER, "bonneville"):
        assert (await world.call("GET", "/v1/lanes", who)).status == 403
        assert (await open_lane(world, 1, who, reason="pour voir")).status == 403
    for nowhere in ("0", "999999999", "x", "9" * 40, "-1", "%00"):
        assert (await open_lane(world, nowhere, "operator", reason="pour voir")).status == 404
    for body in ({}, {"reason": ""}, {"reason": "a\x00b"}, {"reason": 5}):
        answer = await open_lane(world, 1, "operator", **body)
        assert answer.status == 422
        assert {field for field, _ in answer.rules} == {"/reason"}
    assert {field for field, _ in (await open_lane(world, 1, "operator", reason="pour voir", a=1)).rules} == {
        "/a"
    }
    for query in ("closed=peut-etre", "subscriber=x", "after=-1", "limit=0", "inconnu=1"):
        answer = await world.call("GET", f"/v1/lanes?{query}", "operator")
        assert {field for field, _ in answer.rules} == {"/" + query.partition("=")[0]}


async def test_a_partner_reads_its_numbers_page_by_page_whatever_became_of_them(world: World) -> None:
    first = await world.call("GET", "/v1/mailbox/numbers?limit=1", "bonneville")
    [one] = first.json["items"]
    assert (one["number"], one["state"], one["procedure"], one["moved_to"]) == (1, "planned", "CERTDC", None)
    await world.call("POST", f"/v1/mailbox/{one['delivery']}/acknowledge", "bonneville")
    assert first.json["next"] == 1
    rest = (await world.call("GET", "/v1/mailbox/numbers?after=1", "bonneville")).json
    assert ([item["number"] for item in rest["items"]], rest["next"]) == ([2], None)
    again = (await world.call("GET", "/v1/mailbox/numbers", "bonneville")).json["items"]
    assert [item["state"] for item in again] == ["acknowledged", "planned"]


async def test_numbers_are_for_partners_and_bad_questions_name_their_field(world: World) -> None:
    assert (await world.call("GET", "/v1/mailbox/numbers", SENDER)).status == 403
    for query in ("after=-1", "after=9223372036854775808", "limit=0", "limit=1001", "a=1"):
        answer = await world.call("GET", f"/v1/mailbox/numbers?{query}", "bonneville")
        assert {field for field, _ in answer.rules} == {"/" + query.partition("=")[0]}


# --- channels -----------------------------------------------------------------------------------------


async def test_an_operator_s_form_learns_what_each_channel_asks(world: World) -> None:
    told = {
        one["channel"]: one for one in (await world.call("GET", "/v1/channels", "operator")).json["items"]
    }
    assert set(told) >= {"mail", "mailbox", "sftp", "webhook"}
    [host_key] = [one for one in told["sftp"]["fields"] if one["name"] == "host_key"]
    assert (host_key["required"], host_key["secret"], set(host_key["help"])) == (True, False, {"fr", "en"})
    assert told["sftp"]["json_schema"]["properties"]["channel"] == {"const": "sftp"}
    assert told["sftp"]["json_schema"]["properties"]["secrets"]["properties"]["password"]["writeOnly"] is True
    for who, status in ((SENDER, 403), ("ministry", 403), (None, 401)):
        assert (await world.call("GET", "/v1/channels", who)).status == status


# --- trials -------------------------------------------------------------------------------------------


async def try_out(world: World, partner: object, who: str | None, **told: object) -> Answer:
    headers = {"Content-Type": "application/json"}
    body = json.dumps(told).encode()
    return await world.call("POST", f"/v1/partners/{partner}/test", who, data=body, headers=headers)


async def test_an_operator_tries_a_partner_s_endpoint(world: World) -> None:
    answer = await try_out(world, BONNEVILLE, "operator")
    assert answer.status == 200, answer.body
    [told] = answer.json
    assert (told["channel"], told["notice"], told["well"]) == ("mailbox", False, True)
    assert {frozenset(step) for step in told["steps"]} == {frozenset({"name", "state", "fr", "en", "cause"})}


async def test_trials_are_for_operators_who_may_send_again_and_one_at_a_time(world: World) -> None:
    for who, status in ((SENDER, 403), ("bonneville", 403), ("reader", 403), (None, 401)):
        assert (await try_out(world, BONNEVILLE, who)).status == status
    for nobody in ("21740042390019-nobody", "21740042390019", "x", "%00", f"{BONNEVILLE}%0A", "9" * 4000):
        assert (await try_out(world, nobody, "operator")).status == 404, nobody
    for field, value in (
        ("send", "oui"), ("limit", 0), ("limit", 31), ("limit", "15"), ("limit", None), ("inconnu", 1),
    ):  # fmt: skip
        answer = await try_out(world, BONNEVILLE, "operator", **{field: value})
        assert (answer.status, {place for place, _ in answer.rules}) == (422, {f"/{field}"})
    assert (await world.call("POST", f"/v1/partners/{BONNEVILLE}/test", "operator", data=b"")).status == 415
    with patch.object(TrialRoom, "try_out", side_effect=TrialUnderWay):
        busy = await try_out(world, BONNEVILLE, "operator")
    assert (busy.status, busy.headers["Retry-After"]) == (429, "10")
