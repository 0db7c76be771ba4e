"""Records of submissions and of news: between the values of the domain and the published Avro schemas.

What is written is of the newest version of its schema; what an older hub wrote is still read.
"""

from __future__ import annotations

from sys import intern
from typing import Any

from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import Subscriber
from hub.domain.matching import Asked
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.ports.log import Record
from hub.ports.outgoing import News
from hub.wire.avro import decode, encode
from hub.wire.brief import BriefReader, write_brief

SUBMISSION = "submission.v1"
JOURNAL = "journal.v1"


def write_submission(facts: RoutingFacts) -> Record:
    told = {
        "submission": facts.submission,
        "sender": facts.sender,
        "procedure": facts.procedure,
        "facts": facts.facts,
        "attachments": [
            # A list: in a union, fastavro takes a tuple for a hint and a value.
            {
                "number": file.number,
                "type": file.type,
                "recipients": None if file.recipients is None else list(file.recipients),
            }
            for file in facts.attachments
        ],
        "received_at": facts.received_at,
    }
    return Record(facts.submission.bytes, SUBMISSION, encode(SUBMISSION, told), write_brief(facts))


def read_submission_record(record: Record) -> RoutingFacts:
    """Raises Invalid for bytes that are no such record."""
    told = decode(SUBMISSION, record)
    if told["submission"].bytes != record.key:
        raise Invalid(Flaw("", "key", "the key names another submission"))
    # Words that come again and again are kept once: matching then compares them by where they lie.
    return RoutingFacts(
        submission=told["submission"],
        sender=intern(told["sender"]),
        procedure=intern(told["procedure"]),
        facts={intern(name): value for name, value in told["facts"].items()},
        attachments=tuple(map(_attachment, told["attachments"])),
        received_at=told["received_at"],
    )


def _attachment(told: dict[str, Any]) -> AttachmentFacts:
    recipients = told["recipients"]
    names = None if recipients is None else tuple(map(intern, recipients))
    return AttachmentFacts(told["number"], intern(told["type"]), names)


class SubmissionReader:
    """Reads what matching asks of submissions, by the million: in brief where it can."""

    def __init__(self) -> None:
        self._read_brief = BriefReader().read

    def read(self, record: Record) -> Asked:
        """Raises Invalid for what is no submission's record. One with a brief is not looked at further."""
        key, _, _, brief = record
        if brief and len(key) == _ID:
            try:
                return self._read_brief(brief)
            except ValueError:
                pass
        return read_submission_record(record)


_ID = 16


def write_news(news: News) -> Record:
    """Keyed by the partner, else by the submission: what happens to one is read in order."""
    siret, branch = news.subscriber or (None, None)
    told = {
        "at": news.at,
        "event": news.event,
        "submission": news.submission,
        "delivery": news.delivery,
        "procedure": news.procedure,
        "siret": siret,
        "branch": branch,
    }
    key = str(news.subscriber or news.submission or "").encode()
    return Record(key, JOURNAL, encode(JOURNAL, told))


def read_news(record: Record) -> News:
    """Raises Invalid for bytes that are no such record."""
    told = decode(JOURNAL, record)
    siret, branch = told["siret"], told["branch"]
    partner = None if siret is None or branch is None else Subscriber(siret, branch)
    return News(told["at"], told["event"], told["submission"], told["delivery"], told["procedure"], partner)
