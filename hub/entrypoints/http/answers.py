"""From what the store shows to what the API answers. Who asks decides what is left out: an operator's name
and a place on a partner's server are for operators."""

from __future__ import annotations

from collections.abc import Sequence

from hub.domain.identity import ParcelKind
from hub.domain.replays import as_words
from hub.ports.connector import Parcel
from hub.ports.mailboxes import Entry
from hub.ports.replays import Disclosure, Replay
from hub.ports.tokens import Identity, OperatorIdentity
from hub.ports.views import AttemptView, DeliveryView, SubmissionView
from schemas.models.answers import (
    AttemptAnswer,
    DeliveryAnswer,
    DisclosureAnswer,
    DisclosurePageAnswer,
    JournalAnswer,
    MailboxFileAnswer,
    ParcelAnswer,
    ReasonAnswer,
    ReplayAnswer,
    SubmissionAnswer,
)


def submission_answer(view: SubmissionView, reader: Identity) -> SubmissionAnswer:
    return SubmissionAnswer.model_validate(
        {
            "id": view.id,
            "sender": view.sender,
            "external_id": view.external_id,
            "procedure": view.procedure,
            "received_at": view.received_at,
            "state": view.state,
            "snapshot": view.snapshot,
            "explanation": list(view.explanation),
            "deliveries": [
                delivery_answer(delivery, reader)
                for delivery in view.deliveries
                if isinstance(reader, OperatorIdentity) or delivery.kind is ParcelKind.SUBMISSION
            ],
            "journal": [
                JournalAnswer(
                    at=line.at, event=line.event, delivery=line.delivery, actor=line.actor, detail=line.detail
                )
                for line in view.journal
                if isinstance(reader, OperatorIdentity)
            ],
        }
    )


def delivery_answer(view: DeliveryView, reader: Identity) -> DeliveryAnswer:
    return DeliveryAnswer(
        id=view.id,
        submission=view.submission,
        sender=view.sender,
        external_id=view.external_id,
        procedure=view.procedure,
        subscriber=str(view.subscriber),
        partner=view.partner,
        channel=view.channel,
        sequence=view.sequence,
        state=view.state.value,
        cause=view.cause,
        attachments=list(view.attachments),
        kind="news" if view.kind is ParcelKind.NEWS else "submission",
        case=view.case.value,
        reasons=[
            ReasonAnswer(
                rule=reason.rule,
                recipient=reason.recipient,
                subscription=reason.subscription,
                steps=list(reason.steps),
            )
            for reason in view.reasons
        ],
        created_at=view.created_at,
        changed_at=view.changed_at,
        due_at=view.due_at,
        attempts=[_attempt(attempt, reader) for attempt in view.attempts],
    )


def _attempt(view: AttemptView, reader: Identity) -> AttemptAnswer:
    return AttemptAnswer.model_validate(
        {
            "sending": view.sending,
            "number": view.number,
            "started_at": view.started_at,
            "ended_at": view.ended_at,
            "outcome": view.outcome,
            "cause": view.cause,
            "receipt": view.receipt if isinstance(reader, OperatorIdentity) else None,
        }
    )


def parcel_answer(entry: Entry, parcel: Parcel, links: dict[int, str]) -> ParcelAnswer:
    return ParcelAnswer(
        delivery=parcel.attempt.delivery,
        sequence=parcel.sequence,
        state=entry.state.value,
        channel=entry.channel,
        leased_until=entry.leased_until,
        kind=parcel.kind.value,
        revision=parcel.revision,
        sender=parcel.sender,
        external_id=parcel.external_id,
        procedure=parcel.procedure,
        procedure_title=parcel.procedure_title,
        received_at=parcel.received_at,
        files=[
            MailboxFileAnswer(
                number=file.number,
                name=file.name,
                original_name=file.original,
                type=file.type,
                media_type=file.media_type,
                size=file.size,
                sha256=file.sha256,
                link=links[file.number],
            )
            for file in parcel.files
        ],
    )


def replay_answer(replay: Replay) -> ReplayAnswer:
    order = replay.order
    return ReplayAnswer(
        id=replay.id,
        author=order.author,
        reason=order.reason,
        created_at=replay.created_at,
        state=replay.state.value,
        rules=order.rules.value,
        selection=as_words(order.selection),
        rate=order.rate,
        approved_by=replay.approved_by,
        matched=replay.matched,
        bytes=replay.bytes,
        pending=replay.pending,
        sent=replay.sent,
        skipped=replay.skipped,
        revised=replay.revised,
        planned=replay.planned,
        withdrawn=replay.withdrawn,
        unchanged=replay.unchanged,
        disclosed=replay.disclosed,
        finished_at=replay.finished_at,
    )


def disclosure_page_answer(found: Sequence[Disclosure], limit: int) -> DisclosurePageAnswer:
    """Of at most `limit`; one more says that a page follows."""
    shown = found[:limit]
    return DisclosurePageAnswer(
        items=[
            DisclosureAnswer(
                delivery=one.delivery,
                submission=one.submission,
                subscriber=str(one.subscriber),
                state=one.state.value,
                certain=one.certain,
            )
            for one in shown
        ],
        next=shown[-1].delivery if len(found) > limit else None,
    )
