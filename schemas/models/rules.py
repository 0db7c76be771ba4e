"""A procedure's rule file (`routing_rules/<code>.yaml`), its cases, and the rule book as it is published.

Their JSON Schemas are in `schemas/json`, for editors.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.models.submission import Code, FactName
from schemas.models.wire import WireModel

SubscriberNumber = Annotated[str, StringConstraints(pattern=r"^[0-9]{14}-[0-9A-Za-z]{1,10}$")]
PlaceCode = Annotated[str, StringConstraints(min_length=1, max_length=20)]
Level = Literal["arrondissement", "commune", "epci", "departement", "region"]
RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,59}$")]


class FactIn(WireModel):
    type: Literal["place", "siret", "word"]
    required: bool = False
    values: list[str] = Field(default_factory=list, description="The words allowed, for a word.")


class CompetentIn(WireModel):
    """Whoever subscribes for the place a fact names, at the first level where anybody does."""

    place: FactName
    levels: Annotated[list[Level], Field(min_length=1)]


class RuleIn(WireModel):
    id: RuleId
    recipient: Code = Field(description="The kind of recipient found, a word senders may limit files to.")
    competent: CompetentIn | None = None
    partner: SubscriberNumber | None = None
    attachments: list[Code] | None = Field(default=None, description="Types given; absent: all.")


class ProcedureIn(WireModel):
    procedure: Code
    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    facts: dict[FactName, FactIn]
    attachment_types: list[Code] | None = None
    rules: Annotated[list[RuleIn], Field(min_length=1, max_length=1000)]


class SubscriptionIn(WireModel):
    procedure: Code
    subscriber: SubscriberNumber
    place: Annotated[str, StringConstraints(pattern=r"^[a-z_]+:[0-9A-Za-z]{1,20}$")]


class ExpectedIn(WireModel):
    subscriber: SubscriberNumber
    attachments: list[int] = Field(default_factory=list)


class CaseFileIn(WireModel):
    number: int
    type: Code
    recipients: list[Code] | None = None


class CaseIn(WireModel):
    """A submission, and who must get it. `unroutable`: nobody."""

    says: Annotated[str, StringConstraints(min_length=10, max_length=300)]
    facts: dict[FactName, str]
    files: list[CaseFileIn] = Field(default_factory=list)
    expect: list[ExpectedIn] | Literal["unroutable"]


class CasesIn(WireModel):
    """`subscriptions`: who subscribes in this little world; beside the rules, and checked with them."""

    subscriptions: list[SubscriptionIn]
    cases: Annotated[list[CaseIn], Field(min_length=1)]


class RuleBookFile(WireModel):
    """A whole rule book: what the store keeps of an edition."""

    territory: str
    procedures: list[ProcedureIn]
    subscriptions: list[SubscriptionIn]
