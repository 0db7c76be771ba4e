"""What is sent: a parcel's announcement as JSON, made from the delivery alone, but for the links."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from hub.ports.connector import Parcel, ParcelFile

_LARGE = 256 * 1024
"""Bytes of files whose encoding is left to a thread: it would hold up every other lane of this process."""


def body(parcel: Parcel, links: Sequence[str], contents: Sequence[bytes] | None = None) -> bytes:
    """`links`: where each file can be fetched, fresh for each attempt, in the order of `parcel.files`. `contents`:
    the files themselves, in the same order, if they are sent along."""
    files = [_file(file, link) for file, link in zip(parcel.files, links, strict=True)]
    if contents is not None:
        for told, content in zip(files, contents, strict=True):
            told["content"] = base64.b64encode(content).decode()
    return to_json(
        {
            "type": f"parcel.{parcel.kind.value}",
            "timestamp": _rfc3339(parcel.received_at),
            "data": {
                "delivery": str(parcel.attempt.delivery),
                "subscriber": str(parcel.subscriber),
                "sequence": parcel.sequence,
                "procedure": parcel.procedure,
                "external_id": parcel.external_id,
                "sender": parcel.sender,
                "kind": parcel.kind.value,
                "revision": parcel.revision,
                "files": files,
            },
        }
    )


def _file(file: ParcelFile, link: str) -> dict[str, Any]:
    return {
        "number": file.number,
        "name": file.name,
        "type": file.type,
        "media_type": file.media_type,
        "size": file.size,
        "sha256": file.sha256,
        "url": link,
    }


def weight(parcel: Parcel, most: int) -> int:
    """Bytes of files that go along in the message: all of them if they are not more than `most` together, else none."""
    size = sum(file.size for file in parcel.files)
    return size if size <= most else 0


async def with_contents(parcel: Parcel, links: Sequence[str]) -> bytes:
    """The message with all files. Raises what reading them does."""
    contents = [b"".join([chunk async for chunk in file.open(0, None)]) for file in parcel.files]
    if sum(map(len, contents)) < _LARGE:
        return body(parcel, links, contents)
    return await asyncio.to_thread(body, parcel, links, contents)


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
