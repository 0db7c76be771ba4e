"""What an import of partners would do: from what a file lists and what is known, without doing it. Pure.

Business of this file: comparing, and refusing line by line. What a file does not say of somebody who is known
stays as it is, and who is not in it stays too. A line that is refused is told with its place, its field and a
sentence, never with what stands there; nothing of it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from hub.domain.errors import MissingKey, Tampered, UnknownKey
from hub.domain.identity import Subscriber
from hub.domain.pace import PartnerPace
from hub.domain.partner import MAILBOX, Endpoint, Partner
from hub.domain.rule_book import RuleBook
from hub.domain.rules import Period, Subscription, Succession
from hub.domain.territory import Place, PlaceType, Territory
from hub.ports.partners import KeptPartner
from hub.services.listings import ListedPartner, ListedSubscription, ListedSuccession, Listing, Remark
from hub.services.partner_flaws import (
    SENT_ELSEWHERE,
    Checks,
    crowded,
    crowded_by,
    flaw_in_sender,
    flaws_in_pace,
    sent_elsewhere,
)

Element = TypeVar("Element")

# --- what is to be done -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartnerStep:
    """From a partner as it was `seen` (None: not there) to what it is to be. `same_secrets`: those stored
    stay as they lie there."""

    seen: KeptPartner | None
    partner: Partner
    same_secrets: bool


@dataclass(frozen=True, slots=True)
class Sorted(Generic[Element]):
    """What is new, what is to be otherwise than it is, and how many are as they stand."""

    added: tuple[Element, ...]
    changed: tuple[Element, ...]
    unchanged: int

    @property
    def all(self) -> tuple[Element, ...]:
        """What is to be written."""
        return self.added + self.changed


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """For edition `based_on` of the rule book, and the partners as they were seen with it."""

    listing: Listing
    based_on: int
    partners: Sorted[PartnerStep]
    subscriptions: Sorted[Subscription]
    successions: Sorted[Succession]
    refused: tuple[Remark, ...]
    notes: tuple[Remark, ...]

    @property
    def changes_nothing(self) -> bool:
        return not (self.partners.all or self.subscriptions.all or self.successions.all)


def plan_import(
    listing: Listing,
    based_on: int,
    book: RuleBook,
    known: Mapping[Subscriber, KeptPartner],
    opened: Callable[[KeptPartner], Partner],
    checks: Checks,
) -> ImportPlan:
    """`opened` gives a stored partner with its secrets, or raises MissingKey or Tampered."""
    planning = _Planning(listing, book, known, opened, checks)
    partners = planning.partners()
    subscriptions = planning.subscriptions()
    successions = planning.successions()
    return ImportPlan(
        listing,
        based_on,
        partners,
        subscriptions,
        successions,
        (*listing.refused, *planning.refused),
        (*listing.notes, *planning.notes),
    )


@dataclass(slots=True)
class _Planning:
    listing: Listing
    book: RuleBook
    known: Mapping[Subscriber, KeptPartner]
    opened: Callable[[KeptPartner], Partner]
    checks: Checks
    refused: list[Remark] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)
    lines: dict[Subscriber, list[ListedPartner]] = field(default_factory=dict)
    wishes: dict[Subscriber, list[tuple[ListedSubscription, Place]]] = field(default_factory=dict)
    """Those that are not refused for themselves, each with its place of today."""
    steps: dict[Subscriber, PartnerStep] = field(default_factory=dict)

    # --- partners ---

    def partners(self) -> Sorted[PartnerStep]:
        places = _Places(self.book.territory)
        for listed in self.listing.partners:
            self._take(listed, places)
        for subscriber, lines in self.lines.items():
            told = self._together(lines)
            step = None if told is None else self._step(told, self.known.get(subscriber))
            if step is not None:
                self.steps[subscriber] = step
        there = {subscriber: kept[0].endpoint for subscriber, kept in self.known.items()}
        while met := crowded({who: step.partner.endpoint for who, step in self.steps.items()}, there):
            # Whoever is refused stays where it was, and may be in somebody's way there.
            for subscriber, others in met.items():
                del self.steps[subscriber]
                self._refuse(self.lines[subscriber], "settings", crowded_by(others))
        have = {subscriber: kept[0].sender for subscriber, kept in self.known.items()}
        while refused := sent_elsewhere({who: step.partner.sender for who, step in self.steps.items()}, have):
            for subscriber in refused:
                del self.steps[subscriber]
                self._refuse(self.lines[subscriber], "sender", SENT_ELSEWHERE)
        return _sorted(
            self.steps.values(),
            lambda step: None if step.seen is None else _stays(step),
        )

    def _take(self, listed: ListedPartner, places: _Places) -> None:
        wishes = []
        for wish in listed.subscriptions:
            place = self._meant(listed.subscriber, wish, places)
            if place is not None:
                wishes.append((wish, place))
            elif listed.whole:
                return
        self.lines.setdefault(listed.subscriber, []).append(listed)
        self.wishes.setdefault(listed.subscriber, []).extend(wishes)

    def _together(self, lines: Sequence[ListedPartner]) -> ListedPartner | None:
        """What all lines of one partner say."""
        first = lines[0]
        if len(lines) == 1:
            return first
        found: dict[str, object] = {}
        for name in ("name", "channel", "settings", "secrets", "vendor", "sender", "pace"):
            told = [value for line in lines if (value := getattr(line, name)) is not None]
            if any(value != told[0] for value in told[1:]):
                self._refuse(lines, name, "the lines of this partner contradict each other")
                return None
            found[name] = told[0] if told else None
        return ListedPartner(first.where, first.subscriber, **found)  # type: ignore[arg-type]

    def _step(self, told: ListedPartner, seen: KeptPartner | None) -> PartnerStep | None:
        name = told.name if told.name is not None or seen is None else seen[0].name
        if name is None:
            self._refuse(self.lines[told.subscriber], "name", "a new partner needs a name")
            return None
        step = self._led_or_left(told, name, seen)
        if step is None:
            return None
        there = None if seen is None else seen[0]
        vendor = told.vendor if told.vendor is not None or there is None else there.vendor
        sender = told.sender if told.sender is not None or there is None else there.sender
        pace = told.pace if told.pace is not None or there is None else there.pace
        pace = None if pace == PartnerPace() else pace
        if not self._can_be(told, pace):
            return None
        partner = replace(step.partner, vendor=vendor or None, pace=pace, sender=sender or None)
        flaw = flaw_in_sender(partner)
        if flaw is not None:
            self._refuse(self.lines[told.subscriber], "sender", flaw)
            return None
        return replace(step, partner=partner)

    def _can_be(self, told: ListedPartner, pace: PartnerPace | None) -> bool:
        """Whether what it asks for can be."""
        faults = flaws_in_pace(None if told.pace is None else pace, self.checks, self.book.procedures.keys())
        for fault in faults:
            self._refuse(self.lines[told.subscriber], "delivery", fault)
        return not faults

    def _led_or_left(self, told: ListedPartner, name: str, seen: KeptPartner | None) -> PartnerStep | None:
        says_where = (told.channel, told.settings, told.secrets) != (None, None, None)
        if not says_where:
            endpoint = Endpoint(MAILBOX, {}) if seen is None else seen[0].endpoint
            return PartnerStep(seen, Partner(told.subscriber, name, endpoint), same_secrets=seen is not None)
        return self._led(told, name, seen)

    def _led(self, told: ListedPartner, name: str, seen: KeptPartner | None) -> PartnerStep | None:
        """For a line that says something of the endpoint."""
        there = Endpoint(MAILBOX, {}) if seen is None else seen[0].endpoint
        channel = there.channel if told.channel is None else told.channel
        if seen is not None and channel != there.channel and told.settings is None:
            self._note(
                told.where, "channel", f"it stays {there.channel}: say the settings of the new one too"
            )
            return PartnerStep(seen, Partner(told.subscriber, name, there), same_secrets=True)
        same_channel = seen is not None and channel == there.channel
        stored = self._secrets(seen) if seen is not None and same_channel else {}
        if stored is None and told.secrets is None:
            self._refuse(
                self.lines[told.subscriber], "secrets", "those that are stored do not open; say them again"
            )
            return None
        settings = told.settings if told.settings is not None else there.settings if same_channel else {}
        secrets = told.secrets if told.secrets is not None else stored or {}
        endpoint = Endpoint(channel, settings, secrets)
        same_secrets = same_channel and secrets == stored
        if not (same_secrets and settings == there.settings) and not self._fits(told.subscriber, endpoint):
            return None
        return PartnerStep(seen, Partner(told.subscriber, name, endpoint), same_secrets)

    def _secrets(self, seen: KeptPartner) -> Mapping[str, str] | None:
        """None: they do not open."""
        try:
            return self.opened(seen).endpoint.secrets
        except (MissingKey, Tampered, UnknownKey):
            return None

    def _fits(self, subscriber: Subscriber, endpoint: Endpoint) -> bool:
        check = self.checks.get(endpoint.channel)
        if check is None:
            words = ", ".join(sorted(self.checks))
            self._refuse(self.lines[subscriber], "channel", f"there is no such channel here; one of: {words}")
            return False
        faults = check(endpoint)
        for fault in faults:
            self._refuse(self.lines[subscriber][:1], "settings", fault)
        if faults:
            self._refuse(self.lines[subscriber][1:], "settings", "those of this partner are refused")
        return not faults

    # --- subscriptions ---

    def subscriptions(self) -> Sorted[Subscription]:
        wanted: list[Subscription] = []
        for subscriber in self.steps:
            same: dict[tuple[str, Place], list[ListedSubscription]] = {}
            for wish, place in self.wishes[subscriber]:
                same.setdefault((wish.procedure, place), []).append(wish)
            for (procedure, place), wishes in same.items():
                bare = Subscription(procedure, subscriber, place, self.listing.state)
                standing = self.book.subscriptions.get(bare.id)
                found = self._subscription(bare if standing is None else standing, wishes)
                wanted.extend(() if found is None else (found,))
        return _sorted(wanted, self._stands)

    def _stands(self, wanted: Subscription) -> bool | None:
        standing = self.book.subscriptions.get(wanted.id)
        return None if standing is None else standing == wanted

    def _meant(self, subscriber: Subscriber, wish: ListedSubscription, places: _Places) -> Place | None:
        """The place it is for; None: it is refused."""
        if wish.procedure not in self.book.procedures:
            self._refuse([wish], "procedure", "the rule book has no such procedure")
            return None
        place = places.meant(wish.place)
        if place is None:
            # It may stand there, dormant: a place can be no longer known.
            if Subscription(wish.procedure, subscriber, wish.place).id in self.book.subscriptions:
                return wish.place
            self._refuse([wish], "place", "there is no such place, and never was")
        elif place != wish.place:
            self._note(wish.where, "place", f"{wish.place} is {place} today")
        return place

    def _subscription(
        self, standing: Subscription, wishes: Sequence[ListedSubscription]
    ) -> Subscription | None:
        """What it is to be, from what stands there, or would stand there if nothing more were said."""
        told: dict[str, Any] = {"state": standing.state}
        told |= {"since": standing.period.since, "until": standing.period.until}
        for name in told:
            said = {value for wish in wishes if (value := getattr(wish, name)) is not None}
            if len(said) > 1:
                self._refuse(wishes, name, "the lines of this subscription contradict each other")
                return None
            told[name] = next(iter(said), told[name])
        if told["since"] >= told["until"]:
            self._refuse(wishes, "until", "it ends before it begins")
            return None
        period = Period(told["since"], told["until"])
        return replace(standing, state=told["state"], period=period)

    # --- successions ---

    def successions(self) -> Sorted[Succession]:
        wanted: dict[Subscriber, Succession] = {}
        refused: set[Subscriber] = set()
        for listed in self.listing.successions:
            told = listed.succession
            sentence = self._wrong_with(told, wanted.get(told.former))
            if sentence is not None:
                self._refuse([listed], "succession", sentence)
                refused.add(told.former)
            wanted.setdefault(told.former, told)
        return _sorted(
            (told for former, told in wanted.items() if former not in refused),
            lambda told: (
                None if (standing := self.book.successions.get(told.former)) is None else standing == told
            ),
        )

    def _wrong_with(self, told: Succession, earlier: Succession | None) -> str | None:
        if told.former == told.subscriber:
            return "nobody succeeds itself"
        if told.subscriber not in self.steps and told.subscriber not in self.known:
            return "the successor is no partner"
        if earlier is not None and earlier != told:
            return "another one of this file names another successor, or another day"
        return None

    # --- telling ---

    def _refuse(
        self,
        lines: Iterable[ListedPartner | ListedSubscription | ListedSuccession],
        field: str,
        sentence: str,
    ) -> None:
        word = self.listing.words.get(field, field)
        self.refused.extend(Remark(line.where, word, sentence) for line in lines)

    def _note(self, where: str, field: str, sentence: str) -> None:
        self.notes.append(Remark(where, self.listing.words.get(field, field), sentence))


def _stays(step: PartnerStep) -> bool:
    assert step.seen is not None
    there, endpoint = step.seen[0], step.partner.endpoint
    return (
        step.same_secrets
        and step.partner.name == there.name
        and step.partner.vendor == there.vendor
        and step.partner.sender == there.sender
        and step.partner.pace == there.pace
        and endpoint.channel == there.endpoint.channel
        and endpoint.settings == there.endpoint.settings
    )


def _sorted(wanted: Iterable[Element], stays: Callable[[Element], bool | None]) -> Sorted[Element]:
    """`stays`: whether it stands there as it is wanted; None: it does not stand there at all."""
    added, changed, unchanged = [], [], 0
    for one in wanted:
        found = stays(one)
        if found is None:
            added.append(one)
        elif found:
            unchanged += 1
        else:
            changed.append(one)
    return Sorted(tuple(added), tuple(changed), unchanged)


# --- places -------------------------------------------------------------------------------------------


class _Places:
    """What the places of a file mean today, each found once."""

    def __init__(self, territory: Territory) -> None:
        self._territory = territory
        self._found: dict[Place, Place | None] = {}

    def meant(self, told: Place) -> Place | None:
        if told not in self._found:
            self._found[told] = self._look(told)
        return self._found[told]

    def _look(self, told: Place) -> Place | None:
        if self._territory.knows(told):
            return told
        if told.type is not PlaceType.COMMUNE:
            return None
        # As a bare code, not as a commune: 75108 means that arrondissement, and not the whole of Paris.
        resolution = self._territory.read(told.code)
        return None if resolution is None else resolution.place
