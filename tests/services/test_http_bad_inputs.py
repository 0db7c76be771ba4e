"""Bad inputs over HTTP, one by one: each is refused with what is wrong and where, never with the value;
nothing of it stays; and the next good post is taken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.services.http_world import (
    SENDER,
    Answer,
    World,
    attachment,
    inline,
    multipart,
    offer,
    open_world,
    raw,
)


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world
        await world.holds_nothing_and_works()


async def post_multipart(world: World, body: bytes) -> Answer:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return await world.call("POST", "/v1/submissions", data=body, headers=headers)


def refused(answer: Answer, status: int, *rules: tuple[str, str]) -> None:
    assert (answer.status, answer.rules) == (status, set(rules)), answer.body
    told = answer.json
    assert told["status"] == status
    assert told["type"].startswith("urn:aiguillage:problem:")


async def test_malformed_json(world: World) -> None:
    for text in (b"", b"{", b"[1,]", b'{"a": NaN}', b"[" * 200_000, b"1" * 5000, b"nul", b'{"a": 1e999}'):
        refused(await world.post(text), 422, ("", "json"))


async def test_json_that_is_no_object(world: World) -> None:
    refused(await world.post([]), 422, ("", "model_type"))


async def test_malformed_encoding(world: World) -> None:
    refused(await world.post(b'{"external_id": "\xff\xfe"}'), 422, ("", "encoding"))


async def test_duplicate_json_keys(world: World) -> None:
    text = json.dumps(offer())[:-1] + ', "procedure": "AUTRE"}'
    refused(await world.post(text.encode()), 422, ("", "json"))


async def test_a_field_nobody_knows(world: World) -> None:
    refused(await world.post(offer(bonjour=1)), 422, ("/bonjour", "extra_forbidden"))


async def test_a_field_that_is_missing(world: World) -> None:
    body = offer()
    del body["external_id"]
    refused(await world.post(body), 422, ("/external_id", "missing"))


async def test_an_unknown_procedure(world: World) -> None:
    refused(await world.post(offer(procedure="RIEN")), 422, ("/procedure", "unknown_procedure"))


async def test_a_procedure_the_sender_may_not_post(world: World) -> None:
    refused(await world.post(offer(procedure="AUTRE")), 403, ("/procedure", "not_granted"))


async def test_an_unknown_commune_code(world: World) -> None:
    refused(await world.post(offer(facts={"commune": "00000"})), 422, ("/facts/commune", "unknown_place"))


async def test_a_missing_fact(world: World) -> None:
    refused(await world.post(offer(facts={})), 422, ("/facts/commune", "required"))


async def test_a_siret_whose_sum_is_wrong(world: World) -> None:
    facts = {"commune": "74042", "loueur": "21740042390018"}
    refused(await world.post(offer(facts=facts)), 422, ("/facts/loueur", "siret"))


async def test_a_word_the_procedure_does_not_know(world: World) -> None:
    facts = {"commune": "74042", "nature": "c"}
    refused(await world.post(offer(facts=facts)), 422, ("/facts/nature", "value"))


async def test_every_flaw_is_named_at_once_and_no_value(world: World) -> None:
    facts = {"commune": "valeur-secrete", "loueur": "autre-secret", "inconnu": "x"}
    answer = await world.post(offer(facts=facts))
    refused(
        answer,
        422,
        ("/facts/commune", "unknown_place"),
        ("/facts/loueur", "siret"),
        ("/facts/inconnu", "unknown_fact"),
    )
    assert b"secret" not in answer.body


@pytest.mark.parametrize("sign", ["\0", "\n", "\x1b", "\ud800"])
async def test_control_signs_in_a_fact(world: World, sign: str) -> None:
    answer = await world.post(offer(facts={"commune": "74042", "etage": f"a{sign}b"}))
    assert answer.status == 422, answer.body


async def test_a_missing_file(world: World) -> None:
    answer = await world.post_parts(offer([b"un", b"deux"]), [b"un"])
    refused(answer, 422, ("/attachments/1", "missing_file"))


async def test_a_missing_file_in_json(world: World) -> None:
    answer = await world.post(offer(attachments=[inline(b"un"), attachment(b"deux")]))
    refused(answer, 422, ("/attachments/1", "missing_file"))


async def test_an_extra_file(world: World) -> None:
    answer = await world.post_parts(offer([b"un"]), [b"un", b"deux"])
    refused(answer, 422, ("/attachments/1", "extra_file"))


async def test_a_part_of_another_name(world: World) -> None:
    answer = await world.post_parts(offer([b"un"]), [b"un"], name="fichier")
    refused(answer, 422, ("", "unknown_part"))


async def test_more_bytes_than_announced(world: World) -> None:
    told = offer([b"un", b"x" * 1000])
    answer = await world.post_parts(told, [b"un", b"x" * 3_000_000])
    refused(answer, 422, ("/attachments/1/size", "oversized"))


async def test_fewer_bytes_than_announced(world: World) -> None:
    answer = await world.post_parts(offer([b"x" * 1000]), [b"x" * 999])
    refused(answer, 422, ("/attachments/0/size", "truncated"))


async def test_other_bytes_than_announced(world: World) -> None:
    answer = await world.post_parts(offer([b"un", b"deux"]), [b"un", b"trois"[:4]])
    refused(answer, 422, ("/attachments/1/sha256", "digest_mismatch"))


async def test_base64_that_is_none(world: World) -> None:
    answer = await world.post(offer(attachments=[attachment(b"un", content="dW4")]))
    refused(answer, 422, ("/attachments/0/content", "base64"))


async def test_inline_content_in_a_multipart_body(world: World) -> None:
    answer = await world.post_parts(offer(attachments=[inline(b"un")]), [b"un"])
    refused(answer, 422, ("/attachments/0/content", "inline_content"))


async def test_ten_thousand_attachments(world: World) -> None:
    told = offer(attachments=[attachment(b"")] * 10_000)
    told["attachments"] = [{"name": "x"}] * 10_000
    answer = await world.post(told)
    assert answer.status == 422
    answer = await world.post_parts(offer([b""] * 10_000), [b""] * 10_000)
    assert answer.status == 413


async def test_more_attachments_than_are_taken(world: World) -> None:
    answer = await world.post_parts(offer([b""] * 501), [b""] * 501)
    refused(answer, 422, ("/attachments", "too_long"))


async def test_files_before_the_submission(world: World) -> None:
    body = multipart(b"b", offer())
    swapped = body.replace(b'name="submission"', b'name="file"')
    refused(await post_multipart(world, swapped), 422, ("", "first_part"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"no boundary at all",
        b"--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="submission"\r\n\r\n{',
        b"--b\r\n" + b"X: y\r\n" * 100 + b"\r\n\r\n--b--\r\n",
        b"--b\r\nX: " + b"y" * 20_000 + b"\r\n\r\n\r\n--b--\r\n",
    ],
)
async def test_malformed_multipart(world: World, body: bytes) -> None:
    answer = await post_multipart(world, body)
    assert answer.status == 422
    assert answer.rules <= {("", "multipart"), ("", "first_part")}


async def test_a_multipart_body_without_its_last_boundary(world: World) -> None:
    body = multipart(b"b", offer([b"un"]), b"un").removesuffix(b"--b--\r\n")
    refused(await post_multipart(world, body), 422, ("", "multipart"))


async def test_a_multipart_body_without_a_boundary(world: World) -> None:
    headers = {"Content-Type": "multipart/form-data"}
    answer = await world.call("POST", "/v1/submissions", data=b"x", headers=headers)
    refused(answer, 422, ("", "boundary"))


async def test_another_media_type(world: World) -> None:
    for kind in ("text/plain", "application/xml", "multipart/mixed; boundary=b"):
        answer = await world.call("POST", "/v1/submissions", data=b"{}", headers={"Content-Type": kind})
        refused(answer, 415)


async def test_a_compressed_body(world: World) -> None:
    refused(await world.post(offer(), headers={"Content-Encoding": "br"}), 415)


@pytest.mark.parametrize("who", [None, "wrong", "long", "expired", "basic"])
async def test_no_wrong_and_expired_tokens_get_one_and_the_same_answer(world: World, who: str | None) -> None:
    headers = {
        None: {},
        "wrong": {"Authorization": "Bearer " + world.tokens[SENDER][:-1] + "!"},
        "long": {"Authorization": "Bearer " + "x" * 5000},
        "expired": {"Authorization": "Bearer " + world.tokens["expired"]},
        "basic": {"Authorization": "Basic eDp5"},
    }[who]
    answer = await world.post(offer(), None, headers=headers)
    refused(answer, 401)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="hub"'
    without = await world.post(offer(), None)
    assert answer.body == without.body
    told = {name: value for name, value in answer.headers.items() if name.lower() != "date"}
    assert told == {name: value for name, value in without.headers.items() if name.lower() != "date"}


@pytest.mark.parametrize("who", ["ministry", "operator"])
async def test_a_token_that_is_not_a_sender_s(world: World, who: str) -> None:
    refused(await world.post(offer(), who), 403)


def _head(world: World, kind: str, length: int) -> bytes:
    return (
        f"POST /v1/submissions HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {world.tokens[SENDER]}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def test_a_json_body_cut_off_half_way(world: World) -> None:
    body = json.dumps(offer()).encode()
    await raw(world.url, _head(world, "application/json", len(body)), body[:50], break_off=True)


async def test_a_multipart_body_cut_off_within_a_file(world: World) -> None:
    body = multipart(b"b", offer([b"un", b"x" * 500_000]), b"un", b"x" * 500_000)
    head = _head(world, "multipart/form-data; boundary=b", len(body))
    await raw(world.url, head, body[:400_000], break_off=True, wait=0.3)


async def test_a_multipart_body_cut_off_between_two_files(world: World) -> None:
    body = multipart(b"b", offer([b"un", b"deux"]), b"un", b"deux")
    head = _head(world, "multipart/form-data; boundary=b", len(body))
    await raw(world.url, head, body[: body.index(b"deux")], break_off=True, wait=0.3)


async def test_a_body_whose_last_byte_does_not_come(world: World) -> None:
    body = multipart(b"b", offer([b"un"]), b"un")
    head = _head(world, "multipart/form-data; boundary=b", len(body))
    await raw(world.url, head, body[:-1], break_off=True, wait=0.3)


async def test_chunks_that_end_too_early(world: World) -> None:
    head = _head(world, "application/json", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    body = json.dumps(offer()).encode()
    await raw(world.url, head, b"%x\r\n%s\r\n" % (len(body), body), break_off=True, wait=0.3)


@pytest.mark.parametrize(
    "change",
    [
        {"external_id": "é"},
        {"external_id": ""},
        {"external_id": "x" * 101},
        {"facts": {"commune": 74042}},
        {"facts": {f"f{n}": "x" for n in range(60)}},
        {"applicant": {"email": "x" * 400}},
        {"attachments": [attachment(b"", size=-1)]},
        {"attachments": [attachment(b"", sha256="x")]},
        {"attachments": [attachment(b"", sha256="A" * 64)]},
        {"attachments": [attachment(b"", media_type="pdf\r\nX-Evil: 1")]},
        {"attachments": [inline(b"", type="inconnu")]},
        {"attachments": [inline(b"", recipients=["personne"])]},
    ],
)
async def test_fields_that_do_not_have_the_right_form(world: World, change: dict[str, Any]) -> None:
    answer = await world.post(offer(**change))
    assert answer.status == 422
    assert len(answer.rules) >= 1
