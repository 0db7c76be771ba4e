"""What arrived, compared byte for byte with what was sent.

It reads the receivers' folders, not the hub: what the hub believes is not evidence.
"""

from __future__ import annotations

import email
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from demo.forms import Form

DESCRIPTION = "submission.json"


@dataclass(slots=True)
class Comparison:
    """`files`: compared and equal. `differences`: a sentence for each that is not."""

    files: int = 0
    parcels: int = 0
    repeated: int = 0
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Arrival:
    """`files`: content by the file's number; 0 is the description."""

    partner: str
    delivery: str
    files: Mapping[int, bytes] = field(repr=False)


def compare(
    arrivals: Sequence[Arrival], deliveries: Mapping[str, Mapping[str, Any]], forms: Mapping[str, Form]
) -> Comparison:
    """`deliveries`: what the hub says of each delivery, by id; `forms`: what was sent, by external id."""
    found = Comparison()
    arrived: set[str] = set()
    for arrival in arrivals:
        told = deliveries.get(arrival.delivery)
        if told is None:
            found.differences.append(f"{arrival.delivery} arrived and the hub does not know it")
            continue
        if told["subscriber"] != arrival.partner:
            found.differences.append(f"{arrival.delivery} arrived at a partner it is not for")
        if arrival.delivery in arrived:
            found.repeated += 1
        arrived.add(arrival.delivery)
        found.parcels += 1
        found.files += _compare_files(arrival, told, forms[told["external_id"]], found.differences)
    for name, told in deliveries.items():
        if told["state"] in ("delivered", "acknowledged") and name not in arrived:
            found.differences.append(f"{name} is delivered and did not arrive")
    return found


def _compare_files(arrival: Arrival, told: Mapping[str, Any], form: Form, differences: list[str]) -> int:
    granted = set(told["attachments"])
    if set(arrival.files) - {0} != granted:
        differences.append(f"{arrival.delivery} has not exactly the files it was granted")
        return 0
    equal = 0
    for number in granted:
        if arrival.files[number] == form.files[number - 1].content:
            equal += 1
        else:
            differences.append(f"{arrival.delivery}: file {number} differs from what was sent")
    return equal


def by_sftp(folder: Path) -> Iterator[Arrival]:
    for line in _lines(folder):
        place = folder / line["place"]
        contents = {file.name: file.read_bytes() for file in place.iterdir() if file.is_file()}
        yield Arrival(line["partner"], line["delivery"], _numbered(contents))


def by_mail(folder: Path) -> Iterator[Arrival]:
    for line in _lines(folder):
        mail = email.message_from_bytes(
            (folder / line["place"]).read_bytes(), _class=EmailMessage, policy=default
        )
        contents = {
            str(part.get_filename()): cast(bytes, part.get_payload(decode=True))
            for part in mail.iter_attachments()
        }
        yield Arrival(line["partner"], line["delivery"], _numbered(contents))


def by_webhook(folder: Path) -> Iterator[Arrival]:
    for line in _lines(folder):
        place = folder / line["place"]
        contents = {int(file.name): file.read_bytes() for file in place.iterdir() if file.name.isdigit()}
        yield Arrival(line["partner"], line["delivery"], contents)


def _numbered(contents: Mapping[str, bytes]) -> dict[int, bytes]:
    """The parcel's own description says which number each name has."""
    told = json.loads(contents[DESCRIPTION])
    numbers = {file["name"]: int(file["number"]) for file in told["files"]}
    return {
        numbers.get(name, 0 if name == DESCRIPTION else -1): content for name, content in contents.items()
    }


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "arrivals.jsonl"
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            yield json.loads(line)
