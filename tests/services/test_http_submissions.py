"""Posting over HTTP: what was answered with 202 is there, once, whole; what was not leaves nothing."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest_asyncio

from tests.services.http_world import (
    OTHER_SENDER,
    World,
    attachment,
    inline,
    multipart,
    offer,
    open_world,
    until,
)


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


async def test_a_post_with_files_is_answered_with_its_id_receipt_time_and_digests(world: World) -> None:
    files = [b"un", b"deux"]
    answer = await world.post_parts(offer(files), files)
    assert answer.status == 202
    told = answer.json
    assert answer.headers["Location"] == f"/v1/submissions/{told['id']}"
    assert [(file["number"], file["size"]) for file in told["files"]] == [(1, 2), (2, 4)]
    assert [file["sha256"] for file in told["files"]] == [attachment(file)["sha256"] for file in files]
    assert told["mapped_places"] == []
    assert told["files_for_nobody"] == []
    assert await world.ids() == [UUID(told["id"])]
    assert len(world.files()) == 2


async def test_a_submission_is_found_right_after_its_202(world: World) -> None:
    for number in range(10):
        told = (await world.post(offer(external_id=f"d-{number}"))).json
        found = await world.call("GET", f"/v1/submissions/{told['id']}")
        assert found.status == 200
        assert found.json["state"] == "accepted"
        assert found.json["external_id"] == f"d-{number}"


async def test_nothing_of_a_file_or_of_who_asks_lies_in_clear_on_the_disk(world: World) -> None:
    secret = b"le contenu d'un acte " * 50
    assert (await world.post_parts(offer([secret]), [secret])).status == 202
    (path,) = world.files()
    assert secret[:20] not in path.read_bytes()


async def test_small_files_may_stand_in_the_json_itself(world: World) -> None:
    answer = await world.post(offer(attachments=[inline(b"petit"), inline(b"")]))
    assert answer.status == 202
    assert [file["size"] for file in answer.json["files"]] == [5, 0]


async def test_an_empty_file_is_a_file(world: World) -> None:
    answer = await world.post_parts(offer([b"", b"x"]), [b"", b"x"])
    assert answer.status == 202
    assert [file["size"] for file in answer.json["files"]] == [0, 1]


async def test_the_same_content_again_gets_the_same_answer_and_leaves_no_second_file(world: World) -> None:
    first = await world.post_parts(offer([b"un"]), [b"un"])
    again = await world.post_parts(offer([b"un"]), [b"un"])
    in_json = await world.post(offer(attachments=[inline(b"un", "acte 1.pdf")]))
    assert [first.status, again.status, in_json.status] == [202, 202, 202]
    assert first.json == again.json == in_json.json
    assert len(world.files()) == 1
    assert len(await world.ids()) == 1


async def test_other_content_under_the_same_name_is_a_conflict_and_leaves_nothing(world: World) -> None:
    first = await world.post_parts(offer([b"un"]), [b"un"])
    other = await world.post_parts(offer([b"deux"]), [b"deux"])
    assert other.status == 409
    assert other.rules == {("/external_id", "used_before")}
    assert len(world.files()) == 1
    found = await world.call("GET", f"/v1/submissions/{first.json['id']}")
    assert found.status == 200
    await world.still_works()


async def test_two_senders_may_use_one_name(world: World) -> None:
    mine = await world.post(offer())
    theirs = await world.post(offer(facts={"commune": "74164"}), OTHER_SENDER)
    assert (mine.status, theirs.status) == (202, 202)
    assert mine.json["id"] != theirs.json["id"]


async def test_of_two_that_post_other_content_under_one_name_at_once_one_is_taken(world: World) -> None:
    for number in range(10):
        one, two = os.urandom(300_000), os.urandom(300_000)
        name = f"course-{number}"
        answers = await asyncio.gather(
            world.post_parts(offer([one], name), [one]), world.post_parts(offer([two], name), [two])
        )
        assert sorted(answer.status for answer in answers) == [202, 409]
    assert len(world.files()) == 10


async def test_many_that_post_the_same_at_once_all_get_one_answer(world: World) -> None:
    answers = await asyncio.gather(*(world.post_parts(offer([b"x"]), [b"x"]) for _ in range(12)))
    assert {answer.status for answer in answers} == {202}
    assert len({(answer.json["id"], answer.json["received_at"]) for answer in answers}) == 1
    await until(lambda: len(world.files()) == 1)


async def test_a_former_code_is_taken_and_the_sender_is_told_what_it_means_today(world: World) -> None:
    answer = await world.post(offer(facts={"commune": "74092"}))
    assert answer.status == 202
    (mapped,) = answer.json["mapped_places"]
    assert (mapped["fact"], mapped["given"], mapped["place"]) == ("commune", "74092", "commune:74042")
    assert mapped["steps"] == ["74092 → commune:74042 (former_code)"]


async def test_a_country_is_a_place(world: World) -> None:
    answer = await world.post(offer(facts={"commune": "99109"}))
    assert answer.status == 202
    assert answer.json["mapped_places"] == []


async def test_a_place_may_be_said_with_its_type(world: World) -> None:
    place = {"type": "commune_deleguee", "code": "74010"}
    answer = await world.post(offer(facts={"commune": place}))
    assert answer.status == 202
    assert answer.json["mapped_places"][0]["place"] == "commune:74010"


async def test_la_poste_s_own_sirets_are_sirets(world: World) -> None:
    answer = await world.post(offer(facts={"commune": "74042", "loueur": "35600000049837"}))
    assert answer.status == 202


async def test_the_sender_is_told_which_files_no_rule_gives_to_anybody(world: World) -> None:
    files = [inline(b"1"), inline(b"2", type="ZZ"), inline(b"3", type="DD", recipients=["mairie"])]
    answer = await world.post(offer(attachments=files))
    assert answer.status == 202
    assert answer.json["files_for_nobody"] == [2, 3]


async def test_names_of_files_that_would_hurt_a_file_system_are_taken(world: World) -> None:
    names = ["../../etc/passwd", "a\0b.pdf", "CON", "é" * 300, "\u202efdp.exe", "C:\\x\\y.pdf", ".", " "]
    answer = await world.post(offer(attachments=[inline(b"x", name) for name in names]))
    assert answer.status == 202
    assert len(world.files()) == len(names)
    assert all(world.folder in path.resolve().parents for path in world.files())


async def test_a_file_that_holds_what_looks_like_a_boundary_comes_through_whole(world: World) -> None:
    content = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n--x--\r\n' * 500 + b"\r\n--"
    assert (await world.post_parts(offer([content]), [content])).status == 202


async def test_a_client_that_sends_its_body_byte_by_byte_is_understood(world: World) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for sign in body:
            yield bytes([sign])

    content = b"abc\r\n--limit\r--"
    body = multipart(b"limit", offer([content]), content)
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    answer = await world.call("POST", "/v1/submissions", data=slowly(), headers=headers)
    assert answer.status == 202, answer.body


async def test_base64_in_json_may_hold_any_byte(world: World) -> None:
    content = bytes(range(256))
    told = inline(content)
    assert base64.b64decode(told["content"]) == content
    assert (await world.post(offer(attachments=[told]))).status == 202
