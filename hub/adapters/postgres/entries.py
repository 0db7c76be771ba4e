"""The entries of a partner's mailbox, read from the store.

Business of this file: finding a drawer's next page by what it holds, not by what was ever in it; what lies in the
mailbox, is on its way, or is parked has an index of its own. The other drawers are looked through a stretch of
numbers at a time. Nothing that is sealed is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from hub.adapters.postgres.database import Connection
from hub.domain.lifecycle import State
from hub.domain.mailbox import KEPT, LATEST, Drawer
from hub.domain.partner import MAILBOX, NOTICE
from hub.ports.mailboxes import Entry, EntryPage

# Milliseconds, whatever became of these.
_STRETCH = 2_000

_DIGITS = 18


async def open_page(connection: Connection, subscriber: str, after: int, limit: int) -> EntryPage:
    entries = tuple(entry_from(row) for row in await connection.fetch(_OPEN, subscriber, after, limit))
    return EntryPage(entries, entries[-1].sequence if len(entries) == limit else None)


async def lasting_page(
    connection: Connection, subscriber: str, drawer: Drawer, below: int | None, limit: int
) -> EntryPage:
    """Of the drawers whose entries stay there."""
    statement = _HANDED_OVER if drawer is Drawer.HANDED_OVER else _ACKNOWLEDGED
    rows = await connection.fetch(statement, subscriber, below, limit, _STRETCH)
    entries = tuple(entry_from(row) for row in rows if row["id"] is not None)
    if len(entries) == limit:
        return EntryPage(entries, entries[-1].sequence)
    # There is one row at least: how far was looked.
    return EntryPage(entries, rows[0]["lowest"] if rows[0]["looked"] == _STRETCH else None)


async def found_entries(connection: Connection, subscriber: str, text: str, limit: int) -> Sequence[Entry]:
    """By the reference of each sender that there is, or by the number; else by the beginning of the reference."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
    states = [str(state) for state in KEPT]
    rows = await connection.fetch(_NAMED, subscriber, text, number, states, limit)
    if not rows and text:
        rows = await connection.fetch(_BEGINNING, subscriber, text, LATEST, states, limit)
    return tuple(entry_from(row) for row in rows)


def entry_from(row: asyncpg.Record) -> Entry:
    return Entry(
        delivery=row["id"],
        submission=row["submission"],
        sequence=row["sequence"],
        sender=row["sender"],
        external_id=row["external_id"],
        procedure=row["procedure"],
        received_at=row["received_at"],
        state=State(row["state"]),
        channel=row["channel"],
        since=row["changed_at"],
        files=row["files"],
        size=row["size"],
        fetched=row["fetched"],
        leased_until=row["until"],
        purged=row["purged"],
    )


_COLUMNS = """
    delivery.id, delivery.submission, delivery.sequence, submission.sender, submission.external_id,
    delivery.procedure, submission.received_at, delivery.state, delivery.channel, delivery.changed_at,
    cardinality(delivery.attachments) AS files, delivery.size,
    COALESCE(delivery.fetched_at >= delivery.changed_at, false) AS fetched,
    mailbox_lease.until, submission_key.submission IS NULL AS purged
"""

_THEIRS = """
    JOIN submission ON submission.id = delivery.submission
    LEFT JOIN submission_key ON submission_key.submission = delivery.submission
    LEFT JOIN mailbox_lease ON mailbox_lease.delivery = delivery.id
      AND mailbox_lease.subscriber = delivery.subscriber AND mailbox_lease.until > clock_timestamp()
"""

_OWN_LANES = f"""
    SELECT id FROM lane
    WHERE subscriber = $1 AND channel <> '{NOTICE}' AND successor_in_force($1) = $1
"""

# A page from each lane of the partner by each of the three indexes, then the first of these. Of who is succeeded
# nothing is found: it is on its way to the successor, and has a number of its own there in a moment.
_FOUND = """
    WITH own AS MATERIALIZED ({own}), found AS MATERIALIZED (
        (SELECT lying.id, lying.sequence FROM own CROSS JOIN LATERAL (
            SELECT id, sequence FROM delivery WHERE lane = own.id AND lies AND sequence > $2
            ORDER BY sequence LIMIT $3
        ) AS lying)
        UNION ALL
        (SELECT moving.id, moving.sequence FROM own CROSS JOIN LATERAL (
            SELECT id, sequence FROM delivery WHERE lane = own.id AND due_at IS NOT NULL AND sequence > $2 {moving}
            ORDER BY sequence LIMIT $3
        ) AS moving)
        UNION ALL
        (SELECT parked.id, parked.sequence FROM own CROSS JOIN LATERAL (
            SELECT id, sequence FROM delivery
            WHERE lane = own.id AND due_at IS NULL AND cause IS NOT NULL AND state = 'parked' AND sequence > $2
            ORDER BY sequence LIMIT $3
        ) AS parked)
        ORDER BY sequence LIMIT $3
    )
    SELECT {columns} FROM found JOIN delivery ON delivery.id = found.id {theirs}
"""

_OPEN = (
    _FOUND.format(own=_OWN_LANES, moving="", columns=_COLUMNS, theirs=_THEIRS) + " ORDER BY delivery.sequence"
)

LEASABLE = (
    _FOUND.format(
        own=_OWN_LANES,
        moving="AND state <> 'in_flight'",
        columns=f"{_COLUMNS}, mailbox_lease.reader",
        theirs=_THEIRS,
    )
    + " ORDER BY delivery.sequence"
)
"""What is open and may be held, the next $3 with numbers above $2, each with who holds it."""

_LASTING = """
    WITH looked AS MATERIALIZED (
        SELECT id, sequence, state, channel FROM delivery
        WHERE subscriber = $1 AND sequence > 0 AND sequence < COALESCE($2, 9223372036854775807)
          AND successor_in_force($1) = $1
        ORDER BY sequence DESC LIMIT $4
    ), page AS MATERIALIZED (
        SELECT id FROM looked WHERE {held} ORDER BY sequence DESC LIMIT $3
    )
    SELECT far.lowest, far.looked, entry.*
    FROM (SELECT min(sequence) AS lowest, count(*) AS looked FROM looked) AS far
    LEFT JOIN (
        SELECT {columns} FROM page JOIN delivery ON delivery.id = page.id {theirs}
    ) AS entry ON true
    ORDER BY entry.sequence DESC
"""

_HANDED_OVER = _LASTING.format(
    held=f"state = 'delivered' AND channel <> '{MAILBOX}'", columns=_COLUMNS, theirs=_THEIRS
)
_ACKNOWLEDGED = _LASTING.format(held="state = 'acknowledged'", columns=_COLUMNS, theirs=_THEIRS)

ENTRY = f"""
    SELECT {_COLUMNS} FROM delivery {_THEIRS}
    WHERE delivery.id = $1 AND delivery.sequence > 0 AND successor_in_force(delivery.subscriber) = $2
"""

# Senders are few: the index of their references is entered once for each, and no index of references alone is needed,
# which every submission would pay for.
_NAMED = f"""
    WITH RECURSIVE sender_of AS (
        (SELECT sender FROM submission ORDER BY sender LIMIT 1)
        UNION ALL
        SELECT (SELECT submission.sender FROM submission WHERE submission.sender > sender_of.sender
                ORDER BY submission.sender LIMIT 1)
        FROM sender_of WHERE sender_of.sender IS NOT NULL
    ), named AS MATERIALIZED (
        SELECT delivery.id FROM sender_of
        JOIN submission ON submission.sender = sender_of.sender AND submission.external_id = $2
        JOIN delivery ON delivery.submission = submission.id
        WHERE delivery.sequence > 0
        UNION
        SELECT id FROM delivery WHERE subscriber = $1 AND sequence = $3::bigint AND sequence > 0
    )
    SELECT {_COLUMNS} FROM named JOIN delivery ON delivery.id = named.id {_THEIRS}
    WHERE successor_in_force(delivery.subscriber) = $1 AND delivery.state = ANY($4::text[])
    ORDER BY delivery.sequence DESC LIMIT $5
"""

# No index serves the beginning of a reference: that of (sender, reference) is in the order of the database's language,
# and holds what is everybody's. So only a stretch of this partner's own numbers is looked through.
_BEGINNING = f"""
    WITH latest AS MATERIALIZED (
        SELECT id, submission, state FROM delivery
        WHERE subscriber = $1 AND sequence > 0 AND successor_in_force($1) = $1
        ORDER BY sequence DESC LIMIT $3
    ), named AS MATERIALIZED (
        SELECT latest.id FROM latest JOIN submission ON submission.id = latest.submission
        WHERE latest.state = ANY($4::text[]) AND starts_with(lower(submission.external_id), lower($2))
    )
    SELECT {_COLUMNS} FROM named JOIN delivery ON delivery.id = named.id {_THEIRS}
    ORDER BY delivery.sequence DESC LIMIT $5
"""
