"""Matching: from a submission's routing facts and a rule book to a decision. Pure, and a few look-ups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from hub.domain.decisions import Decision, Reason, Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.identity import ParcelKind, Subscriber, delivery_id
from hub.domain.rules import Competent, FactType, Named, Procedure, Rule, RuleBook, Snapshot
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import Place, Resolution, Territory

FIRST = 1


def decide(submission: RoutingFacts, snapshot: Snapshot) -> Decision:
    """The first decision of a submission: the same for ever, whoever asks, whenever."""
    return Decision(submission.submission, FIRST, snapshot.number, match(submission, snapshot.book))


def match(submission: RoutingFacts, book: RuleBook) -> Verdict:
    procedure = book.procedures.get(submission.procedure)
    if procedure is None:
        return SetAside("unknown_procedure")
    places = _places(submission, procedure, book.territory)
    if places is None:
        return SetAside("unknown_place")
    found: dict[Subscriber, list[tuple[Rule, Reason]]] = {}
    tried: list[str] = []
    for rule in procedure.rules:
        chosen = _choose(rule, procedure, places, book)
        for subscriber, reason in chosen.found:
            found.setdefault(subscriber, []).append((rule, reason))
        if not chosen.found:
            tried.append(f"{rule.id}: {chosen.looked}")
    if not found:
        return Unroutable(tuple(tried))
    return Routed(
        tuple(_recipient(submission, subscriber, found[subscriber]) for subscriber in sorted(found))
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    found: tuple[tuple[Subscriber, Reason], ...]
    looked: str


def _places(
    submission: RoutingFacts, procedure: Procedure, territory: Territory
) -> dict[str, Resolution] | None:
    """Each place fact, resolved; None when one names no place of this territory."""
    places: dict[str, Resolution] = {}
    for name, value in submission.facts.items():
        spec = procedure.facts.get(name)
        if spec is None or spec.type is not FactType.PLACE:
            continue
        resolution = resolve(value, territory)
        if resolution is None:
            return None
        places[name] = resolution
    return places


def resolve(value: str, territory: Territory) -> Resolution | None:
    """A place fact is a code (`64445`) or a code with its type (`commune_deleguee:01015`)."""
    if ":" not in value:
        return territory.resolve(value)
    try:
        place = Place.parse(value)
    except ValueError:
        return None
    return territory.resolve(place.code, place.type)


def _choose(rule: Rule, procedure: Procedure, places: dict[str, Resolution], book: RuleBook) -> _Choice:
    match rule.to:
        case Named(subscriber=subscriber):
            return _Choice(((subscriber, Reason(rule.id, rule.recipient, None, ())),), "")
        case Competent(fact=fact):
            resolution = places.get(fact)
            if resolution is None:
                return _Choice((), f"the submission does not say {fact}")
            return _competent(rule, rule.to, procedure, resolution, book)
        case _:
            assert_never(rule.to)


def _competent(
    rule: Rule, to: Competent, procedure: Procedure, resolution: Resolution, book: RuleBook
) -> _Choice:
    chain = (resolution.place, *book.territory.above(resolution.place))
    looked = []
    for level in to.levels:
        for place in chain:
            if place.type is not level:
                continue
            looked.append(str(place))
            subscriptions = book.by_place.get((procedure.code, place), ())
            if subscriptions:
                steps = (*(str(step) for step in resolution.steps), f"{to.fact} → {place}")
                return _Choice(
                    tuple(
                        (found.subscriber, Reason(rule.id, rule.recipient, found.id, steps))
                        for found in subscriptions
                    ),
                    "",
                )
    return _Choice((), f"nobody subscribes for {', '.join(looked) or resolution.place}")


def _recipient(
    submission: RoutingFacts, subscriber: Subscriber, found: Iterable[tuple[Rule, Reason]]
) -> Recipient:
    """One delivery for a subscriber, however many rules end at it: with the union of their files."""
    rules = tuple(found)
    files = tuple(
        attachment.number
        for attachment in submission.attachments
        if any(grants(rule, attachment) for rule, _ in rules)
    )
    name = delivery_id(submission.submission, subscriber, ParcelKind.SUBMISSION, FIRST)
    return Recipient(name, subscriber, files, tuple(reason for _, reason in rules))


def grants(rule: Rule, attachment: AttachmentFacts) -> bool:
    """Whether a rule gives this file to its recipients. The sender's wish narrows, it never widens."""
    given = rule.attachments is None or attachment.type in rule.attachments
    return given and (attachment.recipients is None or rule.recipient in attachment.recipients)
