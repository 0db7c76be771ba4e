"""Between what travels (`schemas`) and what the domain thinks in: the only file that knows both.

Everything that comes in is checked here, once; a flaw names its field and its rule, never the value.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterable, Mapping
from math import isinf
from typing import Any, TypeVar, assert_never
from uuid import UUID

import fastavro
from pydantic import BaseModel, ValidationError

from hub.domain.decisions import Decision, Reason, Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.document import Document, OfferedFile, canonical
from hub.domain.errors import Flaw, Invalid, RuleBookError
from hub.domain.identity import Subscriber
from hub.domain.partner import is_siret
from hub.domain.rules import (
    Competent,
    FactSpec,
    FactType,
    Named,
    Procedure,
    Rule,
    RuleBook,
    Subscription,
)
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import Place, PlaceType, Territory
from hub.ports.log import Record
from schemas.avro import schema
from schemas.models.records import (
    AttachmentRecord,
    DecisionRecord,
    ReasonRecord,
    RecipientRecord,
    SubmissionRecord,
)
from schemas.models.rules import ProcedureIn, RuleBookFile, RuleIn, SubscriptionIn
from schemas.models.submission import PlaceIn, SubmissionIn

Model = TypeVar("Model", bound=BaseModel)

SUBMISSION = "submission.v1"
DECISION = "decision.v1"


# --- what senders post --------------------------------------------------------------------------------


def read_submission(body: bytes) -> SubmissionIn:
    """A posted submission, its shape checked. Raises Invalid with every flaw."""
    return read_json(SubmissionIn, body)


def read_json(model: type[Model], body: bytes) -> Model:
    """Any JSON body as a model. Raises Invalid with every flaw."""
    try:
        told = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_once,
        )
    except UnicodeDecodeError:
        raise Invalid(Flaw("", "encoding", "the body is not UTF-8")) from None
    except (ValueError, RecursionError):
        raise Invalid(Flaw("", "json", "the body is not well-formed JSON")) from None
    try:
        # From the text again: strict models read dates and ids from JSON strings, not from Python ones.
        return model.model_validate_json(json.dumps(told))
    except ValidationError as error:
        raise Invalid(*flaws_of(error)) from None


def flaws_of(error: ValidationError) -> list[Flaw]:
    """Pydantic's findings without the values: pydantic quotes what was sent in some of its messages."""
    flaws = []
    for found in error.errors(include_url=False, include_context=False, include_input=False)[:50]:
        field = "".join(f"/{_escape(str(part))}" for part in found["loc"])
        flaws.append(
            Flaw(field, found["type"], _SENTENCES.get(found["type"], "this does not have the right form"))
        )
    return flaws


_SENTENCES: Mapping[str, str] = {
    "missing": "this field is missing",
    "extra_forbidden": "there is no such field",
    "string_type": "a text is expected",
    "int_type": "a whole number is expected",
    "bool_type": "true or false is expected",
    "list_type": "a list is expected",
    "dict_type": "an object is expected",
    "model_type": "an object is expected",
    "string_too_long": "this text is too long",
    "string_too_short": "this text is too short",
    "string_pattern_mismatch": "this text has signs that are not allowed here",
    "too_long": "this list has too many elements",
    "too_short": "this list has too few elements",
    "greater_than_equal": "this number is too small",
    "less_than_equal": "this number is too large",
    "uuid_parsing": "an id (UUID) is expected",
}


def offer_document(posted: SubmissionIn) -> Document:
    """The canonical document of a posted submission (the bytes of its files are not in it)."""
    return Document(
        procedure=posted.procedure,
        facts={
            name: f"{value.type}:{value.code}" if isinstance(value, PlaceIn) else value
            for name, value in posted.facts.items()
        },
        applicant=None if posted.applicant is None else posted.applicant.model_dump(exclude_none=True),
        content=posted.content,
        files=tuple(
            OfferedFile(
                number=number,
                name=file.name,
                type=file.type,
                media_type=file.media_type,
                size=file.size,
                sha256=file.sha256,
                recipients=None if file.recipients is None else tuple(file.recipients),
            )
            for number, file in enumerate(posted.attachments, start=1)
        ),
    )


# --- records of the log -------------------------------------------------------------------------------


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
    return RoutingFacts(
        submission=told.submission,
        sender=told.sender,
        procedure=told.procedure,
        facts=told.facts,
        attachments=tuple(
            AttachmentFacts(
                file.number, file.type, None if file.recipients is None else tuple(file.recipients)
            )
            for file in told.attachments
        ),
        received_at=told.received_at,
    )


def write_decision(decision: Decision) -> Record:
    word, explanation, recipients = _verdict_parts(decision.verdict)
    record = DecisionRecord(
        submission=decision.submission,
        number=decision.number,
        snapshot=decision.snapshot,
        verdict=word,
        explanation=list(explanation),
        recipients=[
            RecipientRecord(
                delivery=recipient.delivery,
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
            )
            for recipient in recipients
        ],
    )
    return Record(decision.submission.bytes, DECISION, _encode(DECISION, record))


def read_decision_record(record: Record) -> Decision:
    """Raises Invalid for bytes that are no such record."""
    told = _decode(DECISION, DecisionRecord, record)
    return Decision(told.submission, told.number, told.snapshot, _verdict(told))


def _verdict_parts(verdict: Verdict) -> tuple[Any, tuple[str, ...], tuple[Recipient, ...]]:
    match verdict:
        case Routed(recipients=recipients):
            return "routed", (), recipients
        case Unroutable(tried=tried):
            return "unroutable", tried, ()
        case SetAside(reason=reason):
            return "set_aside", (reason,), ()
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
        told.delivery,
        Subscriber(told.siret, told.branch),
        tuple(told.attachments),
        tuple(
            Reason(reason.rule, reason.recipient, reason.subscription, tuple(reason.steps))
            for reason in told.reasons
        ),
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


# --- the rule book ------------------------------------------------------------------------------------


def write_rule_book(book: RuleBookFile) -> bytes:
    """The canonical content of an edition: equal books give equal bytes, whatever the order in files."""
    told = book.model_dump(mode="json")
    told["procedures"].sort(key=lambda procedure: procedure["procedure"])
    told["subscriptions"].sort(key=lambda s: (s["procedure"], s["place"], s["subscriber"]))
    return zlib.compress(canonical(told), 6)


def read_rule_book(content: bytes, territories: Mapping[str, Territory]) -> RuleBook:
    """Raises RuleBookError."""
    told = RuleBookFile.model_validate_json(zlib.decompress(content))
    territory = territories.get(told.territory)
    if territory is None:
        raise RuleBookError(f"territory of vintage {told.territory} is not here")
    return rule_book(told.procedures, told.subscriptions, territory)


def subscriptions_of(content: bytes) -> list[SubscriptionIn]:
    """The subscriptions of an edition."""
    return RuleBookFile.model_validate_json(zlib.decompress(content)).subscriptions


def rule_book(
    procedures: Iterable[ProcedureIn], subscriptions: Iterable[SubscriptionIn], territory: Territory
) -> RuleBook:
    """Raises RuleBookError, naming the procedure or subscription and what is wrong with it."""
    return RuleBook.build(map(_procedure, procedures), map(_subscription, subscriptions), territory)


def _procedure(told: ProcedureIn) -> Procedure:
    facts = {
        name: FactSpec(name, FactType(fact.type), fact.required, tuple(fact.values))
        for name, fact in told.facts.items()
    }
    seen: set[str] = set()
    for rule in told.rules:
        if rule.id in seen:
            raise RuleBookError(f"{told.procedure}: rule {rule.id} stands twice")
        seen.add(rule.id)
        _check_rule(told, rule)
    return Procedure(
        told.procedure,
        told.title,
        facts,
        tuple(_rule(rule) for rule in told.rules),
        None if told.attachment_types is None else tuple(told.attachment_types),
    )


def _check_rule(procedure: ProcedureIn, rule: RuleIn) -> None:
    where = f"{procedure.procedure}: rule {rule.id}"
    if (rule.competent is None) == (rule.partner is None):
        raise RuleBookError(f"{where}: exactly one of `competent` and `partner` says for whom")
    if rule.competent is not None:
        fact = procedure.facts.get(rule.competent.place)
        if fact is None or fact.type != "place":
            raise RuleBookError(f"{where}: {rule.competent.place} is not a place fact of this procedure")
    if rule.partner is not None and not is_siret(rule.partner[:14]):
        raise RuleBookError(f"{where}: the partner's SIRET does not have a right check sum")
    unknown = set(rule.attachments or ()) - set(procedure.attachment_types or rule.attachments or ())
    if unknown:
        raise RuleBookError(f"{where}: unknown attachment type {min(unknown)}")


def _rule(told: RuleIn) -> Rule:
    to: Competent | Named
    if told.competent is not None:
        to = Competent(told.competent.place, tuple(PlaceType(level) for level in told.competent.levels))
    else:
        assert told.partner is not None  # _check_rule
        to = Named(Subscriber.parse(told.partner))
    return Rule(told.id, told.recipient, to, None if told.attachments is None else tuple(told.attachments))


def _subscription(told: SubscriptionIn) -> Subscription:
    where = f"subscription of {told.subscriber} to {told.procedure}"
    if not is_siret(told.subscriber[:14]):
        raise RuleBookError(f"{where}: the SIRET does not have a right check sum")
    try:
        place = Place.parse(told.place)
    except ValueError:
        raise RuleBookError(f"{where}: {told.place} is no place") from None
    return Subscription(told.procedure, Subscriber.parse(told.subscriber), place)


# --- small -------------------------------------------------------------------------------------------


def read_id(text: str) -> UUID | None:
    """An id from a path, None if it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _refuse_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    """`1e999` is well-formed, and no number that could be written again."""
    value = float(text)
    if isinf(value):
        raise ValueError("a number is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a repeated name may see two different values: refused."""
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return told


def _escape(part: str) -> str:
    """JSON pointer (RFC 6901). A field's name may itself have been sent by somebody: kept short."""
    return part.replace("~", "~0").replace("/", "~1")[:60]
