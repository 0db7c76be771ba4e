"""Buckets of the ledger opened: which ids make the difference, and what is wrong with each.

Business of this file: naming ids. The rows, the decisions and the journal are three witnesses; what the ledger kept
of a bucket is only a number and a sum, which one id alone can be told from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Connection
from hub.domain.identity import ParcelKind
from hub.domain.ledger import NOTHING, STANDING, SUBMISSIONS, Bucket, Discrepancy, Tally, Term, moved, wrapped

Sides = Mapping[Term, Tally]

_MOST_LISTED = 1_000


async def opened(
    connection: Connection, places: Sequence[tuple[Bucket, Sides, Sides]]
) -> Sequence[Discrepancy]:
    """Each place with what was kept of it and what is there; something of each is told."""
    submissions = [one for one in places if one[0].kind == SUBMISSIONS]
    deliveries = [one for one in places if one[0].kind != SUBMISSIONS]
    found: list[Discrepancy] = []
    if submissions:
        found += await _submissions(connection, submissions)
    if deliveries:
        found += await _deliveries(connection, deliveries)
    return found[:_MOST_LISTED]


@dataclass(slots=True)
class _Page:
    """What witnesses say of one bucket: ids with their hashes, and terms by the rows and by the journal."""

    hashes: dict[UUID, int] = field(default_factory=dict)
    named: set[UUID] = field(default_factory=set)
    there: dict[UUID, Term] = field(default_factory=dict)
    told: dict[UUID, Term] = field(default_factory=dict)


# --- deliveries ---------------------------------------------------------------------------------------


async def _deliveries(
    connection: Connection, places: Sequence[tuple[Bucket, Sides, Sides]]
) -> list[Discrepancy]:
    where = [place for place, _, _ in places]
    pages: defaultdict[Bucket, _Page] = defaultdict(_Page)
    for row in await _of(connection, _ROWS, where):
        page = pages[_place(row)]
        page.hashes[row["id"]] = row["hash"]
        page.there[row["id"]] = Term(row["term"])
    for row in await _of(connection, _NAMED, where):
        page = pages[_place(row)]
        page.hashes[row["id"]] = row["hash"]
        page.named.add(row["id"])
    for row in await _of(connection, _JOURNALLED, where):
        page = pages[_place(row)]
        if row["id"] not in page.there and row["id"] not in page.named:
            page.hashes[row["id"]] = row["hash"]
        page.told[row["id"]] = _TERMS.get(row["event"], Term.PLANNED)
    return [
        Discrepancy(place, id, what)
        for place, kept, there in places
        for id, what in _told(pages[place], place, moved(kept, there))
    ]


_TERMS = {f"delivery.{side}": side for side in STANDING} | {"delivery.sent_again": Term.PLANNED}


def _told(page: _Page, place: Bucket, over: Sides) -> Iterable[tuple[UUID | None, str]]:
    """`over`: by term, how many more the ledger kept than are there."""
    explained = False
    if place.kind == ParcelKind.SUBMISSION:
        for id in sorted(page.named - page.there.keys()):
            explained = True
            yield id, "is named by a decision and not registered"
        for id in sorted(page.there.keys() - page.named):
            explained = True
            yield id, "is registered and named by no decision"
    for id, side in sorted(page.there.items()):
        was = _moved_from(page, id, side, over)
        if was is not None:
            explained = True
            yield id, f"is {_word(side)}, and {_word(was)} by the ledger"
    known = page.there.keys() | page.named
    for id in sorted(page.hashes.keys() - known):
        if any(tally == Tally(1, page.hashes[id]) for tally in over.values()):
            explained = True
            yield id, "is gone, with the decision that named it"
    if over and not explained:
        yield None, _sums(over)


def _moved_from(page: _Page, id: UUID, side: Term, over: Sides) -> Term | None:
    """The term it has by the ledger, if that is another: where what is lacking there and too much here is this id,
    or where its journal says so."""
    lacking = over.get(side, NOTHING)
    if lacking.number >= 0:
        return None
    one = Tally(1, page.hashes[id])
    if lacking == NOTHING.minus(one):
        exact = next((was for was, tally in over.items() if was in STANDING and tally == one), None)
        if exact is not None:
            return exact
    told = page.told.get(id, side)
    return told if told is not side and over.get(told, NOTHING).number > 0 else None


def _sums(over: Sides) -> str:
    words = []
    for side, tally in over.items():
        if tally.number:
            words.append(f"{abs(tally.number)} {'more' if tally.number > 0 else 'fewer'} {_word(side)}")
        else:
            words.append(f"others {_word(side)}")
    return f"is not as it was counted: by the ledger, {', '.join(words)}"


def _word(side: Term) -> str:
    return side.value.replace("_", " ")


# --- submissions --------------------------------------------------------------------------------------


async def _submissions(
    connection: Connection, places: Sequence[tuple[Bucket, Sides, Sides]]
) -> list[Discrepancy]:
    where = [place for place, _, _ in places]
    pages: defaultdict[Bucket, _Page] = defaultdict(_Page)
    for row in await _of(connection, _RECEIVED, where):
        page = pages[_place(row)]
        page.hashes[row["id"]] = row["hash"]
        page.there[row["id"]] = Term(row["term"])
    gone = await _of(connection, _GONE, where) if any(_lack(one) for one in places) else []
    found: list[Discrepancy] = []
    for one in places:
        place, kept, there = one
        over = moved(kept, there)
        told = list(_told_of_submissions(pages[place], [row for row in gone if _place(row) == place], over))
        if over and not told:
            told = [(None, _sums(over))]
        found += [Discrepancy(place, id, what) for id, what in told]
    return found


def _lack(one: tuple[Bucket, Sides, Sides]) -> bool:
    return moved(one[1], one[2]).get(Term.ACCEPTED, NOTHING) != NOTHING


def _told_of_submissions(
    page: _Page, gone: Sequence[asyncpg.Record], over: Sides
) -> Iterable[tuple[UUID | None, str]]:
    lost = over.get(Term.ACCEPTED, NOTHING)
    together = Tally(len(gone), wrapped(sum(row["hash"] for row in gone)))
    for row in gone:
        # Of several that are gone from somewhere, those of this bucket: one, or all of them.
        if lost in (Tally(1, row["hash"]), together):
            yield row["id"], "was accepted and is gone"
    for id, side in sorted(page.there.items()):
        one = Tally(1, page.hashes[id])
        if lost == NOTHING.minus(one):
            yield id, "is there and was never accepted"
        elif over.get(side, NOTHING) == NOTHING.minus(one):
            was = next((was for was, tally in over.items() if tally == one), None)
            by = "" if was is None else f", and {_word(was)} by the ledger"
            yield id, f"is {_word(side)}{by}"


# --- statements ---------------------------------------------------------------------------------------


async def _of(connection: Connection, statement: str, places: Sequence[Bucket]) -> Sequence[asyncpg.Record]:
    return await connection.fetch(
        statement,
        [place.hour for place in places],
        [place.procedure for place in places],
        [place.kind for place in places],
        [place.partner for place in places],
        timeout=900,
    )


def _place(row: asyncpg.Record) -> Bucket:
    return Bucket(row["hour"], row["procedure"], row["kind"], row["partner"])


_PLACES = """
    unnest($1::integer[], $2::text[], $3::text[], $4::text[]) AS place (hour, procedure, kind, partner)
"""

_ROWS = f"""
    SELECT place.*, id, term(state, attempt) AS term, ledger_hash(id, place.hour, place.partner) AS hash
    FROM {_PLACES} JOIN delivery
      ON COALESCE(delivery.hour, 0) = place.hour AND delivery.procedure = place.procedure
     AND delivery.kind = place.kind AND COALESCE(delivery.named, delivery.subscriber) = place.partner
"""

_NAMED = f"""
    SELECT DISTINCT place.*, (recipient ->> 'delivery')::uuid AS id,
           ledger_hash((recipient ->> 'delivery')::uuid, place.hour, place.partner) AS hash
    FROM {_PLACES} JOIN decision
      ON COALESCE(decision.hour, 0) = place.hour AND COALESCE(decision.procedure, '') = place.procedure
    CROSS JOIN LATERAL jsonb_array_elements(decision.recipients) AS recipient
    WHERE place.kind = '{ParcelKind.SUBMISSION}' AND NOT decision.late
      AND COALESCE(recipient ->> 'subscriber', '') = place.partner
"""

# What the journal tells of the deliveries of these submissions last; of one that is gone, it alone knows.
_JOURNALLED = f"""
    SELECT DISTINCT ON (line.delivery, place.partner) place.*, line.delivery AS id, line.event,
           ledger_hash(line.delivery, place.hour, place.partner) AS hash
    FROM {_PLACES} JOIN submission
      ON submission.received_at >= to_timestamp(place.hour::bigint * 3600)
     AND submission.received_at < to_timestamp(place.hour::bigint * 3600 + 3600)
     AND submission.procedure = place.procedure
    JOIN journal AS line ON line.submission = submission.id AND line.delivery IS NOT NULL
    WHERE line.event = ANY(ARRAY[{", ".join(f"'{event}'" for event in _TERMS)}])
    ORDER BY line.delivery, place.partner, line.id DESC
"""

_RECEIVED = f"""
    SELECT place.*, submission.id, COALESCE(newest.verdict, 'undecided') AS term,
           ledger_hash(submission.id, place.hour, '') AS hash
    FROM {_PLACES} JOIN submission
      ON submission.received_at >= to_timestamp(place.hour::bigint * 3600)
     AND submission.received_at < to_timestamp(place.hour::bigint * 3600 + 3600)
     AND submission.procedure = place.procedure
    LEFT JOIN LATERAL (
        SELECT verdict FROM decision WHERE decision.submission = submission.id ORDER BY number DESC LIMIT 1
    ) AS newest ON true
"""

# What still speaks of a submission that is not there.
_GONE = f"""
    SELECT place.*, gone.submission AS id, ledger_hash(gone.submission, place.hour, '') AS hash
    FROM {_PLACES} CROSS JOIN (
        SELECT submission FROM submission_key
        UNION SELECT submission FROM decision
        UNION SELECT submission FROM delivery
    ) AS gone
    WHERE NOT EXISTS (SELECT FROM submission WHERE submission.id = gone.submission)
    LIMIT 10000
"""
