"""What every store must hold of the partners an operator declares."""

from __future__ import annotations

import asyncio
import random

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.domain.errors import Superseded
from hub.ports.intake import Intake
from hub.ports.partners import Partners
from hub.ports.registry import Registry
from tests.conformance.samples import (
    WatchedDatabase,
    numbers_by_partner,
    partner,
    routed,
    rows,
    submissions,
    subscriber,
)


async def test_a_partner_is_read_again_as_it_was_kept(partners: Partners) -> None:
    kept = (partner(1, "sftp", host="sftp.exemple", port=22, folders=["a", "b"]), b"sealed", b"wrapped")
    await partners.keep([kept, (partner(2, "mail"), None, None)])
    assert await partners.get(subscriber(1)) == kept
    assert await partners.get(subscriber(2)) == (partner(2, "mail"), None, None)
    assert await partners.get(subscriber(3)) is None


async def test_all_partners_are_listed_by_subscriber(partners: Partners) -> None:
    await partners.keep([(partner(number), None, None) for number in (3, 1, 2)])
    assert [kept[0] for kept in await partners.list()] == [partner(1), partner(2), partner(3)]


async def test_endpoints_are_found_by_the_settings_they_have(partners: Partners) -> None:
    told = [partner(3, "sftp", certificate="c"), partner(1, "mail", ca="a", host="h"), partner(2, "mail")]
    await partners.keep([(one, b"sealed", b"wrapped") for one in told])
    found = await partners.having(["certificate", "ca"])
    assert found == [(one.subscriber, one.endpoint) for one in (told[1], told[0])]
    assert await partners.having([]) == []


async def test_keeping_nothing_changes_nothing(partners: Partners) -> None:
    await partners.keep([(partner(1), None, None)])
    await partners.keep([])
    assert len(await partners.list()) == 1


async def test_keeping_a_partner_again_replaces_all_but_its_running_number(
    partners: Partners, intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(3))
    await partners.keep([(partner(1, "sftp", host="a"), b"sealed", b"wrapped")])
    await registry.register([routed(number, [1]) for number in range(2)])
    for _ in range(2):
        await partners.keep([(partner(1, "webhook", url="b"), None, None)])
    assert await partners.get(subscriber(1)) == (partner(1, "webhook", url="b"), None, None)
    await registry.register([routed(2, [1])])
    assert await numbers_by_partner(database) == {str(subscriber(1)): [1, 2, 3]}


async def test_a_partner_kept_as_it_stands_is_not_written_again(
    partners: Partners, database: Database
) -> None:
    versions = "SELECT xmin::text FROM partner ORDER BY subscriber"
    first = (partner(1, "sftp", host="a"), b"sealed", b"wrapped")
    await partners.keep([first, (partner(2), None, None)])
    before = await rows(database, versions)
    await partners.keep([first, (partner(2, "mail"), None, None)])
    after = await rows(database, versions)
    assert before[0] == after[0]
    assert before[1] != after[1]


async def test_partners_are_replaced_all_or_none_from_what_was_seen_of_them(partners: Partners) -> None:
    first, second = (partner(1, "sftp", host="a"), b"sealed", b"wrapped"), (partner(2), None, None)
    await partners.replace([(None, first), (None, second)])
    moved = (partner(1, "sftp", host="b"), b"sealed", b"wrapped")
    other = (partner(1, "sftp", host="c"), b"sealed", b"wrapped")
    await partners.replace([(first, moved)])
    for seen in (first, None, (moved[0], b"other", b"wrapped")):
        with pytest.raises(Superseded):
            await partners.replace([(second, (partner(2, "mail"), None, None)), (seen, other)])
    assert list(await partners.list()) == [moved, second]


async def test_of_two_who_replace_at_once_one_is_told_to_look_again(partners: Partners) -> None:
    first = (partner(1), None, None)
    after = [(partner(1, "sftp", host=str(number)), None, None) for number in range(8)]
    for seen in (None, first):
        if seen is not None:
            await partners.keep([seen])
        told = await asyncio.gather(
            *(partners.replace([(seen, one)]) for one in after), return_exceptions=True
        )
        assert sum(answer is None for answer in told) == 1
        assert all(answer is None or isinstance(answer, Superseded) for answer in told)


async def test_what_is_registered_after_a_channel_changed_goes_to_the_new_one_and_the_old_lane_is_left_for_it(
    partners: Partners, intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(2))
    await partners.keep([(partner(1, "sftp"), None, None)])
    await registry.register([routed(0, [1])])
    await partners.keep([(partner(1, "webhook"), None, None)])
    await registry.register([routed(1, [1])])
    found = await rows(
        database,
        "SELECT delivery.channel AS delivery, lane.channel AS lane FROM delivery JOIN lane ON lane.id = lane"
        " ORDER BY sequence",
    )
    assert [tuple(row) for row in found] == [("sftp", "sftp"), ("webhook", "webhook")]
    left = await rows(
        database,
        "SELECT lane.channel, other.channel FROM lane JOIN lane AS other ON other.id = lane.left_for",
    )
    assert [tuple(row) for row in left] == [("sftp", "webhook")]


async def test_a_partner_that_was_registered_for_before_it_was_declared_keeps_its_number(
    partners: Partners, intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(2))
    await registry.register([routed(0, [1])])
    kept = await partners.get(subscriber(1))
    assert kept is not None
    assert (kept[0].name, kept[0].endpoint.channel) == (str(subscriber(1)), "mailbox")
    await partners.keep([(partner(1, "sftp"), None, None)])
    await registry.register([routed(1, [1])])
    assert await numbers_by_partner(database) == {str(subscriber(1)): [1, 2]}


async def test_declaring_and_registering_at_once_never_deadlocks_nor_loses_a_number(fresh_dsn: str) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    intake, partners, registry = (
        PostgresIntake(database),
        PostgresPartners(database),
        PostgresRegistry(database),
    )
    await intake.accept(submissions(120))

    async def declare(seed: int) -> None:
        order = random.Random(seed).sample(range(20), 20)
        for channel in ("sftp", "webhook", "mail"):
            await partners.keep([(partner(one, channel), None, None) for one in order])

    async def decide(seed: int) -> None:
        dice = random.Random(seed)
        for start in range(0, 120, 30):
            names = dice.sample(range(start, start + 30), 30)
            await registry.register([routed(name, [name % 20, (name * 7 + 1) % 20]) for name in names])

    await asyncio.gather(*(declare(seed) for seed in range(4)), *(decide(seed) for seed in range(4)))
    for numbers in (await numbers_by_partner(database)).values():
        assert numbers == list(range(1, len(numbers) + 1))
    assert await database.deadlocks() == 0
