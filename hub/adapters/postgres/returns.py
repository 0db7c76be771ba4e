"""Giving lanes back: when each is due next, and how its endpoint stands.

Business of this file: that a lane with rows has a due time, whoever put rows into it meanwhile. In statements after the
locks of the lanes, so what was registered before them is seen, and what comes after lowers what is written here.

What waited for an endpoint that serves again waits no longer: its lane is marked, and what it had then goes by that
mark (`hurried_to`, unless it was put off after `hurried_at`), not by its own due times. No row is written for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hub.adapters.postgres.addresses import REMINDER
from hub.adapters.postgres.database import Connection
from hub.ports.lanes import Page


async def give_back(connection: Connection, worker: str, pages: Sequence[Page], kept: timedelta) -> None:
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
               page.failures = 0 AND lane.failures > 0 AS back,
               CASE
                   WHEN page.failures > 0 THEN NULL
                   -- The latest that waits there; what this page put off is later than this transaction's beginning.
                   WHEN lane.failures > 0 THEN (SELECT max(due_at) FROM delivery WHERE delivery.lane = lane.id)
                   ELSE lane.hurried_to
               END AS hurried_to,
               CASE WHEN lane.failures > 0 THEN now() ELSE lane.hurried_at END AS hurried_at
        FROM unnest($1::bigint[], $2::interval[], $3::integer[], $4::integer[], $5::text[], $6::uuid[],
                    $7::boolean[]) AS page (lane, rest, at_once, failures, cause, delivery, blocked)
        JOIN lane ON lane.id = page.lane,
        (SELECT clock_timestamp() AS now) AS clock
    ), wake AS MATERIALIZED (
        SELECT told.*, rows.first_due_at IS NOT NULL AND hurry.waits AS hurries,
               CASE
                   WHEN told.blocked AND rows.first_due_at IS NOT NULL THEN blocked_until
                   WHEN hurry.waits THEN LEAST(rows.first_due_at, told.now)
                   ELSE rows.first_due_at
               END AS rows_due_at,
               CASE
                   WHEN left_for IS NOT NULL AND fell_back_at IS NULL
                       THEN CASE WHEN rows.first_due_at IS NOT NULL THEN now END
                   WHEN moves_at IS NOT NULL THEN succession_wakes(id)
               END AS moves
        FROM told
        LEFT JOIN LATERAL (
            SELECT min(due_at) AS first_due_at FROM delivery WHERE delivery.lane = told.id AND due_at IS NOT NULL
        ) AS rows ON true
        LEFT JOIN LATERAL (
            SELECT true AS waits FROM delivery
            WHERE delivery.lane = told.id AND due_at <= told.hurried_to AND changed_at < told.hurried_at
            LIMIT 1
        ) AS hurry ON told.hurried_to > told.now
        LEFT JOIN LATERAL (
            SELECT CASE
                -- By what is still to follow from a channel that was left: nobody wakes this lane for it.
                WHEN EXISTS (
                    SELECT FROM lane AS former
                    WHERE former.subscriber = told.subscriber AND former.left_for = told.id
                      AND former.fell_back_at IS NULL AND former.due_at IS NOT NULL
                ) THEN told.now + interval '1 s'
                ELSE COALESCE((
                    SELECT min(due_at) FROM delivery WHERE delivery.lane = told.id AND due_at > told.now
                ), told.now + $9::interval)
            END AS blocked_until
        ) AS blocking ON told.blocked
    ), given AS (
        UPDATE lane
        SET due_at = CASE
                WHEN NOT held THEN LEAST(lane.due_at, wake.rows_due_at, wake.moves)
                WHEN wake.rows_due_at IS NULL THEN wake.moves
                WHEN wake.closed IS NOT NULL THEN LEAST(wake.now + $9::interval, wake.moves, (
                    -- At its reminder it falls back, if it failed for long enough: not a day later than that.
                    SELECT falls_at FROM partner, LATERAL (
                        SELECT COALESCE(LEAST(lane.failing_since, wake.closed), wake.now)
                            + (pace -> 'fallback' ->> 'after')::float8 * interval '1 s' AS falls_at
                    ) AS fallback
                    WHERE partner.subscriber = lane.subscriber AND falls_at > wake.now
                      AND lane.channel = partner.channel AND lane.fell_back_at IS NULL
                ))
                ELSE LEAST(GREATEST(wake.rows_due_at, wake.rests), wake.moves)
            END,
            rests_until = CASE WHEN held THEN wake.rests ELSE rests_until END,
            at_once = CASE WHEN held THEN wake.at_once ELSE lane.at_once END,
            failures = CASE WHEN held THEN wake.failures ELSE lane.failures END,
            failing_since = CASE
                WHEN NOT held THEN failing_since
                WHEN wake.failures > 0 THEN COALESCE(failing_since, wake.now)
            END,
            left_for = CASE WHEN held AND wake.back AND lane.fell_back_at IS NOT NULL THEN NULL ELSE lane.left_for END,
            fell_back_at = CASE WHEN held AND wake.back THEN NULL ELSE lane.fell_back_at END,
            hurried_to = CASE WHEN NOT held THEN lane.hurried_to WHEN wake.hurries THEN wake.hurried_to END,
            hurried_at = CASE WHEN NOT held THEN lane.hurried_at WHEN wake.hurries THEN wake.hurried_at END,
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
