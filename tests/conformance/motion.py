"""Deliveries set in motion, steps of a worker, and what must hold of lanes whatever happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from uuid import UUID

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.views import PostgresViews
from hub.domain.circuit import UNKNOWN
from hub.domain.circuit import Standing as Endpoint
from hub.domain.delivery import Attempt, Conclusion, Deferred, Delivered, Refused
from hub.domain.lifecycle import State
from hub.ports.lanes import Claim, Page
from hub.services.reconciliation import differences
from tests.conformance.samples import numbers_by_partner, partner, routed, rows, submission

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)


async def plant(
    database: Database,
    numbers: Sequence[int],
    to: Sequence[int] = (1,),
    channel: str = "sftp",
    *,
    mailbox: bool = False,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> list[UUID]:
    """Accept these submissions and register a delivery of each for each of these partners, whose channel is
    `channel`, with these settings. The deliveries' names, by submission, then partner."""
    await PostgresIntake(database).accept([submission(number) for number in numbers])
    await PostgresPartners(database).keep([(partner(one, channel, **settings), None, None) for one in to])
    decisions = [routed(number, to, mailbox=mailbox) for number in numbers]
    await PostgresRegistry(database).register(decisions)
    named = await rows(
        database,
        "SELECT id FROM delivery WHERE submission = ANY($1::uuid[])"
        " ORDER BY array_position($1::uuid[], submission), subscriber",
        [submission(number).id for number in numbers],
    )
    return [row["id"] for row in named]


async def lease_one(lanes: PostgresLanes, worker: str, length: timedelta = MINUTE) -> int:
    """The only lane that is due."""
    [lane] = await lanes.lease(worker, 10, length)
    return lane.id


async def conclude(
    lanes: PostgresLanes,
    worker: str,
    lane: int,
    conclusions: Sequence[Conclusion],
    rest: timedelta = NOW,
    standing: Endpoint = UNKNOWN,
) -> Sequence[UUID]:
    """One page of one lane."""
    return await lanes.conclude(worker, [Page(lane, tuple(conclusions), rest, standing)])


async def take(
    lanes: PostgresLanes, worker: str, *, lease: timedelta = MINUTE
) -> tuple[int, Sequence[Claim]]:
    """Lease the only lane that is due and claim what is due in it."""
    lane = await lease_one(lanes, worker, lease)
    return lane, await lanes.claim(worker, lane, 100)


async def park(database: Database, cause: str = "sftp.denied") -> None:
    """Everything that is due, in one attempt."""
    lanes = PostgresLanes(database)
    for lane in await lanes.lease("parker", 1000, MINUTE):
        claims = await lanes.claim("parker", lane.id, 1000)
        await conclude(lanes, "parker", lane.id, [refused(claim.attempt, cause) for claim in claims])


def delivered(attempt: Attempt, receipt: str = "/depot/1") -> Conclusion:
    return Conclusion(attempt, State.DELIVERED, Delivered(receipt))


def waiting(attempt: Attempt, wait: timedelta = MINUTE, cause: str = "sftp.timeout") -> Conclusion:
    return Conclusion(attempt, State.WAITING, Deferred(cause), wait)


def refused(attempt: Attempt, cause: str = "sftp.denied") -> Conclusion:
    return Conclusion(attempt, State.PARKED, Refused(cause))


@dataclass(frozen=True, slots=True)
class Standing:
    """A delivery's row."""

    state: State
    sending: int
    attempt: int
    cause: str | None
    due_in: float | None


async def standing(database: Database, delivery: UUID) -> Standing:
    [row] = await rows(
        database,
        "SELECT state, sending, attempt, cause,"
        " EXTRACT(EPOCH FROM due_at - clock_timestamp())::float8 AS due_in FROM delivery WHERE id = $1",
        delivery,
    )
    return Standing(State(row["state"]), row["sending"], row["attempt"], row["cause"], row["due_in"])


async def attempts(database: Database, delivery: UUID) -> list[tuple[int, int, str | None, bool]]:
    """(sending, number, outcome, whether it ended), in order."""
    [row] = await rows(database, "SELECT submission FROM delivery WHERE id = $1", delivery)
    seen = await PostgresViews(database).submission(row["submission"])
    assert seen is not None
    return [
        (one.sending, one.number, one.outcome, one.ended_at is not None)
        for view in seen.deliveries
        if view.id == delivery
        for one in view.attempts
    ]


async def lane_due_in(database: Database, lane: int) -> float | None:
    """Seconds until the lane's due time; None: it sleeps."""
    [row] = await rows(
        database,
        "SELECT EXTRACT(EPOCH FROM due_at - clock_timestamp())::float8 AS due_in FROM lane WHERE id = $1",
        lane,
    )
    seconds: float | None = row["due_in"]
    return seconds


async def journal(database: Database, event: str) -> list[tuple[UUID, str, str]]:
    """(delivery, actor, detail) of each line about this event, in order."""
    found = await rows(
        database, "SELECT delivery, actor, detail FROM journal WHERE event = $1 ORDER BY id", event
    )
    return [(row["delivery"], row["actor"], row["detail"]) for row in found]


async def assert_sound(database: Database) -> None:
    """Nothing forgotten, no gap in anybody's numbers, and the accounts balance."""
    await assert_nothing_is_forgotten(database)
    for numbers in (await numbers_by_partner(database)).values():
        assert numbers == list(range(1, len(numbers) + 1))
    assert differences(await PostgresLedger(database).accounts()) == []


async def assert_nothing_is_forgotten(database: Database) -> None:
    """Every row in motion has a due time and lies in a lane that wakes for it: not later than the row is
    due, or, while a worker holds the lane, at the end of its lease, or when the lane has rested; a closed one within a
    day."""
    wrong = await rows(
        database,
        """
        SELECT delivery.id, delivery.state, delivery.due_at, lane.due_at, lane.holder, lane.lease_until
        FROM delivery LEFT JOIN lane ON lane.id = delivery.lane
        WHERE (delivery.state IN ('planned', 'in_flight', 'waiting')
               AND (delivery.due_at IS NULL OR lane.due_at IS NULL
                    OR lane.due_at > GREATEST(delivery.due_at, lane.lease_until, lane.rests_until,
                        CASE WHEN lane.closed_at IS NOT NULL THEN clock_timestamp() + interval '1 day' END)))
           OR (delivery.state NOT IN ('planned', 'in_flight', 'waiting') AND delivery.due_at IS NOT NULL)
        """,
    )
    assert not wrong
    half_held = await rows(
        database,
        "SELECT id FROM lane"
        " WHERE (holder IS NULL) <> (lease_until IS NULL) OR (holder IS NOT NULL AND due_at IS NULL)",
    )
    assert not half_held
