"""Replays over HTTP, and the room that carries them out: tried, ordered, approved, decided anew, told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio

from hub.adapters.postgres.replays import PostgresReplays
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.errors import RuleBookError
from hub.ports.rule_books import Change, ItemKind
from hub.services.library import Library
from hub.services.replay import ReplayRoom
from tests.conformance.motion import park
from tests.conformance.samples import execute
from tests.services.http_world import SENDER, Answer, World, inline, offer, open_world
from tests.unit.samples import BONNEVILLE, MARIGNIER, MINISTRY

NOWHERE = str(UUID(int=4 << 76))


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


async def accepted(world: World, *names: str) -> list[str]:
    """Each for the ministry and for Bonneville, decided: their ids."""
    found = []
    for name in names:
        answer = await world.post(offer(external_id=name, attachments=[inline(b"un acte")]))
        assert answer.status == 202, answer.body
        found.append(str(answer.json["id"]))
    await world.route()
    return found


async def order(world: World, who: str = "operator", path: str = "/v1/replays", **fields: Any) -> Answer:
    return await world.call("POST", path, who, json={"reason": "serveur réparé", **fields})


async def turn(world: World, id: str, verb: str, who: str) -> Answer:
    return await world.call("POST", f"/v1/replays/{id}/{verb}", who)


async def shown(world: World, id: str) -> Any:
    return (await world.call("GET", f"/v1/replays/{id}", "reader")).json


def room(world: World, library: Library | None = None) -> ReplayRoom:
    return ReplayRoom(PostgresReplays(world.database), library or world.rooms.library, world.rooms.clock)


async def test_a_large_order_is_tried_given_approved_by_another_and_carried_out(world: World) -> None:
    await accepted(world, "a", "b")
    await park(world.database)
    chosen = {"cause": "sftp.denied", "procedure": "CERTDC"}
    look = await world.call("POST", "/v1/replays:preview", "reader", json=chosen)
    assert look.status == 200, look.body
    assert (look.json["matched"], look.json["bytes"], len(look.json["examples"])) == (4, 28, 4)
    begun = await order(world, rate=1000, **chosen)
    assert begun.status == 202, begun.body
    id = begun.json["id"]
    assert (begun.json["state"], begun.json["selection"]["cause"]) == ("awaiting_approval", "sftp.denied")
    assert await room(world).run_once(0) == 0
    for who, status in (("reader", 403), ("operator", 403), (SENDER, 403), ("ministry", 403)):
        assert (await turn(world, id, "approval", who)).status == status
    approved = await turn(world, id, "approval", "approver")
    assert (approved.status, approved.json["state"], approved.json["approved_by"]) == (
        200,
        "running",
        "responsable",
    )
    assert (await turn(world, id, "approval", "approver")).status == 409
    await execute(world.database, "UPDATE replay SET treated_at = treated_at - interval '1 second'")
    assert await room(world).run_once(0) == 4
    told = await shown(world, id)
    assert (told["state"], told["sent"], told["pending"]) == ("finished", 4, 0)
    [listed] = (await world.call("GET", "/v1/replays", "reader")).json["items"]
    assert listed == told


async def test_who_ordered_it_does_not_approve_it_whatever_its_role(world: World) -> None:
    await accepted(world, "a", "b")
    await park(world.database)
    begun = await order(world, "approver")
    answer = await turn(world, begun.json["id"], "approval", "approver")
    assert (answer.status, answer.headers["Content-Type"]) == (409, "application/problem+json")
    assert "another operator" in answer.json["detail"]


async def test_an_order_is_paused_resumed_and_cancelled(world: World) -> None:
    await accepted(world, "a")
    await park(world.database)
    id = (await order(world)).json["id"]
    assert (await turn(world, id, "pause", "operator")).json["state"] == "paused"
    assert await room(world).run_once(0) == 0
    assert (await turn(world, id, "pause", "operator")).status == 409
    assert (await turn(world, id, "resume", "operator")).json["state"] == "running"
    assert (await turn(world, id, "cancel", "operator")).json["state"] == "cancelled"
    assert await room(world).run_once(0) == 0
    for verb in ("pause", "resume", "cancel"):
        assert (await turn(world, id, verb, "reader")).status == 403
        assert (await turn(world, NOWHERE, verb, "operator")).status == 404
        assert (await turn(world, "x", verb, "operator")).status == 404


async def publish(world: World, *dropped: str) -> None:
    """The same rule book without these subscriptions."""
    books = PostgresRuleBooks(world.database)
    newest = max(number for number, _ in (await books.confirm(0)).editions)
    keys = tuple((ItemKind.SUBSCRIPTION, key) for key in dropped)
    await books.publish(Change(dropped=keys), newest, timedelta(0), "essai", "corrigé")


async def test_by_the_rules_of_today_who_is_not_chosen_any_more_is_told_as_disclosed(world: World) -> None:
    [first, second] = await accepted(world, "a", "b")
    await park(world.database)
    await execute(
        world.database,
        f"UPDATE delivery SET state = 'delivered', cause = NULL WHERE subscriber = '{BONNEVILLE}'"
        f" AND submission = '{first}'",
    )
    await publish(world, f"CERTDC/commune:74042/{BONNEVILLE}")
    begun = await order(world, of="submissions", submissions=[first, second])
    assert begun.json["rules"] == "today"
    assert await room(world).run_once(0) == 2
    told = await shown(world, begun.json["id"])
    counts = ("sent", "withdrawn", "disclosed", "planned", "skipped")
    assert [told[name] for name in counts] == [2, 1, 1, 0, 0]
    path = f"/v1/replays/{begun.json['id']}/disclosures"
    page = (await world.call("GET", path, "reader")).json
    [line] = page["items"]
    assert (line["submission"], line["subscriber"], line["certain"]) == (first, str(BONNEVILLE), True)
    assert page["next"] is None
    assert (await world.call("GET", f"{path}?after={line['delivery']}", "reader")).json["items"] == []
    assert (await world.call("GET", path, SENDER)).status == 403
    assert (await world.call("GET", f"/v1/replays/{NOWHERE}/disclosures", "reader")).status == 404
    submission = (await world.call("GET", f"/v1/submissions/{second}", "reader")).json
    states = {one["subscriber"]: one["state"] for one in submission["deliveries"]}
    assert states == {str(MINISTRY): "planned", str(BONNEVILLE): "withdrawn"}


async def test_a_rule_book_that_cannot_be_read_keeps_no_order_by_the_rules_of_then_waiting(
    world: World,
) -> None:
    await accepted(world, "a")
    await park(world.database)

    class Unreadable(Library):
        async def refresh(self) -> None:
            raise RuleBookError("a newer hub wrote it")

    anew = await order(world, rules="today", subscriber=str(BONNEVILLE))
    then = await order(world, subscriber=str(MINISTRY))
    broken = room(world, Unreadable(PostgresRuleBooks(world.database), lambda book, change: book or NEVER))
    assert [await broken.run_once(0), await broken.run_once(0)] == [1, 0]
    assert (
        (await shown(world, then.json["id"]))["state"],
        (await shown(world, anew.json["id"]))["sent"],
    ) == (
        "finished",
        0,
    )
    assert await room(world).run_once(0) == 1


NEVER: Any = None


async def test_a_delivery_is_rerouted_by_hand(world: World) -> None:
    [id] = await accepted(world, "a")
    await park(world.database)
    await execute(
        world.database,
        f"INSERT INTO partner (subscriber, name, channel) VALUES ('{MARIGNIER}', 'Marignier', 'mailbox')",
    )
    deliveries = (await world.call("GET", f"/v1/submissions/{id}", "reader")).json["deliveries"]
    name = next(one["id"] for one in deliveries if one["subscriber"] == str(BONNEVILLE))
    path = f"/v1/deliveries/{name}/reroute"
    assert (await order(world, "reader", path, to=str(MARIGNIER))).status == 403
    for to, field in ((str(BONNEVILLE), "/to"), ("11001401600015-1", "/to"), ("x", "/to")):
        answer = await order(world, "operator", path, to=to)
        assert (answer.status, {flaw["field"] for flaw in answer.json["errors"]}) == (422, {field})
    assert (
        await order(world, "operator", f"/v1/deliveries/{NOWHERE}/reroute", to=str(MARIGNIER))
    ).status == 404
    answer = await order(world, "operator", path, to=str(MARIGNIER))
    assert (answer.status, answer.json["decision"], answer.json["disclosed"]) == (201, 2, False)
    found = (await world.call("GET", f"/v1/submissions/{id}", "reader")).json["deliveries"]
    states = {
        one["subscriber"]: (one["state"], [reason["rule"] for reason in one["reasons"]]) for one in found
    }
    assert states[str(MARIGNIER)] == ("planned", ["by hand"])
    assert states[str(BONNEVILLE)][0] == "withdrawn"


_FLAWED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"of": "rien"}, "/of"),
    ({"of": "submissions"}, "/of"),
    ({"of": "submissions", "channel": "mail"}, "/channel"),
    ({"of": "submissions", "state": "parked"}, "/state"),
    ({"of": "submissions", "procedure": "CERTDC", "rules": "then"}, "/rules"),
    ({"submissions": [NOWHERE]}, "/submissions"),
    ({"state": "unroutable"}, "/state"),
    ({"state": "planned"}, "/state"),
    ({"vendor": ""}, "/vendor"),
    ({"vendor": "a\x00b"}, "/vendor"),
    ({"created_since": "2026-03-01T12:00:00"}, "/created_since"),
    ({"created_since": "hier"}, "/created_since"),
    ({"created_since": "0001-01-01T00:00:00Z"}, "/created_since"),
    (
        {"changed_since": "2026-03-02T00:00:00Z", "changed_until": "2026-03-01T00:00:00Z"},
        "/changed_until",
    ),
    ({"rate": 0}, "/rate"),
    ({"rate": "vite"}, "/rate"),
    ({"rules": "demain"}, "/rules"),
    ({"submissions": [], "of": "submissions"}, "/submissions"),
)


async def test_an_order_that_cannot_be_names_the_field_and_begins_nothing(world: World) -> None:
    for fields, field in _FLAWED:
        answer = await order(world, **fields)
        assert (answer.status, {flaw["field"] for flaw in answer.json["errors"]}) == (422, {field}), fields
        if not fields.keys() & {"rate", "rules"}:
            look = await world.call("POST", "/v1/replays:preview", "reader", json=fields)
            assert (look.status, {flaw["field"] for flaw in look.json["errors"]}) == (422, {field}), fields
    assert (await world.call("GET", "/v1/replays", "reader")).json["items"] == []


async def test_the_same_id_again_finds_the_order_that_is_there(world: World) -> None:
    await accepted(world, "a")
    await park(world.database)
    name = str(uuid4())
    first = await order(world, id=name)
    assert (await order(world, id=name, of="submissions", state="routed")).json == first.json
