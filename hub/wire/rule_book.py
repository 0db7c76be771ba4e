"""The rule book: between its wire models, the items the store keeps of it, and the domain's values.

A day in a file is a day in France: it begins at its midnight there, and the last day is included. An item's
content is canonical JSON without what is left at its default, so equal things are equal bytes, whatever the
order of files, rules and lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from sys import intern
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from hub.domain.cases import USUAL, USUAL_MOVES, CaseMoves, CaseStatus, without
from hub.domain.conditions import All, Condition, Equals, Exists, In, Not, NotIn, Prefix, Range
from hub.domain.conditions import Any as AnyOf
from hub.domain.document import canonical
from hub.domain.errors import RuleBookError
from hub.domain.identity import Subscriber
from hub.domain.partner import is_siret
from hub.domain.rule_book import RuleBook
from hub.domain.rules import (
    ALWAYS,
    Competent,
    Everyone,
    FactSpec,
    FactType,
    Named,
    Period,
    Procedure,
    Rule,
    Subscription,
    SubscriptionState,
    Succession,
    Transfer,
)
from hub.domain.territory import Level, Place, PlaceType, Territory
from hub.ports.rule_books import Change, Item, ItemKey, ItemKind
from schemas.models.rules import (
    ConditionIn,
    ProcedureIn,
    RuleIn,
    StatusesIn,
    SubscriptionIn,
    SuccessionIn,
    TransferIn,
    told,
)

Model = TypeVar("Model", bound=BaseModel)
Items = Mapping[ItemKey, Item]

_FRANCE = ZoneInfo("Europe/Paris")


def rule_book(
    procedures: Iterable[ProcedureIn],
    subscriptions: Iterable[SubscriptionIn],
    territory: Territory,
    successions: Iterable[SuccessionIn] = (),
) -> RuleBook:
    """Raises RuleBookError, naming what contradicts itself."""
    return RuleBook.build(
        map(procedure, procedures), map(subscription, subscriptions), territory, map(succession, successions)
    )


# --- items of the store -------------------------------------------------------------------------------


def items(
    procedures: Iterable[ProcedureIn],
    subscriptions: Iterable[SubscriptionIn],
    successions: Iterable[SuccessionIn],
    territory: tuple[str, bytes],
) -> dict[ItemKey, Item]:
    """A whole rule book as the store keeps it; `territory` is a vintage and its dataset. Raises RuleBookError
    when two differ that have one key."""
    found: dict[ItemKey, Item] = {}
    for one in procedures:
        _put(found, ItemKind.PROCEDURE, one.procedure, canonical(_ordered(one)), (one.procedure,))
    for wish in subscriptions:
        key = f"{wish.procedure}/{wish.place}/{wish.subscriber}"
        _put(found, ItemKind.SUBSCRIPTION, key, canonical(told(wish)), ("subscriptions", key))
    for following in successions:
        content = told(following)
        former = content.pop("former")
        _put(found, ItemKind.SUCCESSION, former, canonical(content), ("successions", former))
    vintage, dataset = territory
    _put(found, ItemKind.TERRITORY, vintage, dataset, ())
    return found


def _put(
    found: dict[ItemKey, Item], kind: ItemKind, key: str, content: bytes, where: tuple[str, ...]
) -> None:
    item = Item(kind, key, content)
    if found.setdefault((kind, key), item) != item:
        raise RuleBookError(f"{kind} {key} stands twice, differently", where)


_SETS = frozenset(
    {
        "attachment_types",
        "attachments",
        "communes",
        "forbidden",
        "values",
        "in",
        "not_in",
        "transfers",
        "rules",
    }
)
"""Lists whose order means nothing."""


def _ordered(procedure: ProcedureIn) -> Any:
    return _sorted(told(procedure))


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {
                name: sorted(_sorted(inner), key=canonical)
                if name in _SETS and isinstance(inner, list)
                else _sorted(inner)
                for name, inner in value.items()
            }
        case list():
            return [_sorted(inner) for inner in value]
        case _:
            return value


def difference(old: Items, new: Items) -> Change:
    """What turns `old` into `new`, in one order."""
    return Change(
        tuple(new[key] for key in sorted(new) if old.get(key) != new[key]),
        tuple(sorted(key for key in old if key not in new)),
    )


def applied(old: Items, change: Change) -> dict[ItemKey, Item]:
    """What `old` becomes by this change; what it drops need not be there."""
    found = dict(old)
    for key in change.dropped:
        found.pop(key, None)
    for item in change.put:
        found[item.kind, item.key] = item
    return found


# --- from items to a rule book ------------------------------------------------------------------------


def read_change(book: RuleBook | None, change: Change, territory: Callable[[bytes], Territory]) -> RuleBook:
    """The rule book that `book` (None: nothing at all) becomes by this change. What does not change stays
    the same object. Raises RuleBookError; `book` is as it was."""
    procedures: dict[str, Procedure] = {} if book is None else dict(book.procedures)
    subscriptions: dict[str, Subscription] = {} if book is None else dict(book.subscriptions)
    successions: dict[str, Succession] = (
        {} if book is None else {str(former): one for former, one in book.successions.items()}
    )
    ground = None if book is None else book.territory
    for kind, key in change.dropped:
        match kind:
            case ItemKind.PROCEDURE:
                procedures.pop(key, None)
            case ItemKind.SUBSCRIPTION:
                subscriptions.pop(key, None)
            case ItemKind.SUCCESSION:
                successions.pop(key, None)
            case ItemKind.TERRITORY:
                ground = None
    for item in change.put:
        match item.kind:
            case ItemKind.PROCEDURE:
                _keep(procedures, item.key, procedure(_read(ProcedureIn, item)))
            case ItemKind.SUBSCRIPTION:
                _keep(subscriptions, item.key, subscription(_read(SubscriptionIn, item)))
            case ItemKind.SUCCESSION:
                _keep(successions, item.key, succession(_read(SuccessionIn, item, former=item.key)))
            case ItemKind.TERRITORY:
                ground = territory(item.content)
    if ground is None:
        raise RuleBookError("this edition of the rule book has no territory")
    return RuleBook.build(
        procedures.values(), subscriptions.values(), ground, successions.values(), like=book
    )


_Kept = TypeVar("_Kept", Procedure, Subscription, Succession)


def _keep(there: dict[str, _Kept], key: str, new: _Kept) -> None:
    if there.get(key) != new:
        there[key] = new


def _read(model: type[Model], item: Item, **more: str) -> Model:
    try:
        if more:
            return model.model_validate_json(json.dumps(json.loads(item.content) | more))
        return model.model_validate_json(item.content)
    except (ValidationError, ValueError, TypeError):
        raise RuleBookError(f"{item.kind} {item.key}: what the store holds of it cannot be read") from None


# --- from files to values -----------------------------------------------------------------------------


def procedure(told: ProcedureIn) -> Procedure:
    """Raises RuleBookError: a SIRET cannot be true."""
    return Procedure(
        intern(told.procedure),
        told.title,
        {
            name: FactSpec(name, FactType(fact.type), fact.required, tuple(fact.values))
            for name, fact in told.facts.items()
        },
        tuple(_rule(rule, told) for rule in told.rules),
        None if told.attachment_types is None else tuple(told.attachment_types),
        tuple(_transfer(transfer) for transfer in told.transfers),
        _case_moves(told.statuses),
    )


def _case_moves(told: StatusesIn | None) -> CaseMoves:
    if told is None:
        return USUAL
    moves = USUAL_MOVES
    if told.moves is not None:
        moves = {
            CaseStatus(status): tuple(map(CaseStatus, following)) for status, following in told.moves.items()
        }
    return CaseMoves(without(moves, map(CaseStatus, told.forbidden)), timedelta(seconds=told.undo))


def _rule(told: RuleIn, of: ProcedureIn) -> Rule:
    return Rule(
        told.id,
        told.recipient,
        _recipient(told, of),
        None if told.attachments is None else tuple(told.attachments),
        None if told.when is None else _condition(told.when, of),
        period(told.since, told.until),
        told.priority,
        told.otherwise,
    )


def _recipient(told: RuleIn, of: ProcedureIn) -> Competent | Named | Everyone:
    if told.competent is not None:
        return Competent(told.competent.place, tuple(Level(level) for level in told.competent.levels))
    if told.everyone:
        return Everyone()
    field = "partner" if told.partner is not None else "mailbox"
    number = told.partner or told.mailbox
    assert number is not None  # the model has exactly one of the four
    if not is_siret(number[:14]):
        raise RuleBookError(
            f"{of.procedure}, rule {told.id}: the check sum of its {field}'s SIRET is wrong; look for a "
            "mistyped digit",
            (of.procedure, "rules", told.id, field),
        )
    return Named(Subscriber.parse(number), mailbox=told.mailbox is not None)


def _condition(told: ConditionIn, of: ProcedureIn) -> Condition:
    if told.fact is None:
        inner = tuple(_condition(one, of) for one in told.inner())
        if told.all is not None:
            return All(inner)
        return AnyOf(inner) if told.any is not None else Not(inner[0])
    if told.equals is not None:
        return Equals(told.fact, told.equals)
    if told.in_ is not None:
        return In(told.fact, frozenset(told.in_))
    if told.not_in is not None:
        return NotIn(told.fact, frozenset(told.not_in))
    if told.prefix is not None:
        return Prefix(told.fact, told.prefix)
    if told.range is not None:
        return Range(told.fact, _bound(told.range.from_), _bound(told.range.to))
    return Exists(told.fact, told.exists is not False)


def _bound(told: str | None) -> Decimal | str | None:
    """A date has two hyphens inside; a number none."""
    if told is None or "-" in told[1:]:
        return told
    return Decimal(told)


def _transfer(told: TransferIn) -> Transfer:
    communes = None if told.communes is None else frozenset(told.communes)
    return Transfer(told.epci, communes, period(told.since, told.until))


def subscription(told: SubscriptionIn) -> Subscription:
    """Raises RuleBookError: its SIRET cannot be true, or its place is of no known type."""
    where = ("subscriptions", f"{told.procedure}/{told.place}/{told.subscriber}")
    try:
        place = Place.parse(told.place)
    except ValueError:
        words = ", ".join(PlaceType)
        raise RuleBookError(
            f"subscription {where[1]}: a place is a type and a code, as commune:74042; the types are: {words}",
            where,
        ) from None
    return Subscription(
        intern(told.procedure),
        _subscriber(told.subscriber, f"subscription {where[1]}", where),
        place,
        SubscriptionState(told.state),
        period(told.since, told.until),
    )


def subscription_in(subscription: Subscription) -> SubscriptionIn:
    """The inverse."""
    return SubscriptionIn(
        procedure=subscription.procedure,
        subscriber=str(subscription.subscriber),
        place=str(subscription.place),
        state=subscription.state.value,
        since=_first_day(subscription.period.since),
        until=_last_day(subscription.period.until),
    )


def succession(told: SuccessionIn) -> Succession:
    """Raises RuleBookError: a SIRET cannot be true."""
    label, where = f"succession of {told.former}", ("successions", told.former)
    return Succession(
        _subscriber(told.former, label, where),
        _subscriber(told.subscriber, label, where),
        period(told.since, None).since,
    )


def succession_in(succession: Succession) -> SuccessionIn:
    """The inverse."""
    return SuccessionIn(
        former=str(succession.former),
        subscriber=str(succession.subscriber),
        since=_first_day(succession.since),
    )


def _subscriber(number: str, label: str, where: tuple[str, ...]) -> Subscriber:
    if not is_siret(number[:14]):
        raise RuleBookError(f"{label}: the check sum of a SIRET is wrong; look for a mistyped digit", where)
    return Subscriber.parse(number)


# --- days ---------------------------------------------------------------------------------------------


def midnight(day: date) -> datetime:
    """When this day begins in France."""
    return datetime.combine(day, time(), _FRANCE).astimezone(UTC)


def period(since: date | None, until: date | None) -> Period:
    """From the first day to the last one, included; None: no end on that side."""
    if since is None and until is None:
        return ALWAYS
    return Period(
        ALWAYS.since if since is None else midnight(since),
        ALWAYS.until if until is None else midnight(until + timedelta(days=1)),
    )


def _first_day(since: datetime) -> date | None:
    return None if since == ALWAYS.since else since.astimezone(_FRANCE).date()


def _last_day(until: datetime) -> date | None:
    return None if until == ALWAYS.until else until.astimezone(_FRANCE).date() - timedelta(days=1)
