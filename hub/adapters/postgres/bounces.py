"""Mails that came back, noted: and what they delivered, parked once they came back from everywhere.

Business of this file: which deliveries a mail carried, which addresses took it (its receipt in the journal says so),
and that only its own, latest sending is changed. Whether a report is to be believed is decided elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from hub.adapters.postgres.address_faults import note_addresses
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.slips import count_moved
from hub.domain.bounces import BOUNCED, BounceEffect, MailReceipt, Return, is_lost, read_receipt
from hub.domain.ledger import Term
from hub.domain.lifecycle import State, move
from hub.ports.bounces import AddressFaults, Bounce, Untaken

Rows = Sequence[asyncpg.Record]

_ONE_TRANSACTION = timedelta(minutes=1)
"""By how much, at most, what one transaction wrote first is elder than what it wrote last."""


class PostgresBounces:
    """Implements `hub.ports.bounces.Bounces` and `BounceViews`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(
        self, returned: Return, status: str | None, address_of: Callable[[Sequence[str]], str | None]
    ) -> BounceEffect:
        async def work(connection: Connection) -> BounceEffect:
            rows = await _lock(connection, returned)
            if not rows:
                return BounceEffect.FORGOTTEN
            if any(row["state"] == State.IN_FLIGHT and row["sending"] == row["sent"] for row in rows):
                return BounceEffect.UNDER_WAY
            fresh = await _keep(connection, returned, status, rows[0]["subscriber"], address_of)
            accepted = await _accepted(connection, returned, rows)
            parked = await _park(connection, returned, rows, accepted)
            await _tell(connection, returned, status, rows if fresh else (), parked)
            if parked:
                return BounceEffect.PARKED
            return BounceEffect.NOTED if fresh else BounceEffect.KNOWN

        return await self._database.run(work)

    async def of(self, delivery: UUID, reader: str) -> AddressFaults:
        async def work(connection: Connection) -> AddressFaults:
            lines = await connection.fetch(_RECEIPTS, delivery)
            if not lines:
                return AddressFaults()
            told = [(line, read_receipt(line["receipt"] or "")) for line in lines]
            found = AddressFaults(
                await _untaken(connection, lines[0]["subscriber"], told),
                # A digest is named by the line of whoever it delivered.
                await _bounced(connection, {delivery, *(one.mail for _, one in told if one is not None)}),
            )
            if found != AddressFaults():
                detail = f"{len(found.bounced)} bounces, {len(found.untaken)} not taken"
                line = JournalEntry("delivery.bounces_read", lines[0]["submission"], delivery, reader, detail)
                await write_journal(connection, [line])
            return found

        return await self._database.run(work)


_RECEIPTS = """
    SELECT delivery.submission, delivery.subscriber, line.at, line.sending, line.attempt, line.receipt
    FROM delivery LEFT JOIN journal AS line
      ON line.submission = delivery.submission AND line.delivery = delivery.id AND line.outcome = 'delivered'
    WHERE delivery.id = $1
    ORDER BY line.id
"""


async def _bounced(connection: Connection, mails: Collection[UUID]) -> Sequence[Bounce]:
    rows = await connection.fetch(
        "SELECT at, sending, place, address, status FROM bounce WHERE mail = ANY($1::uuid[])"
        " ORDER BY at, sending, place",
        list(mails),
    )
    return tuple(Bounce(**row) for row in rows)


async def _untaken(
    connection: Connection, subscriber: str, told: Iterable[tuple[asyncpg.Record, MailReceipt | None]]
) -> Sequence[Untaken]:
    listed = {row["place"]: row for row in await connection.fetch(_LISTED, subscriber)}
    return tuple(
        Untaken(
            line["at"], line["sending"], line["attempt"], place, _as_listed(listed.get(place), line["at"])
        )
        for line, receipt in told
        if receipt is not None
        for place in receipt.untaken
    )


def _as_listed(row: asyncpg.Record | None, at: datetime) -> str | None:
    return None if row is None or row["since"] > at + _ONE_TRANSACTION else row["address"]


# What is noted of an address is forgotten when its partner's settings change: so what stands there since then speaks of
# the settings of then.
_LISTED = """
    SELECT fault.place, fault.since, partner.settings -> 'recipients' ->> (fault.place - 1) AS address
    FROM address_fault AS fault JOIN partner USING (subscriber) WHERE subscriber = $1
"""


async def _lock(connection: Connection, returned: Return) -> Rows:
    """The deliveries of a mail, each with the sending that it carried (`sent`), by their names."""
    issue = await connection.fetchrow(
        "SELECT deliveries, sendings FROM digest_issue WHERE id = $1", returned.mail
    )
    names = [returned.mail] if issue is None else issue["deliveries"]
    # Lanes before deliveries, as everybody: what is parked wakes the lane of who is succeeded (see `_park`).
    await connection.execute(
        "SELECT FROM lane WHERE moves_at IS NOT NULL"
        " AND id = ANY(ARRAY(SELECT lane FROM delivery WHERE id = ANY($1::uuid[]))) ORDER BY id FOR NO KEY UPDATE",
        names,
    )
    return await connection.fetch(
        """
        SELECT delivery.id, submission, subscriber, state, sending, listed.sent
        FROM unnest($1::uuid[], $2::integer[]) AS listed (id, sent) JOIN delivery ON delivery.id = listed.id
        ORDER BY delivery.id
        FOR UPDATE OF delivery
        """,
        names,
        [returned.sending] if issue is None else issue["sendings"],
    )


async def _keep(
    connection: Connection,
    returned: Return,
    status: str | None,
    subscriber: str,
    address_of: Callable[[Sequence[str]], str | None],
) -> bool:
    """Whether it was not known."""
    settings = await connection.fetchval("SELECT settings FROM partner WHERE subscriber = $1", subscriber)
    told = (settings or {}).get("recipients")
    address = address_of([str(one) for one in told]) if isinstance(told, list) else None
    fresh = await connection.fetchval(
        """
        INSERT INTO bounce (mail, sending, place, address, status) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        returned.mail,
        returned.sending,
        returned.place,
        address,
        status,
    )
    if fresh:
        await note_addresses(connection, [(subscriber, returned.place)], BOUNCED)
    return bool(fresh)


async def _accepted(connection: Connection, returned: Return, rows: Rows) -> Mapping[UUID, set[int]]:
    """Of each delivery that this mail delivered, the places of the addresses that took it, in any of its attempts."""
    lines = await connection.fetch(
        """
        SELECT delivery, sending, receipt FROM journal
        WHERE submission = ANY($1::uuid[]) AND delivery = ANY($2::uuid[]) AND outcome = 'delivered'
        """,
        list({row["submission"] for row in rows}),
        [row["id"] for row in rows],
    )
    sent = {row["id"]: row["sent"] for row in rows}
    found: defaultdict[UUID, set[int]] = defaultdict(set)
    for line in lines:
        receipt = read_receipt(line["receipt"] or "")
        if (
            receipt is not None
            and receipt.mail == returned.mail
            and line["sending"] == sent[line["delivery"]]
        ):
            found[line["delivery"]].update(receipt.places)
    return found


async def _park(
    connection: Connection, returned: Return, rows: Rows, accepted: Mapping[UUID, set[int]]
) -> list[UUID]:
    """What this mail delivered, and stands there still by this sending. A delivery that a later sending, or another
    mail, brought, or that its partner says it has, stays as it is."""
    bounced = {
        row["place"]
        for row in await connection.fetch(
            "SELECT place FROM bounce WHERE mail = $1 AND sending = $2", returned.mail, returned.sending
        )
    }
    lost: list[UUID] = [
        row["id"]
        for row in rows
        if row["state"] == State.DELIVERED
        and row["sending"] == row["sent"]
        and is_lost(accepted.get(row["id"], ()), bounced)
    ]
    if lost:
        await connection.execute(
            "UPDATE delivery SET state = $2, cause = $3, channel = lane.channel, changed_at = clock_timestamp()"
            " FROM lane WHERE delivery.id = ANY($1::uuid[]) AND lane.id = delivery.lane",
            lost,
            move(State.DELIVERED, State.PARKED),
            BOUNCED,
        )
        await count_moved(connection, lost, Term.DELIVERED, Term.PARKED)
        # It follows its partner's successor, whose mailbox is the one that is looked into.
        await connection.execute(
            "UPDATE lane SET due_at = LEAST(due_at, succession_wakes(id)) WHERE moves_at IS NOT NULL"
            " AND id = ANY(ARRAY(SELECT lane FROM delivery WHERE id = ANY($1::uuid[])))",
            lost,
        )
    return lost


async def _tell(
    connection: Connection, returned: Return, status: str | None, noted: Rows, parked: Sequence[UUID]
) -> None:
    """The address by its place: it is somebody's, and the journal is kept for long."""
    said = f"address {returned.place}" + ("" if status is None else f", {status}")
    submissions = {row["id"]: row["submission"] for row in noted}
    lines = [
        JournalEntry("delivery.bounced", submission, name, detail=said)
        for name, submission in submissions.items()
    ]
    if parked:
        found = await connection.fetch(
            "SELECT id, submission FROM delivery WHERE id = ANY($1::uuid[])", parked
        )
        lines += [
            JournalEntry("delivery.parked", row["submission"], row["id"], detail=BOUNCED) for row in found
        ]
    await write_journal(connection, lines)
