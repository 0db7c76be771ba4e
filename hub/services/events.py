"""Events, opened for who sent the submission: what its partners said, and the files they returned.

Business of this room: opening what is sealed, and one description of an event, whether its sender reads it or gets it
sent. It keeps nothing and sends nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from hub.domain.document import canonical
from hub.domain.errors import MissingKey
from hub.domain.filenames import safe_names
from hub.ports.attachments import Attachments
from hub.ports.connector import ParcelFile
from hub.ports.events import Event
from hub.ports.keyring import DataKey, Keyring
from hub.services.times import rfc3339

DESCRIPTION = "event.json"
FILE = 1
"""The number of an event's file in the parcel that carries it; 0 is its description."""


@dataclass(frozen=True, slots=True)
class OpenedEvent:
    """`reference`: the partner's own name for it."""

    event: Event
    message: str | None = field(repr=False)
    reference: str | None = field(repr=False)
    file: ParcelFile | None


class EventRoom:
    def __init__(self, attachments: Attachments, keyring: Keyring) -> None:
        self._attachments = attachments
        self._keyring = keyring

    def open(self, event: Event) -> OpenedEvent:
        """Raises MissingKey (its submission was purged) or Tampered."""
        if not event.wrapped_key:
            raise MissingKey
        key = self._keyring.unwrap(event.wrapped_key)
        told = json.loads(self._keyring.open(key, event.sealed, event.delivery.bytes + event.digest))
        return OpenedEvent(event, told["message"], told["reference"], self._file(event, key, told["file"]))

    def _file(self, event: Event, key: DataKey, told: dict[str, Any] | None) -> ParcelFile | None:
        if told is None or event.location is None:
            return None
        return ParcelFile(
            number=FILE,
            name=safe_names([(FILE, told["name"])])[FILE],
            original=told["name"],
            type="returned",
            media_type=told["media_type"],
            size=told["size"],
            sha256=told["sha256"],
            open=self._opener(event.location, key),
        )

    def _opener(self, location: str, key: DataKey) -> Callable[[int, int | None], AsyncIterator[bytes]]:
        return lambda start, end: self._attachments.read(location, key, start, end)


def described(opened: OpenedEvent) -> bytes:
    """As JSON, in one canonical form: what stands in file 0 of the parcel that carries it."""
    event, file = opened.event, opened.file
    return canonical(
        {
            "id": str(event.id),
            "number": event.number,
            "at": rfc3339(event.at),
            "submission": str(event.submission),
            "external_id": event.external_id,
            "procedure": event.procedure,
            "delivery": str(event.delivery),
            "subscriber": str(event.subscriber),
            "status": event.status,
            "before": event.before,
            "message": opened.message,
            "reference": opened.reference,
            "file": None
            if file is None
            else {
                "name": file.name,
                "original_name": file.original,
                "media_type": file.media_type,
                "size": file.size,
                "sha256": file.sha256,
            },
        }
    )
