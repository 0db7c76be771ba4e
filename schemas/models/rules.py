"""A procedure's rule file (`routing_rules/<code>.yaml`), the cases beside it, and what partners wish for: the
shapes and what is right or wrong within one of them.

Whether names meet (a rule and its fact, a code and its territory) is the domain's business; reading files is
an adapter's. An error type of our own has a dot in it, and its message never quotes what was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from schemas.models.submission import Code, FactName
from schemas.models.wire import WireModel

DEEPEST_CONDITION = 8
MOST_TESTS = 100
FIRST_YEAR, LAST_YEAR = 1900, 2199
"""A year outside is a typing error; and instants far away overflow when they change their time zone."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
NUMBER = r"-?[0-9]{1,15}(\.[0-9]{1,6})?"
_BOUND = re.compile(rf"{NUMBER}|{_DAY.pattern}", re.ASCII)


def _day(told: object) -> date:
    """Only `2026-01-31`: the other ways of ISO 8601, and seconds since 1970, are typing errors here."""
    if isinstance(told, date):
        return told
    if not isinstance(told, str) or not _DAY.fullmatch(told):
        raise PydanticCustomError("date.form", "a date is written year-month-day, as 2026-01-31")
    try:
        day = date.fromisoformat(told)
    except ValueError:
        raise PydanticCustomError("date.calendar", "there is no such day in the calendar") from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise PydanticCustomError("date.year", f"the year must be between {FIRST_YEAR} and {LAST_YEAR}")
    return day


def _text(told: object) -> object:
    """A number written without quotes is meant as it stands."""
    return str(told) if type(told) is int else told


def _bound(told: object) -> object:
    told = _text(told)
    if not isinstance(told, str) or not _BOUND.fullmatch(told):
        raise PydanticCustomError(
            "range.bound", "a bound is a number, as 18 or -2.5, or a date, as 2026-01-31"
        )
    if _DAY.fullmatch(told):
        _day(told)
    return told


_WRITTEN = {"anyOf": [{"type": "string"}, {"type": "number"}]}
SubscriberNumber = Annotated[str, StringConstraints(pattern=r"^[0-9]{14}-[0-9A-Za-z]{1,10}$")]
PlaceCode = Annotated[
    str, BeforeValidator(_text), StringConstraints(pattern=r"^[0-9A-Za-z]{2,10}$"), WithJsonSchema(_WRITTEN)
]
PlaceText = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,30}:[0-9A-Za-z]{1,20}$")]
RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,59}$")]
Day = Annotated[date, BeforeValidator(_day)]
Value = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$"),
    WithJsonSchema(_WRITTEN),
]
Bound = Annotated[str, BeforeValidator(_bound), WithJsonSchema(_WRITTEN)]
Values = Annotated[list[Value], Field(min_length=1, max_length=5000)]
Level = Literal[
    "arrondissement",
    "arrondissements",
    "commune_deleguee",
    "commune_associee",
    "commune",
    "epci",
    "departement",
    "region",
    "national",
    "abroad",
]
State = Literal["inactive", "active", "suspended", "refused"]
CaseWord = Literal[
    "HUBEE_NOTIFIED",
    "SENT",
    "SI_RECEIVED",
    "IN_PROGRESS",
    "ADD_AWAITING",
    "REFUSED",
    "DONE",
    "SI_INTG_ERROR",
]
"""How far a partner is, in the words of the State's hub; the first is that of a case of which nothing was said."""
ReportedWord = Literal[
    "SENT", "SI_RECEIVED", "IN_PROGRESS", "ADD_AWAITING", "REFUSED", "DONE", "SI_INTG_ERROR"
]
"""Those that a partner reports."""


# --- a procedure --------------------------------------------------------------------------------------


class FactIn(WireModel):
    """Something the sender says of each submission, by which it is routed. Never personal."""

    type: Literal["place", "siret", "word", "number", "date"] = Field(
        description="place: a commune or country by its official code; siret: an establishment; word: a "
        "short word; number; date: as 2026-01-31."
    )
    required: bool = Field(default=False, description="Whether a submission without it is refused.")
    values: Annotated[list[Value], Field(max_length=5000)] = Field(
        default_factory=list, description="For a word: the only words allowed. Absent: any word."
    )

    @model_validator(mode="after")
    def _values_are_words(self) -> Self:
        if self.values and self.type != "word":
            raise PydanticCustomError("fact.values", "only a fact of type word may list its values")
        return self


class RangeIn(WireModel):
    """Between two bounds, both included: numbers, or dates."""

    from_: Bound | None = Field(default=None, alias="from", description="The least; absent: no bound.")
    to: Bound | None = Field(default=None, description="The most; absent: no bound.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.from_ is None and self.to is None:
            raise PydanticCustomError("range.empty", "a range says `from`, or `to`, or both")
        return self


class ConditionIn(WireModel):
    """A test on one fact, or several conditions put together. A test on a fact that the submission does not
    say does not hold, whatever it asks; use `exists` for that."""

    fact: FactName | None = Field(default=None, description="The fact to look at, with exactly one test.")
    equals: Value | None = Field(default=None, description="It is this.")
    in_: Values | None = Field(default=None, alias="in", description="It is one of these.")
    not_in: Values | None = Field(default=None, description="It is said, and is none of these.")
    prefix: Value | None = Field(default=None, description="It begins with this.")
    range: RangeIn | None = Field(default=None, description="It lies between these, both included.")
    exists: bool | None = Field(default=None, description="true: it is said; false: it is not.")
    all: Annotated[list[ConditionIn], Field(min_length=1, max_length=MOST_TESTS)] | None = Field(
        default=None, description="Every one of these holds."
    )
    any: Annotated[list[ConditionIn], Field(min_length=1, max_length=MOST_TESTS)] | None = Field(
        default=None, description="At least one of these holds."
    )
    not_: ConditionIn | None = Field(default=None, alias="not", description="This does not hold.")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        tests = sum(
            told is not None
            for told in (self.equals, self.in_, self.not_in, self.prefix, self.range, self.exists)
        )
        groups = sum(told is not None for told in (self.all, self.any, self.not_))
        if self.fact is not None and groups == 0 and tests == 1:
            return self
        if self.fact is None and tests == 0 and groups == 1:
            return self
        if self.fact is None and tests:
            raise PydanticCustomError("condition.fact", "this test does not say of which `fact`")
        if self.fact is not None and not tests and not groups:
            raise PydanticCustomError(
                "condition.test",
                "a fact needs one test: `equals`, `in`, `not_in`, `prefix`, `range` or `exists`",
            )
        raise PydanticCustomError(
            "condition.one",
            "a condition is one test of one fact, or one of `all`, `any`, `not`; put several into `all`",
        )

    def inner(self) -> list[ConditionIn]:
        """The conditions that this one puts together."""
        return [*(self.all or ()), *(self.any or ()), *(() if self.not_ is None else (self.not_,))]


class CompetentIn(WireModel):
    """Whoever subscribes for the place a fact names, at the first level where anybody does."""

    place: FactName = Field(description="The fact that names the place.")
    levels: Annotated[list[Level], Field(min_length=1, max_length=20)] = Field(
        description="Where to look, in this order; the first level where somebody subscribes is the last."
    )


class RuleIn(WireModel):
    """Who gets the submissions: exactly one of `competent`, `partner`, `mailbox` and `everyone`."""

    id: RuleId = Field(description="Its name in this file, as mairie-de-residence; it stands in decisions.")
    recipient: Code = Field(
        description="The kind of recipient found, a word senders may limit files to. Rules of one kind "
        "compete by their priority."
    )
    competent: CompetentIn | None = None
    partner: SubscriberNumber | None = Field(default=None, description="This partner: SIRET-branch.")
    mailbox: SubscriberNumber | None = Field(
        default=None, description="This partner, always by its mailbox: SIRET-branch."
    )
    everyone: Literal[True] | None = Field(default=None, description="Every subscriber of the procedure.")
    attachments: Annotated[list[Code], Field(max_length=500)] | None = Field(
        default=None, description="Types of files given; absent: all; []: none."
    )
    when: ConditionIn | None = Field(default=None, description="It applies only if this holds.")
    since: Day | None = Field(default=None, description="The first day it applies, French time.")
    until: Day | None = Field(default=None, description="The last day it applies, included.")
    priority: Annotated[int, Field(ge=-1000, le=1000)] = Field(
        default=0, description="Of the rules of one recipient that apply, the highest decide."
    )
    otherwise: RuleId | None = Field(
        default=None,
        description="If it finds nobody: the id of the rule that then acts (and acts only then), or "
        "quarantine: a person must look.",
    )

    @model_validator(mode="after")
    def _names_one_recipient(self) -> Self:
        if sum(told is not None for told in (self.competent, self.partner, self.mailbox, self.everyone)) != 1:
            raise PydanticCustomError(
                "rule.recipient",
                "exactly one of `competent`, `partner`, `mailbox` and `everyone` says for whom the rule is",
            )
        return self

    @model_validator(mode="after")
    def _asks_little_enough(self) -> Self:
        if self.when is not None:
            tests = 0
            for condition, depth in _within(self.when):
                tests += condition.fact is not None
                if depth > DEEPEST_CONDITION:
                    raise PydanticCustomError(
                        "condition.depth",
                        f"its condition is nested more than {DEEPEST_CONDITION} deep; make two rules of it",
                    )
            if tests > MOST_TESTS:
                raise PydanticCustomError(
                    "condition.tests", f"its condition has more than {MOST_TESTS} tests; make two rules of it"
                )
        return self


def _within(condition: ConditionIn) -> Iterator[tuple[ConditionIn, int]]:
    waiting = [(condition, 1)]
    while waiting:
        one, depth = waiting.pop()
        yield one, depth
        waiting.extend((inner, depth + 1) for inner in one.inner())


class TransferIn(WireModel):
    """Communes that handed this procedure's competence to their EPCI. There the EPCI counts, and the commune
    does not; where nothing is transferred, the other way round."""

    epci: Annotated[
        str, BeforeValidator(_text), StringConstraints(pattern=r"^[0-9]{9}$"), WithJsonSchema(_WRITTEN)
    ] = Field(description="The SIREN of the EPCI.")
    communes: Annotated[list[PlaceCode], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="The member communes that transferred it; absent: all of them."
    )
    since: Day | None = Field(default=None, description="The first day, French time.")
    until: Day | None = Field(default=None, description="The last day, included.")


class StatusesIn(WireModel):
    """What partners may report of how far they are: the usual moves, fewer, or others."""

    forbidden: Annotated[list[ReportedWord], Field(max_length=20)] = Field(
        default_factory=list, description="Statuses that this procedure does not have."
    )
    moves: dict[CaseWord, Annotated[list[ReportedWord], Field(max_length=20)]] | None = Field(
        default=None,
        description="Which statuses may follow each one, in place of the usual table; what is not named has none.",
    )
    undo: Annotated[int, Field(ge=0, le=30 * 86_400)] = Field(
        default=600, description="For how many seconds a partner may take its last status back."
    )

    @model_validator(mode="after")
    def _moves_somewhere(self) -> Self:
        for status, following in (self.moves or {}).items():
            if status in following:
                raise PydanticCustomError("statuses.itself", "a status does not follow itself")
            if set(self.forbidden) & {status, *following}:
                raise PydanticCustomError(
                    "statuses.forbidden", "a status that is forbidden has no place among the moves"
                )
        return self


class ProcedureIn(WireModel):
    """A procedure (démarche): what is known of a submission, and who gets it."""

    procedure: Code = Field(description="Its code, which is the name of the file too.")
    title: Annotated[
        str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")
    ]
    facts: Annotated[dict[FactName, FactIn], Field(max_length=50)] = Field(
        description="What the sender says of each submission, by name."
    )
    attachment_types: Annotated[list[Code], Field(max_length=500)] | None = Field(
        default=None, description="The types of files it knows; absent: any."
    )
    transfers: Annotated[list[TransferIn], Field(max_length=5000)] = Field(
        default_factory=list,
        description="Which EPCI are competent, and for which communes. Absent: an EPCI's subscription is "
        "taken for its word.",
    )
    statuses: StatusesIn | None = Field(
        default=None, description="What partners may report of it. Absent: the usual moves."
    )
    rules: Annotated[list[RuleIn], Field(min_length=1, max_length=100_000)]


# --- who wishes for what ------------------------------------------------------------------------------


class SubscriptionIn(WireModel):
    """A partner's standing wish to get a procedure's submissions for a place."""

    procedure: Code
    subscriber: SubscriberNumber = Field(description="SIRET-branch.")
    place: PlaceText = Field(description="type:code, as commune:74042.")
    state: State = Field(default="active", description="Only an active subscription receives.")
    since: Day | None = Field(default=None, description="The first day, French time.")
    until: Day | None = Field(default=None, description="The last day, included.")


class SuccessionIn(WireModel):
    """A partner that takes the place of another."""

    former: SubscriberNumber
    subscriber: SubscriberNumber
    since: Day | None = Field(default=None, description="The first day; absent: ever.")


# --- cases --------------------------------------------------------------------------------------------


class ExpectedIn(WireModel):
    subscriber: SubscriberNumber
    attachments: list[int] = Field(default_factory=list, description="The numbers of the files it gets.")


class CaseFileIn(WireModel):
    number: int
    type: Code
    recipients: list[Code] | None = Field(
        default=None, description="Kinds of recipients the sender limits it to."
    )


class CaseIn(WireModel):
    """A submission, and who must get it. `unroutable`: nobody; `quarantine`: a person must look at it."""

    says: Annotated[
        str, StringConstraints(min_length=10, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")
    ] = Field(description="What must be true, in a sentence.")
    at: Day | None = Field(default=None, description="The day it is received; absent: 2026-01-01.")
    facts: dict[FactName, Value]
    files: list[CaseFileIn] = Field(default_factory=list)
    expect: list[ExpectedIn] | Literal["unroutable", "quarantine"]


class CasesIn(WireModel):
    """`subscriptions`: who subscribes in this little world; beside the rules, and checked with them."""

    subscriptions: Annotated[list[SubscriptionIn], Field(max_length=100_000)]
    successions: Annotated[list[SuccessionIn], Field(max_length=100_000)] = Field(default_factory=list)
    cases: Annotated[list[CaseIn], Field(min_length=1, max_length=10_000)]


def told(model: WireModel) -> dict[str, Any]:
    """The model as plain JSON values under the names of the files, without what is left at its default: so
    what a later version may add does not change what stands today."""
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
