"""What the readers of every form share: gathering what they list and what they refuse, and reading a field.

Business of this file: from a text in a field to a value, or a sentence that says what is expected there and
never what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from hub.adapters.rules.documents import is_word
from hub.domain.identity import Subscriber
from hub.domain.partner import is_siret
from hub.domain.rules import SubscriptionState
from hub.domain.territory import Place
from hub.services.listings import ListedPartner, ListedSuccession, Listing, Remark
from hub.wire import flaws_of
from hub.wire.rule_book import period
from schemas.models.rules import SubscriberNumber

Model = TypeVar("Model", bound=BaseModel)
Value = TypeVar("Value")


class Unreadable(Exception):
    """This line, or this part of it, cannot be used."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field}: {sentence}")
        self.field = field
        self.sentence = sentence


@dataclass(slots=True)
class Gathering:
    """A listing while its lines come in."""

    partners: list[ListedPartner] = field(default_factory=list)
    successions: list[ListedSuccession] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)

    def refuse(self, where: str, why: Unreadable) -> None:
        self.refused.append(Remark(where, why.field, why.sentence))

    def listing(
        self, state: SubscriptionState = SubscriptionState.ACTIVE, words: Mapping[str, str] | None = None
    ) -> Listing:
        return Listing(
            tuple(self.partners),
            tuple(self.successions),
            tuple(self.refused),
            tuple(self.notes),
            state,
            {} if words is None else words,
        )


def modelled(model: type[Model], told: object) -> Model:
    """Raises Unreadable for its first flaw."""
    try:
        return model.model_validate(told)
    except ValidationError as error:
        flaw = flaws_of(error)[0]
        # A name that is unknown was written by somebody: it may be a secret in the wrong place.
        parts = flaw.field.split("/")[1:]
        known = [part if part.isdigit() or is_word(part) else "…" for part in parts]
        spaced = "; write a space after each colon" if "…" in known else ""
        raise Unreadable("/".join(known), flaw.detail + spaced) from None


def fitting(adapter: TypeAdapter[Value], told: object, field: str, sentence: str | None = None) -> Value:
    """A single value; `sentence`: what is expected, where its type's own words say too little. Raises
    Unreadable."""
    try:
        return adapter.validate_python(told)
    except ValidationError as error:
        raise Unreadable(field, sentence or flaws_of(error)[0].detail) from None


_NUMBER: TypeAdapter[str] = TypeAdapter(SubscriberNumber)


def subscriber(number: str, field: str) -> Subscriber:
    """From SIRET-branch. Raises Unreadable."""
    fitting(_NUMBER, number, field, "14 digits (SIRET), and 1 to 10 letters or digits for the counter")
    if not is_siret(number[:14]):
        raise Unreadable(field, "the check sum of this SIRET is wrong; look for a mistyped digit")
    return Subscriber.parse(number)


@dataclass(slots=True)
class Places:
    """Thousands of lines name the same places: one object for each."""

    _found: dict[str, Place] = field(default_factory=dict)

    def read(self, told: str, field: str) -> Place:
        """Raises Unreadable."""
        place = self._found.get(told)
        if place is None:
            try:
                place = self._found[told] = Place.parse(told)
            except ValueError:
                raise Unreadable(field, "a place is its type and its code, as commune:74042") from None
        return place


def first_instant(day: date | None) -> datetime:
    """None: no bound."""
    return period(day, None).since


def last_instant(day: date | None) -> datetime:
    """The end of a last day that is included. None: no bound."""
    return period(None, day).until
