"""The store's part of dispatch: leasing lanes, claiming their rows, and giving the lanes back.

Business of this file: that a row in motion is attempted by one worker at a time, that a worker's death
costs a delay and nothing else, and that a lane with rows has a due time. Which partner answers what is not
known here; what is written of an answer, and how rows follow whoever takes over, stands in files of its own.

Every transaction here locks the lanes' rows, by id, before their deliveries. A registration that lowers a
lane's due time does so under the same lock, so a conclusion, which computes that time in a statement of its own
after the lock, has either seen the new rows or will be lowered by them. A row in flight is held by its lane's
lease: what was in flight before the present one began is lost. So a claim moves no due time and no index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from hub.adapters.postgres.addresses import REMINDER
from hub.adapters.postgres.conclusions import Told, write_news
from hub.adapters.postgres.database import Bell, Connection, Database
from hub.adapters.postgres.fallbacks import fall_back, notice_endpoint
from hub.adapters.postgres.rows import AttemptTold, JournalEntry, attachments_from_json, write_journal
from hub.adapters.postgres.slips import Moved
from hub.adapters.postgres.succession import follow_successor
from hub.domain.circuit import Standing
from hub.domain.delivery import Attempt
from hub.domain.errors import LeaseLost
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.ledger import term
from hub.domain.lifecycle import State, sources_of
from hub.domain.partner import MAILBOX, NOTICE, Endpoint
from hub.ports.store import Claim, Lane, Page, Taken

CLAIM_COLUMNS = """
    delivery.id, delivery.submission, delivery.subscriber, delivery.sequence, delivery.kind,
    delivery.revision, delivery.attachments AS granted, delivery.sending, delivery.attempt,
    submission.sender, submission.external_id, submission.procedure, submission.received_at,
    submission.sealed, submission.attachments, submission_key.wrapped
"""
"""What `claim_from` reads, of a delivery, its submission, and the key of that (if it is still there)."""

LOST = "lost"
"""The outcome of an attempt whose worker was not heard of before its lane was leased anew."""

PERHAPS_RECEIVED = "hub.perhaps_received"
"""The cause of what is withdrawn while nobody knows what came of its last attempt."""


class PostgresLanes:
    """Implements `hub.ports.store.Lanes`. A worker's name must be its own: a worker that starts again takes
    a new one. `close` it, it may hold a connection that listens."""

    def __init__(self, database: Database, kept: timedelta = timedelta(0)) -> None:
        """`kept`: for how long after a page a worker has its connection to the endpoint still."""
        self._database = database
        self._kept = kept
        self._bell = Bell(database, "lanes")

    async def take(
        self, worker: str, healthy: int, failing: int, page: int, length: timedelta
    ) -> Sequence[Taken]:
        async def work(connection: Connection) -> tuple[list[Taken], list[int]]:
            rows = await connection.fetch(_LEASE, worker, length, healthy, failing)
            leaving = [row["id"] for row in rows if row["leaves"]]
            staying = [row for row in rows if not row["leaves"]]
            wishes = {row["id"]: _most(row, page) for row in staying if not row["apart"]}
            claims = await _claim(connection, wishes)
            return [
                Taken(_lane(row), None if row["apart"] else tuple(claims.get(row["id"], ())))
                for row in staying
            ], leaving

        taken, leaving = await self._database.run(work)
        for lane in leaving:
            await self._leave(worker, lane)
        return taken

    async def _leave(self, worker: str, lane: int) -> None:
        """Its rows go where they belong now, and the lane is given back."""
        try:
            await follow_successor(self._database, worker, lane)
        except LeaseLost:
            return
        await self.conclude(worker, [Page(lane)])

    async def lease(self, worker: str, limit: int, length: timedelta) -> Sequence[Lane]:
        async def work(connection: Connection) -> Sequence[Lane]:
            return [_lane(row) for row in await connection.fetch(_LEASE, worker, length, limit, limit)]

        return await self._database.once(work)

    async def claim(
        self, worker: str, lane: int, limit: int, ordered: Collection[str] = (), *, closes: bool = False
    ) -> Sequence[Claim]:
        async def work(connection: Connection) -> Sequence[Claim] | None:
            """None: it is left."""
            held = await connection.fetchrow(_LOCK_SERVED, lane)
            if held is None or held["holder"] != worker:
                raise LeaseLost
            if held["leaves"]:
                return None
            return (await _claim(connection, {lane: limit}, ordered, closes)).get(lane, ())

        claims = await self._database.run(work)
        if claims is None:
            await follow_successor(self._database, worker, lane)
            return ()
        return claims

    async def renew(self, worker: str, lanes: Sequence[int], length: timedelta) -> set[int]:
        async def work(connection: Connection) -> set[int]:
            return {row["id"] for row in await connection.fetch(_RENEW, list(lanes), worker, length)}

        return await self._database.run(work)

    async def conclude(self, worker: str, pages: Sequence[Page]) -> Sequence[UUID]:
        if not pages:
            return []

        async def work(connection: Connection) -> Sequence[UUID]:
            lanes = sorted(page.lane for page in pages)
            locked = {row["id"]: row for row in await connection.fetch(_LOCK, lanes)}
            owners = {lane: row["subscriber"] for lane, row in locked.items()}
            told = [Told(page.lane, conclusion) for page in pages for conclusion in page.conclusions]
            refused = await write_news(connection, told, owners) if told else []
            await _hurry(connection, [page.lane for page in pages if _is_back(page, locked, worker)])
            await _give_back(connection, worker, pages, self._kept)
            return refused

        return await self._database.run(work)

    async def fall_back(self, worker: str, lane: int) -> None:
        await fall_back(self._database, worker, lane)

    async def rest_vendor(self, vendor: str, rest: timedelta, spread: timedelta) -> int:
        return await self._move_vendor(_REST_VENDOR, vendor, rest, spread)

    async def wake_vendor(self, vendor: str, spread: timedelta) -> int:
        return await self._move_vendor(_WAKE_VENDOR, vendor, spread)

    async def _move_vendor(self, statement: str, vendor: str, *durations: timedelta) -> int:
        async def work(connection: Connection) -> int:
            return len(await connection.fetch(statement, vendor, MAILBOX, *durations))

        return await self._database.run(work)

    async def next_due(self) -> float | None:
        async def work(connection: Connection) -> float | None:
            seconds: float | None = await connection.fetchval(_NEXT_DUE)
            return None if seconds is None else max(seconds, 0.0)

        return await self._database.once(work)

    async def wait(self, seconds: float) -> None:
        await self._bell.wait(seconds)

    async def close(self) -> None:
        await self._bell.close()


# --- leasing ------------------------------------------------------------------------------------------

# What is in a mailbox's lane stays in the hub, whatever channel its partner is served on.
_ITS_PARTNER = f"""
    LEFT JOIN partner ON partner.subscriber = lane.subscriber
      AND (lane.channel <> '{MAILBOX}' OR partner.channel = lane.channel)
"""

# Whom a lane's rows go to is asked in full only of those that may be left.
_LEAVES = """
    (lane.left_for IS NOT NULL AND lane.fell_back_at IS NULL)
    OR (lane.moves_at <= clock_timestamp() AND successor_in_force(lane.subscriber) <> lane.subscriber)
"""

# The due time moves to the end of the lease: if the worker dies, the lane is due again by itself. Whoever held
# a lane last may have its connection still: to others it is offered a moment later.
_DUE = """
        SELECT id FROM lane
        WHERE due_at <= (SELECT clock_timestamp()) AND failures {failing}
          AND (lease_until IS NULL OR lease_until < (SELECT clock_timestamp()))
          AND (kept_until IS NULL OR keeper = $1 OR kept_until < (SELECT clock_timestamp())
               OR due_at < (SELECT clock_timestamp()) - interval '0.5 s')
        ORDER BY due_at
        LIMIT {limit}
        FOR UPDATE SKIP LOCKED
"""

_LEASE = f"""
    WITH healthy AS MATERIALIZED ({_DUE.format(failing="= 0", limit="$3")}),
    failing AS MATERIALIZED ({_DUE.format(failing="> 0", limit="$4")}),
    leased AS (
        UPDATE lane
        SET holder = $1, leased_at = clock.now,
            lease_until = clock.now + $2::interval, due_at = clock.now + $2::interval
        FROM (SELECT id FROM healthy UNION ALL SELECT id FROM failing) AS due,
             (SELECT clock_timestamp() AS now) AS clock
        WHERE lane.id = due.id
        RETURNING lane.*
    )
    SELECT lane.id, lane.subscriber, COALESCE(partner.channel, lane.channel) AS channel,
           partner.settings, partner.secrets, partner.secrets_key, partner.vendor, partner.pace,
           partner.maintenance, lane.failures, lane.at_once, lane.closed_cause, lane.channel AS served,
           clock_timestamp() - LEAST(lane.failing_since, lane.closed_at) AS failing,
           {_LEAVES} AS leaves,
           lane.closed_at IS NOT NULL OR partner.pace IS NOT NULL  OR partner.maintenance IS NOT NULL AS apart
    FROM leased AS lane {_ITS_PARTNER}
    ORDER BY lane.id
"""

# A lowered due time of a lane that is held is served when the lease ends, not before.
_NEXT_DUE = """
    SELECT EXTRACT(EPOCH FROM min(GREATEST(due_at, lease_until)) - clock_timestamp())::float8
    FROM lane WHERE due_at IS NOT NULL
"""


def _lane(row: asyncpg.Record) -> Lane:
    """The endpoint is the partner's of today, channel included: rows that were planned for a channel it has
    left go out by the one it has now. An endpoint is one whole; settings or secrets of one channel are
    never handed to the connector of another."""
    notices = row["served"] == NOTICE
    return Lane(
        id=row["id"],
        subscriber=Subscriber.parse(row["subscriber"]),
        endpoint=notice_endpoint(row["pace"]) if notices else Endpoint(row["channel"], row["settings"] or {}),
        sealed_secrets=None if notices else row["secrets"],
        wrapped_key=None if notices else row["secrets_key"],
        standing=_standing(row),
        failing=row["failing"],
        closed=row["closed_cause"],
        vendor=None if notices else row["vendor"],
        pace=row["pace"],
        maintenance=row["maintenance"] or (),
    )


def _standing(row: asyncpg.Record) -> Standing:
    at_once: int | None = row["at_once"]
    return Standing(failures=row["failures"]) if at_once is None else Standing(at_once, row["failures"])


def _most(row: asyncpg.Record, page: int) -> int:
    standing = _standing(row)
    return 1 if standing.fails else min(page, standing.at_once)


_LOCK = """
    SELECT id, subscriber, holder, failures FROM lane WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE
"""

_RENEW = """
    WITH held AS MATERIALIZED (
        SELECT id FROM lane WHERE id = ANY($1::bigint[]) AND holder = $2 ORDER BY id FOR UPDATE
    )
    UPDATE lane
    SET lease_until = GREATEST(lease_until, clock.now + $3::interval),
        due_at = GREATEST(due_at, lease_until, clock.now + $3::interval)
    FROM held, (SELECT clock_timestamp() AS now) AS clock
    WHERE lane.id = held.id
    RETURNING lane.id
"""


# --- claiming -----------------------------------------------------------------------------------------

# A lease that ran out and that nobody took is held still.
_LOCK_SERVED = f"SELECT lane.holder, {_LEAVES} AS leaves FROM lane WHERE lane.id = $1 FOR UPDATE"

_CLAIMABLE = [*sources_of(State.IN_FLIGHT), State.IN_FLIGHT]

# The page is chosen in the order of due times and locked in the order of names, as everybody locks. Rows in
# flight are claimable if they were claimed before this lease: whoever claimed them is gone.
_PAGE = """
    WITH page AS MATERIALIZED (
        SELECT chosen.id
        FROM unnest($1::bigint[], $2::integer[]) AS wish (lane, most)
        JOIN lane ON lane.id = wish.lane
        CROSS JOIN LATERAL (
            SELECT id FROM delivery
            WHERE delivery.lane = lane.id AND due_at <= (SELECT clock_timestamp())
              AND (state <> 'in_flight' OR changed_at < lane.leased_at)
              {ordered}
            ORDER BY due_at, sequence
            LIMIT wish.most
        ) AS chosen
    ), taken AS MATERIALIZED (
        SELECT delivery.id, delivery.state, delivery.attempt, delivery.changed_at, delivery.withdrawing,
               CASE WHEN lane.channel = 'notice' THEN 'mail' ELSE COALESCE(partner.channel, lane.channel) END
                 AS channel
        FROM delivery JOIN page ON page.id = delivery.id JOIN lane ON lane.id = delivery.lane {its_partner}
        WHERE delivery.state = ANY($3::text[])
        ORDER BY delivery.id
        FOR UPDATE OF delivery
    ), flying AS (
        UPDATE delivery
        SET state = CASE WHEN taken.withdrawing IS NULL THEN 'in_flight' ELSE 'withdrawn' END,
            attempt = delivery.attempt + (taken.withdrawing IS NULL)::integer,
            due_at = CASE WHEN taken.withdrawing IS NULL THEN delivery.due_at END,
            cause = CASE WHEN taken.withdrawing IS NULL THEN delivery.cause ELSE 'hub.perhaps_received' END,
            channel = taken.channel, changed_at = clock_timestamp()
        FROM taken WHERE delivery.id = taken.id
        RETURNING delivery.*, taken.state AS was, taken.attempt AS was_attempt,
                  taken.changed_at AS was_changed_at
    )
    SELECT delivery.lane, was, was_attempt, was_changed_at, withdrawing, {columns}
    FROM flying AS delivery
    JOIN submission ON submission.id = delivery.submission
    LEFT JOIN submission_key ON submission_key.submission = delivery.submission
    ORDER BY delivery.due_at, delivery.sequence
"""

# Also what is still to follow from the partner's former channel comes before what is newer.
_ORDERED = """
              AND NOT (delivery.procedure = ANY($4::text[]) AND EXISTS (
                  SELECT FROM delivery AS earlier
                  WHERE earlier.subscriber = delivery.subscriber AND earlier.procedure = delivery.procedure
                    AND earlier.sequence < delivery.sequence
                    AND earlier.lane = ANY(ARRAY(
                        SELECT former.id FROM lane AS former
                        WHERE former.subscriber = lane.subscriber AND (
                            former.id = lane.id OR (former.left_for = lane.id AND former.fell_back_at IS NULL)
                        )
                    ))
                    AND (earlier.due_at IS NOT NULL OR ($5 AND earlier.state = 'parked'))
              ))
"""

_CLAIM = _PAGE.format(ordered="", its_partner=_ITS_PARTNER, columns=CLAIM_COLUMNS)
_CLAIM_ORDERED = _PAGE.format(ordered=_ORDERED, its_partner=_ITS_PARTNER, columns=CLAIM_COLUMNS)


async def _claim(
    connection: Connection, wishes: Mapping[int, int], ordered: Collection[str] = (), closes: bool = False
) -> Mapping[int, Sequence[Claim]]:
    """Under the locks of the lanes, held by who asks."""
    if not wishes:
        return {}
    asked = (list(wishes), list(wishes.values()), _CLAIMABLE)
    if ordered:
        rows = await connection.fetch(_CLAIM_ORDERED, *asked, list(ordered), closes)
    else:
        rows = await connection.fetch(_CLAIM, *asked)
    lost = [row for row in rows if row["was"] == State.IN_FLIGHT]
    await write_journal(connection, [line for row in lost for line in _lost(row)])
    moved = Moved()
    for row in rows:
        after = State.IN_FLIGHT if row["withdrawing"] is None else State.WITHDRAWN
        moved.note(row["id"], term(State(row["was"]), row["was_attempt"]), term(after, row["attempt"]))
    # Nothing, but for those whose first attempt was lost, or that are withdrawn.
    await moved.write(connection)
    claims: dict[int, list[Claim]] = defaultdict(list)
    for row in rows:
        if row["withdrawing"] is None:
            claims[row["lane"]].append(claim_from(row))
    return claims


def _lost(row: asyncpg.Record) -> Sequence[JournalEntry]:
    told = AttemptTold(row["sending"], row["was_attempt"], row["was_changed_at"], LOST)
    lines = [JournalEntry("delivery.lost", row["submission"], row["id"], attempt=told)]
    if row["withdrawing"] is not None:
        detail = f"{row['withdrawing']}; {PERHAPS_RECEIVED}"
        lines.append(JournalEntry("delivery.withdrawn", row["submission"], row["id"], detail=detail))
    return lines


def claim_from(row: asyncpg.Record) -> Claim:
    """A delivery with what its parcel is made of, and no file it was not given. The wrapped key is empty
    when the submission was purged."""
    granted = set(row["granted"])
    return Claim(
        attempt=Attempt(row["id"], row["sending"], row["attempt"]),
        subscriber=Subscriber.parse(row["subscriber"]),
        sequence=row["sequence"],
        kind=ParcelKind(row["kind"]),
        revision=row["revision"],
        submission=row["submission"],
        sender=row["sender"],
        external_id=row["external_id"],
        procedure=row["procedure"],
        received_at=row["received_at"],
        sealed=row["sealed"],
        wrapped_key=row["wrapped"] or b"",
        attachments=tuple(
            stored for stored in attachments_from_json(row["attachments"]) if stored.facts.number in granted
        ),
    )


# --- giving back --------------------------------------------------------------------------------------


def _is_back(page: Page, locked: Mapping[int, asyncpg.Record], worker: str) -> bool:
    """Whether its endpoint, which failed, serves again."""
    row = locked.get(page.lane)
    return row is not None and row["holder"] == worker and row["failures"] > page.standing.failures == 0


async def _hurry(connection: Connection, lanes: Sequence[int]) -> None:
    """What waited for an endpoint that serves again waits no longer: its lane lets through a few at first."""
    if lanes:
        await connection.execute(_HURRY, lanes)


_HURRY = """
    WITH theirs AS MATERIALIZED (
        SELECT id FROM delivery
        WHERE lane = ANY($1::bigint[]) AND due_at > (SELECT clock_timestamp()) AND state = 'waiting'
        ORDER BY id
        FOR UPDATE
    )
    UPDATE delivery SET due_at = clock_timestamp() FROM theirs WHERE delivery.id = theirs.id
"""


async def _give_back(connection: Connection, worker: str, pages: Sequence[Page], kept: timedelta) -> None:
    """In a statement after the locks. Who lost a lane leaves it to its holder, and only makes sure that the rows it
    moved are served."""
    closes = [page.closes or (None, None) for page in pages]
    woken = await connection.fetchval(
        _GIVE_BACK,
        [page.lane for page in pages],
        [page.rest for page in pages],
        [page.standing.at_once for page in pages],
        [page.standing.failures for page in pages],
        [cause for cause, _ in closes],
        [delivery for _, delivery in closes],
        [page.blocked for page in pages],
        worker,
        REMINDER,
        kept,
    )
    # Only when it says something: notifying transactions commit one after the other.
    if woken:
        await connection.execute("NOTIFY lanes")


_GIVE_BACK = """
    WITH told AS MATERIALIZED (
        SELECT lane.id, page.*, COALESCE(lane.holder = $8, false) AS held, lane.moves_at,
               lane.subscriber,
               lane.left_for, lane.fell_back_at, clock.now,
               COALESCE(lane.closed_at, CASE WHEN page.cause IS NOT NULL THEN clock.now END) AS closed,
               CASE WHEN page.rest > interval '0' THEN clock.now + page.rest END AS rests,
               lane.fell_back_at IS NOT NULL AND page.failures = 0 AND lane.failures > 0 AS recovered
        FROM unnest($1::bigint[], $2::interval[], $3::integer[], $4::integer[], $5::text[], $6::uuid[],
                    $7::boolean[]) AS page (lane, rest, at_once, failures, cause, delivery, blocked)
        JOIN lane ON lane.id = page.lane,
        (SELECT clock_timestamp() AS now) AS clock
    ), wake AS MATERIALIZED (
        SELECT told.*, rows.due_at AS rows_due_at,
               CASE
                   WHEN left_for IS NOT NULL AND fell_back_at IS NULL
                       THEN CASE WHEN rows.due_at IS NOT NULL THEN now END
                   WHEN moves_at IS NOT NULL THEN succession_wakes(id)
               END AS moves
        FROM told LEFT JOIN LATERAL (
            SELECT CASE
                WHEN NOT told.blocked OR count(*) = 0 THEN min(due_at)
                -- By what is still to follow from a channel that was left: nobody wakes this lane for it.
                WHEN EXISTS (
                    SELECT FROM lane AS former
                    WHERE former.subscriber = told.subscriber AND former.left_for = told.id
                      AND former.fell_back_at IS NULL AND former.due_at IS NOT NULL
                ) THEN told.now + interval '1 s'
                ELSE COALESCE(min(due_at) FILTER (WHERE due_at > told.now), told.now + $9::interval)
            END AS due_at
            FROM delivery WHERE delivery.lane = told.id AND due_at IS NOT NULL
        ) AS rows ON true
    ), given AS (
        UPDATE lane
        SET due_at = CASE
                WHEN NOT held THEN LEAST(lane.due_at, wake.rows_due_at, wake.moves)
                WHEN wake.rows_due_at IS NULL THEN wake.moves
                WHEN wake.closed IS NOT NULL THEN LEAST(wake.now + $9::interval, wake.moves)
                ELSE LEAST(GREATEST(wake.rows_due_at, wake.rests), wake.moves)
            END,
            rests_until = CASE WHEN held THEN wake.rests ELSE rests_until END,
            at_once = CASE WHEN held THEN wake.at_once ELSE lane.at_once END,
            failures = CASE WHEN held THEN wake.failures ELSE lane.failures END,
            failing_since = CASE
                WHEN NOT held THEN failing_since
                WHEN wake.failures > 0 THEN COALESCE(failing_since, wake.now)
            END,
            left_for = CASE WHEN held AND wake.recovered THEN NULL ELSE lane.left_for END,
            fell_back_at = CASE WHEN held AND wake.recovered THEN NULL ELSE lane.fell_back_at END,
            keeper = CASE WHEN held THEN $8 ELSE keeper END,
            kept_until = CASE WHEN held THEN wake.now + $10::interval ELSE kept_until END,
            closed_at = CASE WHEN held THEN wake.closed ELSE closed_at END,
            closed_cause = COALESCE(closed_cause, CASE WHEN held THEN wake.cause END),
            closed_by = COALESCE(closed_by, CASE WHEN held THEN wake.delivery END),
            lease_until = CASE WHEN held THEN NULL ELSE lease_until END,
            holder = CASE WHEN held THEN NULL ELSE holder END
        FROM wake
        WHERE lane.id = wake.id
        RETURNING lane.due_at, lane.holder
    )
    SELECT count(*) FROM given WHERE holder IS NULL AND due_at <= clock_timestamp()
"""


# --- vendors ------------------------------------------------------------------------------------------

_OF_VENDOR = """
    WITH theirs AS MATERIALIZED (
        SELECT lane.id
        FROM lane JOIN partner USING (subscriber)
        WHERE partner.vendor = $1 AND lane.channel = partner.channel AND lane.channel <> $2
          AND lane.due_at IS NOT NULL AND lane.holder IS NULL AND lane.closed_at IS NULL
          AND lane.left_for IS NULL
        ORDER BY lane.id
        FOR UPDATE OF lane
    )
"""

_REST_VENDOR = f"""
    {_OF_VENDOR}, until AS MATERIALIZED (
        SELECT id, clock_timestamp() + $3::interval + random() * $4::interval AS until FROM theirs
    )
    UPDATE lane SET rests_until = GREATEST(rests_until, until), due_at = GREATEST(due_at, rests_until, until)
    FROM until WHERE lane.id = until.id
    RETURNING lane.id
"""

_WAKE_VENDOR = f"""
    {_OF_VENDOR}
    UPDATE lane
    SET due_at = clock_timestamp() + random() * $3::interval, rests_until = NULL
    FROM theirs WHERE lane.id = theirs.id AND rests_until > clock_timestamp()
    RETURNING lane.id
"""
