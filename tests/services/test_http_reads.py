"""Reading over HTTP: each sees what is its own, and what is another's is as if it were not there."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.delivery import Conclusion, Refused
from hub.domain.lifecycle import State
from hub.ports.rule_books import Change, Item, ItemKind
from schemas.models.rules import SuccessionIn
from tests.conformance.motion import conclude
from tests.conformance.samples import rows
from tests.services.http_world import OTHER_SENDER, SENDER, Answer, World, inline, offer, open_world
from tests.unit.samples import BONNEVILLE, MINISTRY

NOWHERE = str(UUID(int=4 << 76))
STRANGER = "11001401600015-1"
CONTENT = bytes(range(256)) * 20


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


async def accepted(world: World, name: str = "dossier-1", who: str = SENDER) -> str:
    """A submission for the ministry and for Bonneville, decided: its id."""
    files = [inline(CONTENT, "été «é».pdf"), inline(b"<script>", "x.html", type="DD", media_type="text/html")]
    answer = await world.post(offer(external_id=name, attachments=files), who)
    assert answer.status == 202, answer.body
    await world.route()
    return str(answer.json["id"])


async def mailbox(world: World, who: str = "bonneville") -> list[Any]:
    answer = await world.call("GET", "/v1/mailbox", who)
    assert answer.status == 200, answer.body
    items: list[Any] = answer.json["items"]
    return items


def same_answer(one: Answer, two: Answer) -> bool:
    def told(answer: Answer) -> dict[str, str]:
        return {name: value for name, value in answer.headers.items() if name != "Date"}

    return (one.status, one.body, told(one)) == (two.status, two.body, told(two))


# --- submissions --------------------------------------------------------------------------------------


async def test_a_sender_sees_its_submission_with_each_delivery_and_why(world: World) -> None:
    id = await accepted(world)
    told = (await world.call("GET", f"/v1/submissions/{id}")).json
    assert told["state"] == "routed"
    by_partner = {delivery["subscriber"]: delivery for delivery in told["deliveries"]}
    assert set(by_partner) == {str(MINISTRY), str(BONNEVILLE)}
    town = by_partner[str(BONNEVILLE)]
    assert town["partner"] == "Mairie de Bonneville"
    assert town["attachments"] == [1]
    assert town["reasons"][0]["rule"] == "mairie"
    assert town["reasons"][0]["steps"] == ["commune → commune:74042"]
    assert by_partner[str(MINISTRY)]["attachments"] == [1, 2]
    assert told["journal"] == []


async def test_each_attempt_is_shown_and_operators_see_the_journal(world: World) -> None:
    id = await accepted(world)
    await park(world)
    told = (await world.call("GET", f"/v1/submissions/{id}", "reader")).json
    attempts = [attempt for delivery in told["deliveries"] for attempt in delivery["attempts"]]
    assert [(attempt["outcome"], attempt["cause"]) for attempt in attempts] == [("refused", "test.no")] * 2
    assert {delivery["state"] for delivery in told["deliveries"]} == {"parked"}
    assert "submission.received" in {line["event"] for line in told["journal"]}


@pytest.mark.parametrize("name", [NOWHERE, "pas-un-id", "%00", "x" * 500])
async def test_another_sender_s_submission_is_as_one_that_is_not_there(world: World, name: str) -> None:
    id = await accepted(world)
    theirs = await world.call("GET", f"/v1/submissions/{id}", OTHER_SENDER)
    nothing = await world.call("GET", f"/v1/submissions/{name}", OTHER_SENDER)
    assert theirs.status == 404
    assert same_answer(theirs, nothing)


async def test_no_answer_about_a_submission_holds_what_the_citizen_wrote(world: World) -> None:
    id = await accepted(world)
    for who in (SENDER, "operator"):
        for path in (f"/v1/submissions/{id}", "/v1/deliveries"):
            answer = await world.call("GET", path, who)
            assert "Secr" not in answer.body.decode()
            assert ".pdf" not in answer.body.decode()


# --- deliveries ---------------------------------------------------------------------------------------


async def test_deliveries_come_page_by_page_each_once(world: World) -> None:
    for number in range(7):
        await accepted(world, f"d-{number}")
    seen: list[str] = []
    after = ""
    while True:
        answer = await world.call("GET", f"/v1/deliveries?limit=4{after}")
        assert answer.status == 200
        seen += [item["id"] for item in answer.json["items"]]
        assert len(answer.json["items"]) <= 4
        if answer.json["next"] is None:
            break
        after = f"&after={answer.json['next']}"
    assert len(seen) == len(set(seen)) == 14


async def test_filters_hold_together(world: World) -> None:
    one, _ = await accepted(world, "d-1"), await accepted(world, "d-2")
    path = f"/v1/deliveries?submission={one}&subscriber={BONNEVILLE}&state=planned&channel=mailbox"
    answer = await world.call("GET", path, "reader")
    (item,) = answer.json["items"]
    assert (item["submission"], item["subscriber"]) == (one, str(BONNEVILLE))
    assert (await world.call("GET", "/v1/deliveries?state=parked", "reader")).json["items"] == []


async def test_each_sees_its_own_deliveries_and_operators_all(world: World) -> None:
    await accepted(world, "d-1")
    await accepted(world, "d-2", OTHER_SENDER)

    async def count(who: str, query: str = "") -> int:
        answer = await world.call("GET", f"/v1/deliveries{query}", who)
        assert answer.status == 200
        return len(answer.json["items"])

    assert await count(SENDER) == 2
    assert await count(OTHER_SENDER) == 2
    assert await count("bonneville") == 2
    assert await count("stranger") == 0
    assert await count("reader") == 4
    assert await count(SENDER, f"?sender={OTHER_SENDER}") == 0
    assert await count("bonneville", f"?subscriber={MINISTRY}") == 0
    assert await count("reader", f"?sender={OTHER_SENDER}") == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "/limit"),
        ("limit=501", "/limit"),
        ("limit=x", "/limit"),
        ("state=perdu", "/state"),
        ("submission=x", "/submission"),
        ("subscriber=21740042390019", "/subscriber"),
        ("stat=parked", "/stat"),
        ("after=x", "/after"),
        ("after=" + base64.urlsafe_b64encode(b"2026-01-01 x").decode(), "/after"),
        ("after=" + base64.urlsafe_b64encode(f"2026-01-01T00:00:00 {NOWHERE}".encode()).decode(), "/after"),
        ("cause=%00", "/cause"),
    ],
)
async def test_a_filter_with_an_error_in_it_is_refused_and_selects_nothing(
    world: World, query: str, field: str
) -> None:
    answer = await world.call("GET", f"/v1/deliveries?{query}", "reader")
    assert answer.status == 422
    assert {flaw["field"] for flaw in answer.json["errors"]} == {field}
    assert b"perdu" not in answer.body


# --- the mailbox and its files ------------------------------------------------------------------------


async def test_a_partner_finds_its_parcels_with_a_link_to_each_file(world: World) -> None:
    await accepted(world, "d-1")
    await accepted(world, "d-2")
    first, second = await mailbox(world)
    assert (first["external_id"], second["external_id"]) == ("d-1", "d-2")
    assert (first["sequence"], second["sequence"]) == (1, 2)
    assert [file["number"] for file in first["files"]] == [0, 1]
    assert first["files"][1]["original_name"] == "été «é».pdf"
    assert first["procedure_title"] == "Certificat de décès"
    fetched = await fetch(world, first["files"][1]["link"])
    assert fetched.body == CONTENT
    described = await fetch(world, first["files"][0]["link"])
    assert json.loads(described.body)["applicant"] == {"last_name": "Secrète"}
    later = await world.call("GET", "/v1/mailbox?after=1&limit=1", "bonneville")
    assert [item["sequence"] for item in later.json["items"]] == [2]
    assert later.json["next"] == 2
    last = await world.call("GET", "/v1/mailbox?after=2", "bonneville")
    assert last.json == {"items": [], "next": None}


async def test_a_parcel_acknowledged_leaves_the_mailbox_and_saying_it_again_is_harmless(world: World) -> None:
    await accepted(world)
    (parcel,) = await mailbox(world)
    path = f"/v1/mailbox/{parcel['delivery']}/acknowledge"
    for _ in range(2):
        answer = await world.call("POST", path, "bonneville")
        assert (answer.status, answer.json["state"]) == (200, "acknowledged")
    assert await mailbox(world) == []
    assert len(await mailbox(world, "ministry")) == 1


async def test_a_partner_acknowledges_nothing_of_another_s(world: World) -> None:
    await accepted(world)
    (parcel,) = await mailbox(world)
    theirs = await world.call("POST", f"/v1/mailbox/{parcel['delivery']}/acknowledge", "ministry")
    nothing = await world.call("POST", f"/v1/mailbox/{NOWHERE}/acknowledge", "ministry")
    assert theirs.status == 404
    assert same_answer(theirs, nothing)
    assert len(await mailbox(world)) == 1


async def test_what_moved_to_a_successor_is_gone_for_whoever_had_it_and_nothing_is_told_of_who_has_it(
    world: World,
) -> None:
    await accepted(world, "d-1")
    await accepted(world, "d-2")
    acknowledged, lies = await mailbox(world)
    await acknowledge(world, acknowledged["delivery"], "bonneville")
    told = SuccessionIn(former=str(BONNEVILLE), subscriber=STRANGER).model_dump_json(
        exclude={"former"}, exclude_defaults=True
    )
    succession = Item(ItemKind.SUCCESSION, str(BONNEVILLE), told.encode())
    await PostgresRuleBooks(world.database).publish(
        Change((succession,)), 1, timedelta(0), "essai", "fusion de communes"
    )
    file = f"/v1/parcels/{lies['delivery']}/attachments/1"
    # At once, and when it lies there.
    for _ in range(2):
        for answer in (
            await acknowledge(world, lies["delivery"], "bonneville"),
            await acknowledge(world, acknowledged["delivery"], "bonneville"),
            await world.call("GET", file, "bonneville"),
        ):
            assert (answer.status, answer.json["type"]) == (410, "urn:aiguillage:problem:moved")
            assert STRANGER.partition("-")[0] not in answer.body.decode() + str(answer.headers)
        for answer in (
            await acknowledge(world, lies["delivery"], "ministry"),
            await acknowledge(world, NOWHERE, "bonneville"),
            await world.call("GET", file, "ministry"),
        ):
            assert answer.status == 404
        assert await mailbox(world) == []
        await move_all(world)
    (moved,) = await mailbox(world, "stranger")
    assert moved["delivery"] == lies["delivery"]
    assert (await world.call("GET", file, "stranger")).body == CONTENT
    assert (await acknowledge(world, lies["delivery"], "stranger")).status == 200
    # What nobody has any more is not there, whoever had it.
    await execute(world, "UPDATE delivery SET state = 'withdrawn' WHERE id = $1", UUID(lies["delivery"]))
    assert (await world.call("GET", file, "bonneville")).status == 404


async def acknowledge(world: World, delivery: str, who: str) -> Answer:
    return await world.call("POST", f"/v1/mailbox/{delivery}/acknowledge", who)


async def move_all(world: World) -> None:
    lanes = PostgresLanes(world.database)
    minute = timedelta(minutes=1)
    for lane in await lanes.lease("essai", 100, minute):
        await lanes.claim("essai", lane.id, 100)
        await conclude(lanes, "essai", lane.id, [])


async def test_every_read_of_content_is_a_line_of_the_journal_written_before_the_answer(world: World) -> None:
    """Who, what and when: a parcel shown for the first time, a file, a range of it, a link. Not what was refused."""
    await accepted(world)
    (parcel,) = await mailbox(world)
    await mailbox(world)
    path = f"/v1/parcels/{parcel['delivery']}/attachments/1"
    await world.call("GET", path, "bonneville")
    await world.call("GET", path, "bonneville", headers={"Range": "bytes=2-4"})
    await fetch(world, parcel["files"][1]["link"])
    await world.call("GET", path, "ministry")
    lines = await rows(
        world.database,
        "SELECT event, actor, detail FROM journal WHERE delivery = $1 AND event IN ('delivery.shown',"
        " 'delivery.fetched') ORDER BY id",
        UUID(parcel["delivery"]),
    )
    reader = f"partner:{BONNEVILLE}"
    assert [tuple(line) for line in lines] == [
        ("delivery.shown", reader, ""),
        ("delivery.fetched", reader, "file 1, planned"),
        ("delivery.fetched", reader, "file 1, planned, bytes 2-4"),
        ("delivery.fetched", "link", "file 1, planned"),
    ]


async def test_mailboxes_are_for_partners(world: World) -> None:
    for who in (SENDER, "operator"):
        assert (await world.call("GET", "/v1/mailbox", who)).status == 403


async def file_path(world: World, number: int = 1, who: str = "bonneville") -> str:
    (parcel,) = await mailbox(world, who)
    return f"/v1/parcels/{parcel['delivery']}/attachments/{number}"


async def fetch(world: World, link: str, **headers: str) -> Answer:
    assert link.startswith("https://hub.example/v1/parcels/")
    return await world.call("GET", link.replace("https://hub.example", world.url), None, headers=headers)


async def test_a_file_comes_whole_with_its_digest_and_harmless_to_a_browser(world: World) -> None:
    await accepted(world)
    answer = await world.call("GET", await file_path(world), "bonneville")
    digest = hashlib.sha256(CONTENT)
    told = base64.b64encode(digest.digest()).decode()
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["ETag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["Repr-Digest"] == f"sha-256=:{told}:"
    assert answer.headers["Content-Digest"] == f"sha-256=:{told}:"
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    name = answer.headers["Content-Disposition"]
    assert name == "attachment; filename=\"_t_ ___.pdf\"; filename*=UTF-8''%C3%A9t%C3%A9%20_%C3%A9_.pdf"
    page = await world.call("GET", await file_path(world, 2, "ministry"), "ministry")
    assert (page.body, page.headers["Content-Type"]) == (b"<script>", "text/html")
    assert page.headers["Content-Disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, 5120),
        ("bytes=-100", 5020, 5120),
        ("bytes=5000-99999", 5000, 5120),
        ("bytes=-99999", 0, 5120),
        ("bytes=0-5119", 0, 5120),
        ("Bytes=7-9", 7, 10),
    ],
)
async def test_one_range_is_answered_with_that_range(world: World, asked: str, start: int, end: int) -> None:
    await accepted(world)
    answer = await world.call("GET", await file_path(world), "bonneville", headers={"Range": asked})
    assert (answer.status, answer.body) == (206, CONTENT[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/5120"
    assert answer.headers["Content-Length"] == str(end - start)
    assert "Content-Digest" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=5120-", "bytes=9999-10000", "bytes=-0"])
async def test_a_range_outside_the_file_is_refused(world: World, asked: str) -> None:
    await accepted(world)
    answer = await world.call("GET", await file_path(world), "bonneville", headers={"Range": asked})
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */5120"
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=5-2", "bytes=-", "bytes=a-b", "x"])
async def test_what_is_no_single_range_gets_the_whole_file(world: World, asked: str) -> None:
    await accepted(world)
    answer = await world.call("GET", await file_path(world), "bonneville", headers={"Range": asked})
    assert (answer.status, answer.body) == (200, CONTENT)


async def test_a_range_of_another_file_gets_the_whole_file(world: World) -> None:
    await accepted(world)
    path = await file_path(world)
    tag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    for condition, status in ((tag, 206), ('"autre"', 200), (f"W/{tag}", 200)):
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        assert (await world.call("GET", path, "bonneville", headers=headers)).status == status


async def test_a_file_is_its_partner_s_alone(world: World) -> None:
    await accepted(world)
    path = await file_path(world)
    nothing = await world.call("GET", f"/v1/parcels/{NOWHERE}/attachments/1", "ministry")
    theirs = await world.call("GET", path, "ministry")
    assert theirs.status == 404
    assert same_answer(theirs, nothing)
    for who in (SENDER, OTHER_SENDER, "operator", "reader"):
        assert (await world.call("GET", path, who)).status == 403
    assert (await world.call("GET", path, None)).status == 401


async def test_a_partner_gets_no_file_that_its_rule_did_not_give_it(world: World) -> None:
    await accepted(world)
    for number in ("2", "3", "-1", "x", "1e0", "9" * 30):
        path = (await file_path(world)).replace("/attachments/1", f"/attachments/{number}")
        assert (await world.call("GET", path, "bonneville")).status == 404


async def test_a_link_opens_its_own_file_and_no_other(world: World) -> None:
    await accepted(world)
    (town,), (ministry,) = await mailbox(world), await mailbox(world, "ministry")
    link = town["files"][1]["link"]
    assert (await fetch(world, link, Range="bytes=0-3")).body == CONTENT[:4]
    signature = link.partition("signature=")[2]
    spoilt = [
        link.replace("/attachments/1", "/attachments/0"),
        link.replace(town["delivery"], ministry["delivery"]),
        link.replace(town["delivery"], NOWHERE),
        link.replace("expires=", "expires=9"),
        link.replace("expires=", "expires=-"),
        link.replace("signature=", "signature=A"),
        link.replace(signature, ""),
        link.replace(signature, "é"),
        link.partition("&")[0],
        link.partition("?")[0] + "?signature=" + signature,
    ]
    answers = [await fetch(world, one) for one in spoilt]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1


async def test_a_link_that_is_too_old_opens_nothing(world: World) -> None:
    await accepted(world)
    (town,) = await mailbox(world)
    delivery, link = UUID(town["delivery"]), town["files"][1]["link"]
    expires, _, signature = link.partition("expires=")[2].partition("&signature=")
    links = world.rooms.links
    assert links.verify(delivery, 1, expires, signature)
    links._now = lambda: float(expires) - 1
    assert links.verify(delivery, 1, expires, signature)
    links._now = lambda: float(expires)
    assert not links.verify(delivery, 1, expires, signature)
    assert (await fetch(world, link)).status == 401


async def test_a_parcel_that_is_not_its_partner_s_any_more_is_not_there(world: World) -> None:
    await accepted(world)
    (town,) = await mailbox(world)
    for state in ("withdrawn", "expired", "returned"):
        await execute(world, "UPDATE delivery SET state = $1, due_at = NULL", state)
        assert (await fetch(world, town["files"][1]["link"])).status == 404


async def test_a_purged_parcel_is_not_there_and_keeps_a_partner_from_no_other(world: World) -> None:
    first = await accepted(world, "d-1")
    await accepted(world, "d-2")
    link = (await mailbox(world))[0]["files"][1]["link"]
    await execute(world, "DELETE FROM submission_key WHERE submission = $1", UUID(first))
    assert (await fetch(world, link)).status == 404
    assert [parcel["external_id"] for parcel in await mailbox(world)] == ["d-2"]


async def test_a_file_that_was_changed_on_the_disk_is_never_passed_on(world: World) -> None:
    await accepted(world)
    path = await file_path(world)
    for file in world.files():
        held = bytearray(file.read_bytes())
        held[-20] ^= 1
        file.write_bytes(held)
    answer = await world.call("GET", path, "bonneville")
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "application/problem+json"


# --- replays ------------------------------------------------------------------------------------------


async def test_an_operator_sends_parked_deliveries_again(world: World) -> None:
    id = await accepted(world)
    await park(world)
    order = {"id": str(uuid4()), "reason": "serveur réparé", "submission": id, "subscriber": str(BONNEVILLE)}
    answer = await replay(world, order)
    assert answer.status == 202, answer.body
    assert answer.headers["Location"] == f"/v1/replays/{order['id']}"
    assert (answer.json["matched"], answer.json["author"]) == (1, "exploitant")
    again = await replay(world, {"id": order["id"], "reason": "encore une fois"})
    assert again.json == answer.json
    await world.rooms.replays.send_again(100)
    told = (await world.call("GET", f"/v1/replays/{order['id']}", "reader")).json
    assert (told["sent"], told["skipped"]) == (1, 0)
    found = (await world.call("GET", f"/v1/submissions/{id}")).json["deliveries"]
    assert {one["subscriber"]: one["state"] for one in found} == {
        str(BONNEVILLE): "planned",
        str(MINISTRY): "parked",
    }


async def replay(world: World, order: Any, who: str | None = "operator") -> Answer:
    return await world.call("POST", "/v1/replays", who, json=order)


async def test_only_operators_who_may_replay_do(world: World) -> None:
    order = {"reason": "serveur réparé"}
    assert (await replay(world, order, None)).status == 401
    for who in (SENDER, "bonneville", "reader"):
        assert (await replay(world, order, who)).status == 403
    assert (await world.call("GET", f"/v1/replays/{NOWHERE}", SENDER)).status == 403
    assert (await world.call("GET", f"/v1/replays/{NOWHERE}", "reader")).status == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": ""}, "/reason"),
        ({"reason": None}, "/reason"),
        ({"reason": "a\nb, une fausse ligne"}, "/reason"),
        ({"state": "in_flight"}, "/state"),
        ({"state": "perdu"}, "/state"),
        ({"deliveries": []}, "/deliveries"),
        ({"deliveries": ["x"]}, "/deliveries/0"),
        ({"id": "x"}, "/id"),
        ({"submision": NOWHERE}, "/submision"),
    ],
)
async def test_an_order_with_an_error_in_it_is_refused(
    world: World, change: dict[str, Any], field: str
) -> None:
    answer = await replay(world, {"reason": "serveur réparé", **change})
    assert answer.status == 422
    assert {flaw["field"] for flaw in answer.json["errors"]} == {field}


async def park(world: World) -> None:
    """Every delivery, in one attempt that is refused."""
    lanes = PostgresLanes(world.database)
    minute = timedelta(minutes=1)
    for lane in await lanes.lease("essai", 100, minute):
        claims = await lanes.claim("essai", lane.id, 100)
        refused = Refused("test.no")
        await conclude(
            lanes, "essai", lane.id, [Conclusion(claim.attempt, State.PARKED, refused) for claim in claims]
        )


async def execute(world: World, statement: str, *values: Any) -> None:
    async def work(connection: Any) -> None:
        await connection.execute(statement, *values)

    await world.database.run(work)
