"""The hub in pieces on one store and its own log: each role in a process of its own, and each of them killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.journeys.apart import each_killed, town
from tests.journeys.children import hub as command
from tests.journeys.children import is_a_sentence
from tests.journeys.doors import assert_each_has_one_door_on_loopback


async def test_roles_in_processes_of_their_own_account_for_everything_whichever_is_killed(
    fresh_database: Callable[[], str],
) -> None:
    async with town(fresh_database()) as here:
        await assert_each_has_one_door_on_loopback(here.apart)
        await each_killed(here, 600)
        await here.accounted_for()


async def test_a_role_without_a_store_that_others_reach_is_refused_in_a_sentence(tmp_path: Path) -> None:
    told = await command({"HUB_FOLDER": str(tmp_path / "hub")}, "run", "routing")
    assert told.code == 2
    assert is_a_sentence(told)
    assert "HUB_DATABASE_URL" in told.errors
    assert not (tmp_path / "hub").exists()
