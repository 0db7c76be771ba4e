"""A form site that writes its submissions into Kafka. Two commands:

    python deposits.py write submission.json file.pdf …   # writes a deposit, with its files in the same order
    python deposits.py refused                            # prints what was refused since it was last asked

`submission.json` is what `POST /v1/submissions` takes. Files that a record is too small for are uploaded first. It
needs aiokafka, fastavro and aiohttp, and of this repository only the two schemas. Where everything is found say
environment variables: KAFKA, SENDER, PREFIX (of the topics, if the hub has one), USER_NAME and PASSWORD (for SASL), HUB
and TOKEN (for uploads).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import fastavro
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]

MOST_INLINE = 900_000
SCHEMAS = Path(__file__).parents[2] / "schemas" / "avro"
DEPOSIT = fastavro.parse_schema(json.loads((SCHEMAS / "deposit.v1.avsc").read_text("utf-8")))
REFUSAL = fastavro.parse_schema(json.loads((SCHEMAS / "refusal.v1.avsc").read_text("utf-8")))


async def write(submission: dict[str, Any], files: Sequence[bytes]) -> None:
    """Written when it returns, to every copy. Whoever does not know whether it was, writes again: it is the same."""
    content = submission.get("content")
    deposit = {**submission, "content": None if content is None else json.dumps(content)}
    for described, file in zip(deposit.get("attachments", ()), files, strict=True):
        described.update(size=len(file), sha256=hashlib.sha256(file).hexdigest(), content=file)
    if len(deposit["content"] or "") + sum(map(len, files)) > MOST_INLINE:
        deposit["upload"] = await upload(files)
        for number, described in enumerate(deposit["attachments"], start=1):
            described.update(content=None, uploaded=number)
    value = io.BytesIO()
    fastavro.schemaless_writer(value, DEPOSIT, deposit)
    async with AIOKafkaProducer(**cluster(), enable_idempotence=True, max_request_size=1 << 20) as producer:
        await producer.send_and_wait(
            topic(),
            value.getvalue(),
            # Records of one key stay in order: the first content of an external id is the one that stands.
            key=submission["external_id"].encode(),
            headers=[("schema", b"deposit.v1")],
        )


async def upload(files: Sequence[bytes]) -> str:
    """The name of an upload of these files. It is kept for ten days, for one deposit to take over."""
    form = aiohttp.FormData()
    for file in files:
        form.add_field("file", file, filename="file")
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        authorization = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
        async with session.post(
            f"{os.environ['HUB']}/v1/uploads", data=form, headers=authorization
        ) as answer:
            return str((await answer.json())["id"])


async def refused() -> list[dict[str, Any]]:
    """What was refused since this was last asked. What is written and not refused is accepted once it is read."""
    name = f"{topic()}.refused"
    found: list[dict[str, Any]] = []
    async with AIOKafkaConsumer(
        name, **cluster(), group_id=name, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        while page := await consumer.getmany(timeout_ms=3000):
            for records in page.values():
                for record in records:
                    told = fastavro.schemaless_reader(io.BytesIO(record.value), REFUSAL, None)
                    assert isinstance(told, dict)
                    found.append(told)
            await consumer.commit()
    return found


def topic() -> str:
    return f"{os.environ.get('PREFIX', '')}deposits.{os.environ['SENDER']}"


def cluster() -> dict[str, Any]:
    found: dict[str, Any] = {"bootstrap_servers": os.environ["KAFKA"]}
    if "USER_NAME" in os.environ:
        found |= {
            "security_protocol": "SASL_SSL",
            "ssl_context": ssl.create_default_context(),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": os.environ["USER_NAME"],
            "sasl_plain_password": os.environ["PASSWORD"],
        }
    return found


def main(words: Sequence[str]) -> None:
    match words:
        case ["write", described, *files]:
            submission = json.loads(Path(described).read_text("utf-8"))
            asyncio.run(write(submission, [Path(file).read_bytes() for file in files]))
        case ["refused"]:
            for told in asyncio.run(refused()):
                sys.stdout.write(json.dumps(told) + "\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
