"""The ledger read: what was kept, what the rows say, and where the two differ, id by id.

Business of this file: one snapshot for all that is read, few scans however much there is, and opening what differs.
It repairs nothing. What transactions count stands in `slips`; what differs is the domain's to say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.ledger_pages import opened
from hub.adapters.postgres.ledger_scans import (
    DAY,
    DELIVERIES,
    FURTHER,
    KEPT,
    SUBMISSIONS_THERE,
    VERDICTS,
    scan,
)
from hub.adapters.postgres.slips import fold
from hub.domain.identity import ParcelKind
from hub.domain.ledger import (
    DECIDED,
    NOTHING,
    STANDING,
    SUBMISSIONS,
    WHOLE,
    Book,
    Bucket,
    Scope,
    Tally,
    Term,
    differing,
    term,
    wrapped,
)
from hub.domain.lifecycle import State
from hub.ports.accounts import Accounts, DeliveryAccount, StandingAccount, SubmissionAccount

# Reading years of submissions takes longer than any other statement of the hub may.
PATIENCE = 900.0
_MOST_OPENED, _MOST_DAYS = 200, 31

_Sides = defaultdict[Bucket, dict[Term, Tally]]


class PostgresLedger:
    """Implements `hub.ports.accounts.Ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accounts(self, scope: Scope = WHOLE) -> Accounts:
        async def work(connection: Connection) -> Accounts:
            # One snapshot for all that follows: what is counted twice is the same twice.
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return await read_accounts(connection, scope)

        return await self._database.run(work)

    async def note(self, check: str, differences: int) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                """
                INSERT INTO ledger_check (scope, differences) VALUES ($1, $2)
                ON CONFLICT (scope) DO UPDATE SET at = clock_timestamp(), differences = excluded.differences
                """,
                check,
                differences,
            )

        await self._database.run(work)

    async def noted(self) -> Mapping[str, datetime]:
        async def work(connection: Connection) -> Mapping[str, datetime]:
            return {
                row["scope"]: row["at"]
                for row in await connection.fetch("SELECT scope, at FROM ledger_check")
            }

        return await self._database.once(work)

    async def fold(self, limit: int) -> int:
        return await self._database.run(lambda connection: fold(connection, limit))


async def read_accounts(connection: Connection, scope: Scope = WHOLE) -> Accounts:
    """In the caller's transaction, which sees one snapshot."""
    # To compile what is read once costs more than it gains.
    await connection.execute("SET LOCAL jit = off; SET LOCAL work_mem = '64MB'")
    there = await _there(connection, scope, DAY)
    kept = await _kept(connection, scope, DAY)
    suspects = differing(kept, there.book, _beside(there.book))
    # By the hour and by the partner, of the days that differ: the latest first.
    days = sorted({place.hour for place in suspects}, reverse=True)
    places = await _narrowed(connection, scope, days[:_MOST_DAYS]) if days else []
    differences = await opened(connection, places[:_MOST_OPENED]) if places else ()
    unopened = max(len(places) - _MOST_OPENED, 0) + len(
        [one for one in suspects if one.hour in days[_MOST_DAYS:]]
    )
    return Accounts(
        submissions=_submission_accounts(there.book),
        deliveries=_delivery_accounts(there.book),
        standing=tuple(there.standing),
        differences=tuple(differences),
        unopened=unopened,
        strays=await connection.fetchval(_STRAYS),
    )


_STRAYS = """
    SELECT count(*) FROM stray WHERE NOT EXISTS (SELECT FROM submission WHERE submission.id = stray.submission)
"""


def _beside(book: Book) -> set[str]:
    """Kinds that no decision names: news and notices are counted beside."""
    return {place.kind for place in book} - {SUBMISSIONS, ParcelKind.SUBMISSION}


# --- reading ------------------------------------------------------------------------------------------


class _There:
    """What the rows say, and where deliveries are now."""

    def __init__(self) -> None:
        self.book: _Sides = defaultdict(dict)
        self.standing: list[StandingAccount] = []


async def _there(connection: Connection, scope: Scope, hours: int, days: Sequence[int] = ()) -> _There:
    found = _There()
    values = (scope.procedure, scope.partner)
    rows = await connection.fetch(scan(DELIVERIES, scope, hours, days), *values, timeout=PATIENCE)
    _stand(found, rows)
    for row in chain(
        await connection.fetch(scan(VERDICTS, scope, hours, days), *values, timeout=PATIENCE),
        await connection.fetch(scan(FURTHER, scope, hours, days), *values, timeout=PATIENCE),
    ):
        if row["verdict"] is not None:
            _add(found.book, _whole(row), Term(row["verdict"]), _tally(row))
        if row["named"]:
            tally = Tally(row["named"], wrapped(int(row["named_sum"])))
            _add(found.book, _place(row, ParcelKind.SUBMISSION), Term.NAMED, tally)
    if scope.partner is not None:
        return _without_submissions(found)
    for row in await connection.fetch(scan(SUBMISSIONS_THERE, scope, hours, days), *values, timeout=PATIENCE):
        _add(found.book, _whole(row), Term.ACCEPTED, _tally(row))
    # What is accepted and has no decision: nobody need look for it row by row.
    for place, sides in found.book.items():
        if place.kind == SUBMISSIONS:
            left = sides.get(Term.ACCEPTED, NOTHING)
            for side in DECIDED:
                left = left.minus(sides.get(side, NOTHING))
            if left != NOTHING:
                sides[Term.UNDECIDED] = left
    return found


def _without_submissions(found: _There) -> _There:
    """The first equation knows no partners."""
    for place in [place for place in found.book if place.kind == SUBMISSIONS]:
        del found.book[place]
    return found


def _stand(found: _There, rows: Iterable[asyncpg.Record]) -> None:
    """Where deliveries stand, and with whom they are now."""
    now: Counter[tuple[str, str, str, str, Term]] = Counter()
    for row in rows:
        side = term(State(row["state"]), 1 + row["again"])
        _add(found.book, _place(row, row["kind"]), side, _tally(row))
        now[row["kind"], row["procedure"], row["subscriber"], row["channel"], side] += row["number"]
    by: defaultdict[tuple[str, str, str, str], dict[Term, int]] = defaultdict(dict)
    for (kind, procedure, subscriber, channel, side), number in now.items():
        by[kind, procedure, subscriber, channel][side] = number
    found.standing = [StandingAccount(*key, by[key]) for key in sorted(by)]


async def _kept(connection: Connection, scope: Scope, hours: int, days: Sequence[int] = ()) -> _Sides:
    """Of buckets and of the slips that are not added to them yet."""
    book: _Sides = defaultdict(dict)
    values = (scope.procedure, scope.partner)
    for row in await connection.fetch(scan(KEPT, scope, hours, days), *values, timeout=PATIENCE):
        if scope.partner is not None and row["kind"] == SUBMISSIONS:
            continue
        for side in Term:
            tally = Tally(int(row[f"{side}_number"] or 0), wrapped(int(row[f"{side}_sum"] or 0)))
            if tally != NOTHING:
                _add(book, _place(row, row["kind"]), side, tally)
    return book


def _tally(row: asyncpg.Record) -> Tally:
    return Tally(row["number"], wrapped(int(row["sum"])))


def _whole(row: asyncpg.Record) -> Bucket:
    return Bucket(row["hour"], row["procedure"], SUBMISSIONS)


def _place(row: asyncpg.Record, kind: str) -> Bucket:
    return Bucket(row["hour"], row["procedure"], kind, row["partner"])


def _add(book: _Sides, place: Bucket, side: Term, tally: Tally) -> None:
    book[place][side] = book[place].get(side, NOTHING).plus(tally)


async def _narrowed(
    connection: Connection, scope: Scope, days: Sequence[int]
) -> list[tuple[Bucket, Mapping[Term, Tally], Mapping[Term, Tally]]]:
    """The buckets of these days that differ, with what was kept of them and what is there."""
    there = (await _there(connection, scope, 1, days)).book
    kept = await _kept(connection, scope, 1, days)
    return [
        (place, kept.get(place, {}), there.get(place, {})) for place in differing(kept, there, _beside(there))
    ]


# --- the equations ------------------------------------------------------------------------------------


def _submission_accounts(book: Book) -> tuple[SubmissionAccount, ...]:
    sums: defaultdict[str, Counter[Term]] = defaultdict(Counter)
    for place, sides in book.items():
        if place.kind == SUBMISSIONS:
            sums[place.procedure].update({side: tally.number for side, tally in sides.items()})
    return tuple(
        SubmissionAccount(
            procedure,
            told[Term.ACCEPTED],
            told[Term.ROUTED],
            told[Term.UNROUTABLE],
            told[Term.SET_ASIDE],
            told[Term.UNDECIDED],
        )
        for procedure, told in sorted(sums.items())
    )


def _delivery_accounts(book: Book) -> tuple[DeliveryAccount, ...]:
    sums: defaultdict[tuple[str, str], Counter[Term]] = defaultdict(Counter)
    for place, sides in book.items():
        if place.kind != SUBMISSIONS:
            sums[place.kind, place.procedure].update({side: tally.number for side, tally in sides.items()})
    return tuple(
        DeliveryAccount(
            procedure, kind, told[Term.NAMED], {side: told[side] for side in STANDING if told[side]}
        )
        for (kind, procedure), told in sorted(sums.items())
    )
