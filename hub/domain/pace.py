"""A partner's pace: what it asks for about when and how fast it is served, and what the operator planned for it.

Pure: instants and durations are handed in. Business of this file: reading and writing that wish, and what it
means at an instant. Which wait follows a failure is told in `retry`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from hub.domain.errors import Flaw, Invalid

HERE = ZoneInfo("Europe/Paris")
"""Hours of the day are those of the partners' clocks."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WEEK = 7 * 24 * 60
_OPEN_AT_LEAST = 60
_LONGEST_WAIT = timedelta(days=31)
_MOST_WAITS = 100
_MOST_WINDOWS = 50
_MOST_PROCEDURES = 500
_HIGHEST_RATE = 100_000
_SHORTEST_FALLBACK, _LONGEST_FALLBACK = timedelta(minutes=1), timedelta(days=90)
_BURST = 10
_HOUR = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)

Waits = tuple[timedelta, ...]


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` on the clocks of Paris, on days that begin one of `days` (0: Monday); where `end`
    is not later than `begin`, until that hour of the day after."""

    begin: time
    end: time
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)


@dataclass(frozen=True, slots=True)
class ChannelFallback:
    """After this time of failing at its endpoint, a partner is served by its mailbox. `notice`: the settings
    of the mail channel by which it is told (None: it is told nothing)."""

    after: timedelta
    notice: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class PartnerPace:
    """What a partner asks for. `rate`: deliveries a minute at most. `waits`: retry waits of its own, those of
    a procedure in `waits_of`. `ordered`: procedures whose deliveries must arrive strictly in their order; with
    `ordered_closes` one that is parked closes the procedure, else it leaves the order."""

    rate: int | None = None
    quiet: tuple[QuietHours, ...] = ()
    waits: Waits | None = None
    waits_of: Mapping[str, Waits] = field(default_factory=lambda: MappingProxyType({}))
    ordered: frozenset[str] = frozenset()
    ordered_closes: bool = False
    fallback: ChannelFallback | None = None

    @property
    def is_own(self) -> bool:
        """Whether a lane is to be looked at before its rows are claimed."""
        return self.rate is not None or bool(self.quiet)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The partner's server is not to be called from `begin` on and before `end`, by an operator's order."""

    begin: datetime
    end: datetime
    reason: str


# --- what it means ------------------------------------------------------------------------------------


def opens_in(pace: PartnerPace | None, maintenance: Sequence[Maintenance], now: datetime) -> timedelta:
    """How long until the partner may be called (0: now). When clocks are put back or forward, never earlier
    than the hours asked for."""
    at = now.astimezone(UTC)
    closed = sorted(_closed(pace, maintenance, at))
    for begin, end in closed:
        if begin <= at < end:
            at = end
    # What begins after a week is looked at when that week is over.
    return at - now


def _closed(
    pace: PartnerPace | None, maintenance: Sequence[Maintenance], now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    for planned in maintenance:
        yield planned.begin.astimezone(UTC), planned.end.astimezone(UTC)
    if pace is None or not pace.quiet:
        return
    reach = max(
        [now, *(planned.end for planned in maintenance if planned.begin <= now + timedelta(days=400))]
    )
    first = now.astimezone(HERE).date() - timedelta(days=2)
    last = min(reach, now + timedelta(days=400)).astimezone(HERE).date() + timedelta(days=8)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        for hours in pace.quiet:
            if day.weekday() in hours.days:
                yield _span(hours, day)


def _span(hours: QuietHours, day: date) -> tuple[datetime, datetime]:
    """An hour that comes twice begins the first time and ends the second; one that does not come, likewise."""
    over = hours.end <= hours.begin
    ends = day + timedelta(days=1) if over else day
    return min(_readings(day, hours.begin)), max(_readings(ends, hours.end))


def _readings(day: date, hour: time) -> tuple[datetime, datetime]:
    told = datetime.combine(day, hour, HERE)
    return told.replace(fold=0).astimezone(UTC), told.replace(fold=1).astimezone(UTC)


def page_of(pace: PartnerPace | None, page: int) -> int:
    """How many deliveries to claim at once: with a rate, what it allows in ten seconds."""
    if pace is None or pace.rate is None:
        return page
    return max(1, min(page, pace.rate * _BURST // 60))


def rest_after(pace: PartnerPace | None, sent: int) -> timedelta:
    """How long a lane rests after so many attempts, so that its rate is kept."""
    if pace is None or pace.rate is None:
        return timedelta(0)
    return timedelta(minutes=sent) / pace.rate


def falls_back(pace: PartnerPace | None, failing: timedelta) -> bool:
    """Whether a lane that fails for so long is to be left for the partner's mailbox."""
    return pace is not None and pace.fallback is not None and failing >= pace.fallback.after


# --- reading ------------------------------------------------------------------------------------------


def read_pace(told: Mapping[str, object]) -> PartnerPace:
    """As `pace_to_json` writes it, and the partners file says it: rate, quiet_hours, retry, retry_of, ordered,
    ordered_closes, fallback. Raises Invalid; its flaws name the field and no value."""
    reading = _Reading([])
    known = {"rate", "quiet_hours", "retry", "retry_of", "ordered", "ordered_closes", "fallback"}
    reading.refuse_others("", told, known)
    waits = None if told.get("retry") is None else reading.waits("/retry", told["retry"])
    pace = PartnerPace(
        rate=None if told.get("rate") is None else reading.whole("/rate", told["rate"], 1, _HIGHEST_RATE),
        quiet=reading.quiet(told.get("quiet_hours")),
        waits=waits,
        waits_of=reading.waits_of(told.get("retry_of")),
        ordered=reading.ordered(told.get("ordered")),
        ordered_closes=reading.flag("/ordered_closes", told.get("ordered_closes")),
        fallback=reading.fallback(told.get("fallback")),
    )
    if reading.flaws:
        raise Invalid(*reading.flaws)
    return pace


@dataclass(slots=True)
class _Reading:
    flaws: list[Flaw]

    def wrong(self, field: str, detail: str) -> None:
        self.flaws.append(Flaw(field, "pace", detail))

    def refuse_others(self, field: str, told: Mapping[str, object], known: Iterable[str]) -> None:
        if set(told) - set(known):
            self.wrong(field or "/", f"it has no other names than {', '.join(sorted(known))}")

    def whole(self, field: str, told: object, least: int, most: int) -> int:
        if isinstance(told, bool) or not isinstance(told, int) or not least <= told <= most:
            self.wrong(field, f"a whole number from {least} to {most} is expected")
            return least
        return told

    def flag(self, field: str, told: object) -> bool:
        if told is not None and not isinstance(told, bool):
            self.wrong(field, "true or false is expected")
        return told is True

    def seconds(self, field: str, told: object, least: timedelta, most: timedelta) -> timedelta:
        bounds = least.total_seconds(), most.total_seconds()
        if isinstance(told, bool) or not isinstance(told, int | float) or not bounds[0] <= told <= bounds[1]:
            self.wrong(field, f"seconds from {bounds[0]:g} to {bounds[1]:g} are expected")
            return least
        return timedelta(seconds=told)

    def waits(self, field: str, told: object) -> Waits:
        if not isinstance(told, list | tuple) or len(told) > _MOST_WAITS:
            self.wrong(field, f"a list of at most {_MOST_WAITS} waits in seconds is expected")
            return ()
        return tuple(
            self.seconds(f"{field}/{number}", wait, timedelta(milliseconds=1), _LONGEST_WAIT)
            for number, wait in enumerate(told)
        )

    def waits_of(self, told: object) -> Mapping[str, Waits]:
        if told is None:
            return {}
        if not isinstance(told, Mapping) or len(told) > _MOST_PROCEDURES:
            self.wrong("/retry_of", "the waits of each procedure, by its code, are expected")
            return {}
        return {str(code): self.waits("/retry_of/…", waits) for code, waits in told.items()}

    def ordered(self, told: object) -> frozenset[str]:
        if told is None:
            return frozenset()
        if (
            not isinstance(told, list | tuple)
            or len(told) > _MOST_PROCEDURES
            or not all(isinstance(code, str) and 0 < len(code) <= 60 for code in told)
        ):
            self.wrong("/ordered", "a list of codes of procedures is expected")
            return frozenset()
        return frozenset(told)

    def fallback(self, told: object) -> ChannelFallback | None:
        if told is None:
            return None
        if not isinstance(told, Mapping):
            self.wrong("/fallback", "an object is expected")
            return None
        self.refuse_others("/fallback", told, {"after", "to", "notice"})
        if told.get("to", "mailbox") != "mailbox":
            self.wrong("/fallback/to", "the mailbox is the only channel to fall back to")
        notice = told.get("notice")
        if notice is not None and not isinstance(notice, Mapping):
            self.wrong("/fallback/notice", "the settings of the mail channel are expected")
            notice = None
        after = self.seconds("/fallback/after", told.get("after"), _SHORTEST_FALLBACK, _LONGEST_FALLBACK)
        return ChannelFallback(after, None if notice is None else dict(notice))

    def quiet(self, told: object) -> tuple[QuietHours, ...]:
        if told is None:
            return ()
        if not isinstance(told, list | tuple) or len(told) > _MOST_WINDOWS:
            self.wrong("/quiet_hours", f"a list of at most {_MOST_WINDOWS} is expected")
            return ()
        found = tuple(self._hours(f"/quiet_hours/{number}", one) for number, one in enumerate(told))
        if not self.flaws and not _leaves_an_hour(found):
            self.wrong("/quiet_hours", "they leave no hour of the week in a row to deliver in")
        return found

    def _hours(self, field: str, told: object) -> QuietHours:
        if not isinstance(told, Mapping):
            self.wrong(field, "an object is expected: from, until, perhaps days")
            return QuietHours(time(), time())
        self.refuse_others(field, told, {"from", "until", "days"})
        begin, end = (self._hour(f"{field}/{name}", told.get(name)) for name in ("from", "until"))
        return QuietHours(begin, end, self._days(f"{field}/days", told.get("days", DAYS)))

    def _hour(self, field: str, told: object) -> time:
        if not isinstance(told, str) or not _HOUR.fullmatch(told):
            self.wrong(field, 'an hour is written as "07:30"')
            return time()
        return time.fromisoformat(told)

    def _days(self, field: str, told: object) -> tuple[int, ...]:
        if not isinstance(told, list | tuple) or not told or not all(day in DAYS for day in told):
            self.wrong(field, f"days are {', '.join(DAYS)}")
            return ()
        return tuple(sorted({DAYS.index(day) for day in told}))


def _leaves_an_hour(quiet: Sequence[QuietHours]) -> bool:
    closed = [False] * _WEEK
    for hours in quiet:
        begin, end = (hour.hour * 60 + hour.minute for hour in (hours.begin, hours.end))
        length = end - begin if end > begin else end - begin + 24 * 60
        for day in hours.days:
            for minute in range(length):
                closed[(day * 24 * 60 + begin + minute) % _WEEK] = True
    # Round the end of the week: twice.
    longest = run = 0
    for shut in closed * 2:
        run = 0 if shut else run + 1
        longest = max(longest, run)
    return longest >= _OPEN_AT_LEAST


def read_maintenance(told: Iterable[Mapping[str, str]]) -> tuple[Maintenance, ...]:
    """As `maintenance_to_json` writes them."""
    return tuple(
        Maintenance(datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["until"]), one["reason"])
        for one in told
    )


# --- writing ------------------------------------------------------------------------------------------


def pace_to_json(pace: PartnerPace) -> dict[str, object]:
    """What `read_pace` reads, without what is not asked for; durations in seconds."""
    told: dict[str, object] = {}
    if pace.rate is not None:
        told["rate"] = pace.rate
    if pace.quiet:
        told["quiet_hours"] = [
            {
                "from": f"{hours.begin:%H:%M}",
                "until": f"{hours.end:%H:%M}",
                "days": [DAYS[day] for day in hours.days],
            }
            for hours in pace.quiet
        ]
    if pace.waits is not None:
        told["retry"] = _seconds(pace.waits)
    if pace.waits_of:
        told["retry_of"] = {code: _seconds(pace.waits_of[code]) for code in sorted(pace.waits_of)}
    if pace.ordered:
        told["ordered"] = sorted(pace.ordered)
    if pace.ordered_closes:
        told["ordered_closes"] = True
    if pace.fallback is not None:
        notice = {} if pace.fallback.notice is None else {"notice": dict(pace.fallback.notice)}
        told["fallback"] = {"after": _number(pace.fallback.after), "to": "mailbox", **notice}
    return told


def maintenance_to_json(windows: Iterable[Maintenance]) -> list[dict[str, str]]:
    return [
        {"from": one.begin.isoformat(), "until": one.end.isoformat(), "reason": one.reason} for one in windows
    ]


def _seconds(waits: Waits) -> list[int | float]:
    return [_number(wait) for wait in waits]


def _number(duration: timedelta) -> int | float:
    seconds = duration.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds
