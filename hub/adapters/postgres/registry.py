"""Registration: decisions become rows, and their recipients become planned deliveries in lanes.

Business of this file: each decision once, each delivery once, and for each partner the numbers 1, 2, 3 …
without a gap, whoever registers at the same time. Whether a decision is right is not asked here.

The locks, always in this order, each sorted by key: submissions (so that nobody else registers for the
same ones), lanes, partners (whose rows give the numbers). Which deliveries are new is decided under the
first of them; so a number is only ever taken for a row that is then inserted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from hub.adapters.postgres.addresses import Address, Wanted, find_addresses
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.planning import Planned, decided_line, insert_decisions, plan, planned_line
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.sendings import lock_deliveries, plan_again
from hub.domain.decisions import FIRST, Decision
from hub.domain.lifecycle import State
from hub.domain.redecision import ENDED
from hub.ports.registry import Registered

_Key = tuple[UUID, int]
"""A decision's name: its submission and its number."""


class PostgresRegistry:
    """Implements `hub.ports.registry.Registry`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, decisions: Sequence[Decision]) -> Registered:
        # The log may repeat a record within one batch: the first of a name stands.
        named: dict[_Key, Decision] = {}
        for decision in decisions:
            named.setdefault((decision.submission, decision.number), decision)
        if not named:
            return Registered(0, 0, 0)

        async def work(connection: Connection) -> Registered:
            procedures = await _lock_submissions(connection, {submission for submission, _ in named})
            strays = [key for key in named if key[0] not in procedures]
            await _keep_strays(connection, strays)
            known = [decision for decision in named.values() if decision.submission in procedures]
            fresh = await insert_decisions(connection, known)
            # One that comes after a newer one is kept, and plans nothing.
            newest = [decision for decision, is_newest in fresh if is_newest]
            planned, back = await _to_plan(connection, newest, procedures)
            found = await find_addresses(connection, {one.wanted for one in planned}) if planned else {}
            # Before the lanes are locked: whoever delivers waits for as little as possible.
            await write_journal(connection, _lines([one for one, _ in fresh], planned, found))
            if planned or back:
                locked = await lock_deliveries(connection, back, beside=set(found.values()))
                await plan(connection, planned, found, locked.lanes)
                again = [name for name, row in locked.rows.items() if State(row["state"]) in ENDED]
                await plan_again(connection, locked, again)
                await write_journal(
                    connection, [_back_line(locked.rows[name]["submission"], name) for name in again]
                )
            return Registered(len(fresh), len(planned), len(strays))

        return await self._database.run(work)


def _lines(
    decisions: Sequence[Decision], planned: Sequence[Planned], found: Mapping[Wanted, Address]
) -> list[JournalEntry]:
    """That a submission was routed, the lines of what is planned for it say."""
    told = {decision.submission: decision for decision in sorted(decisions, key=lambda one: one.number)}
    routed = {one.submission for one in planned}
    return [
        *(
            decided_line(one)
            for one in decisions
            if one.submission not in routed or one is not told[one.submission]
        ),
        *(planned_line(one, found[one.wanted], detail=_by(told[one.submission])) for one in planned),
    ]


def _by(decision: Decision) -> str:
    return f", by decision {decision.number} of rule book {decision.snapshot}"


async def _lock_submissions(connection: Connection, ids: Collection[UUID]) -> dict[UUID, str]:
    """The procedure of each submission that is there."""
    rows = await connection.fetch(
        "SELECT id, procedure FROM submission WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE",
        list(ids),
    )
    return {row["id"]: row["procedure"] for row in rows}


async def _keep_strays(connection: Connection, keys: Sequence[_Key]) -> None:
    if not keys:
        return
    ordered = sorted(keys)
    await connection.execute(
        """
        INSERT INTO stray (submission, number) SELECT * FROM unnest($1::uuid[], $2::integer[])
        ON CONFLICT DO NOTHING
        """,
        [submission for submission, _ in ordered],
        [number for _, number in ordered],
    )


async def _to_plan(
    connection: Connection, decisions: Iterable[Decision], procedures: Mapping[UUID, str]
) -> tuple[list[Planned], list[UUID]]:
    """The deliveries these decisions name for the first time, and those that a later decision names again after
    they were withdrawn or had expired. Under the lock of their submissions, and in a statement after it: nobody
    else can be inserting them, and whoever did has committed."""
    found: dict[UUID, Planned] = {}
    renamed: set[UUID] = set()
    for decision in decisions:
        for delivery, recipient in decision.named():
            wanted = Wanted(str(recipient.subscriber), recipient.mailbox)
            procedure = procedures[decision.submission]
            found.setdefault(delivery, Planned(decision.submission, procedure, delivery, recipient, wanted))
            if decision.number > FIRST:
                renamed.add(delivery)
    if not found:
        return [], []
    rows = await connection.fetch("SELECT id, state FROM delivery WHERE id = ANY($1::uuid[])", list(found))
    there = {row["id"]: State(row["state"]) for row in rows}
    back = [name for name, state in there.items() if name in renamed and state in ENDED]
    return [planned for name, planned in found.items() if name not in there], back


def _back_line(submission: UUID, delivery: UUID) -> JournalEntry:
    return JournalEntry("delivery.sent_again", submission, delivery, detail="a newer decision names it again")
