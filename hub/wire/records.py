"""Records of the log: between the values of the domain and the published Avro schemas.

What is written is of the newest version of its schema; what an older hub wrote is still read.
"""

from __future__ import annotations

import io
from sys import intern
from typing import Literal, TypeVar, assert_never

import fastavro
from pydantic import BaseModel

from hub.domain.decisions import Decision, Reason, Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import Subscriber
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.ports.log import Record
from hub.ports.store import News
from schemas.avro import schema
from schemas.models.records import (
    AttachmentRecord,
    DecisionRecord,
    JournalRecord,
    ReasonRecord,
    RecipientRecord,
    SubmissionRecord,
)

Model = TypeVar("Model", bound=BaseModel)

SUBMISSION = "submission.v1"
DECISION = "decision.v2"
FORMER_DECISION = "decision.v1"
JOURNAL = "journal.v1"

Word = Literal["routed", "unroutable", "set_aside"]


def write_submission(facts: RoutingFacts) -> Record:
    record = SubmissionRecord(
        submission=facts.submission,
        sender=facts.sender,
        procedure=facts.procedure,
        facts=dict(facts.facts),
        attachments=[
            AttachmentRecord(
                number=file.number,
                type=file.type,
                recipients=None if file.recipients is None else list(file.recipients),
            )
            for file in facts.attachments
        ],
        received_at=facts.received_at,
    )
    return Record(facts.submission.bytes, SUBMISSION, _encode(SUBMISSION, record))


def read_submission_record(record: Record) -> RoutingFacts:
    """Raises Invalid for bytes that are no such record."""
    told = _decode(SUBMISSION, SubmissionRecord, record)
    # Words that come again and again are kept once: matching then compares them by where they lie.
    return RoutingFacts(
        submission=told.submission,
        sender=intern(told.sender),
        procedure=intern(told.procedure),
        facts={intern(name): value for name, value in told.facts.items()},
        attachments=tuple(
            [
                AttachmentFacts(
                    file.number,
                    intern(file.type),
                    None if file.recipients is None else tuple(map(intern, file.recipients)),
                )
                for file in told.attachments
            ]
        ),
        received_at=told.received_at,
    )


def write_decision(decision: Decision) -> Record:
    word, explanation = _verdict_parts(decision.verdict)
    record = DecisionRecord(
        submission=decision.submission,
        number=decision.number,
        snapshot=decision.snapshot,
        verdict=word,
        explanation=list(explanation),
        recipients=[
            RecipientRecord(
                delivery=delivery,
                siret=recipient.subscriber.siret,
                branch=recipient.subscriber.branch,
                attachments=list(recipient.attachments),
                reasons=[
                    ReasonRecord(
                        rule=reason.rule,
                        recipient=reason.recipient,
                        subscription=reason.subscription,
                        steps=list(reason.steps),
                    )
                    for reason in recipient.reasons
                ],
                mailbox=recipient.mailbox,
            )
            for delivery, recipient in decision.named()
        ],
    )
    return Record(decision.submission.bytes, DECISION, _encode(DECISION, record))


def read_decision_record(record: Record) -> Decision:
    """Raises Invalid for bytes that are no such record."""
    name = FORMER_DECISION if record.schema == FORMER_DECISION else DECISION
    told = _decode(name, DecisionRecord, record)
    return Decision(
        told.submission,
        told.number,
        told.snapshot,
        _verdict(told),
        tuple(recipient.delivery for recipient in told.recipients),
    )


def write_news(news: News) -> Record:
    """Keyed by the partner, else by the submission: what happens to one is read in order."""
    siret, branch = news.subscriber or (None, None)
    record = JournalRecord(
        at=news.at,
        event=news.event,
        submission=news.submission,
        delivery=news.delivery,
        procedure=news.procedure,
        siret=siret,
        branch=branch,
    )
    key = str(news.subscriber or news.submission or "").encode()
    return Record(key, JOURNAL, _encode(JOURNAL, record))


def read_news(record: Record) -> News:
    """Raises Invalid for bytes that are no such record."""
    told = _decode(JOURNAL, JournalRecord, record)
    partner = None if told.siret is None or told.branch is None else Subscriber(told.siret, told.branch)
    return News(told.at, told.event, told.submission, told.delivery, told.procedure, partner)


def _verdict_parts(verdict: Verdict) -> tuple[Word, tuple[str, ...]]:
    match verdict:
        case Routed():
            return "routed", ()
        case Unroutable(tried=tried):
            return "unroutable", tried
        case SetAside(reason=reason):
            return "set_aside", (reason,)
        case _:
            assert_never(verdict)


def _verdict(told: DecisionRecord) -> Verdict:
    match told.verdict:
        case "routed":
            return Routed(tuple(_recipient(recipient) for recipient in told.recipients))
        case "unroutable":
            return Unroutable(tuple(told.explanation))
        case "set_aside":
            return SetAside(told.explanation[0] if told.explanation else "unknown")
        case _:
            assert_never(told.verdict)


def _recipient(told: RecipientRecord) -> Recipient:
    return Recipient(
        Subscriber(told.siret, told.branch),
        tuple(told.attachments),
        tuple(
            Reason(reason.rule, reason.recipient, reason.subscription, tuple(reason.steps))
            for reason in told.reasons
        ),
        told.mailbox,
    )


def _encode(name: str, record: BaseModel) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema(name), record.model_dump())
    return out.getvalue()


def _decode(name: str, model: type[Model], record: Record) -> Model:
    if record.schema != name:
        raise Invalid(Flaw("", "schema", f"not a {name} record"))
    source = io.BytesIO(record.value)
    try:
        told = fastavro.schemaless_reader(source, schema(name), None)
        if source.read(1):
            raise Invalid(Flaw("", "avro", "bytes are left over"))
        return model.model_validate(told)
    except Invalid:
        raise
    except Exception:  # fastavro raises many kinds on hostile bytes, and quotes them
        raise Invalid(Flaw("", "avro", f"these bytes are no {name} record")) from None
