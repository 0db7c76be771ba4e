"""A small journey whose process is killed before and after each call of every port, and a longer one killed at random:
nothing is lost, the accounts are even, and each partner has each delivery under one name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest

from tests.conftest import Databases
from tests.journeys.mortal import Job

AT_ONCE = 8

_BY_THE_CLOCK = (".wait", ".next_due", ".renew")
"""Calls that come, or do not, by how long others take: a lease is renewed where a page took a third of it."""


@dataclass(slots=True)
class Mortals:
    """Jobs that are given to one process, several at a time."""

    process: subprocess.Popen[str]
    databases: Databases
    folder: Path
    given: int = 0
    running: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)

    def give(self, submissions: int, *falls: str, back: bool = False) -> None:
        if self.running == AT_ONCE:
            self.hear()
        self.given += 1
        self.running += 1
        folder = self.folder / str(self.given)
        folder.mkdir()
        assert self.process.stdin is not None
        job = Job(self.databases.make(), str(folder), submissions, falls, back)
        self.process.stdin.write(json.dumps(asdict(job)) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process that forks has ended"
        self.running -= 1
        self.told.append(json.loads(line))
        return self.told[-1]

    def hear_all(self) -> list[dict[str, Any]]:
        while self.running:
            self.hear()
        return self.told


@contextmanager
def _mortals(postgres_dsn: str, template: str) -> Iterator[Mortals]:
    databases = Databases(postgres_dsn, template)
    folder = Path(tempfile.mkdtemp(prefix="hub-killed-", dir="/tmp"))
    words = [sys.executable, "-m", "tests.journeys.mortal"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Mortals(process, databases, folder)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(60)
        databases.drop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mortals(postgres_dsn: str, database_template: str) -> Iterator[Mortals]:
    with _mortals(postgres_dsn, database_template) as found:
        yield found


def _wrong(told: Sequence[dict[str, Any]]) -> list[str]:
    return [f"killed {one['falls']} at {one['last']}: {wrong}" for one in told for wrong in one["wrong"]]


def _fell(told: Sequence[dict[str, Any]]) -> set[str]:
    return {one["last"][0] for one in told} - {None}


@pytest.mark.parametrize(
    "step",
    [
        # Before one call is nearly after the one before it: one of the two at each call is enough each day.
        pytest.param(2, id="at-each"),
        pytest.param(1, id="before-and-after-each", marks=pytest.mark.slow),
    ],
)
def test_wherever_the_process_is_killed_the_next_one_ends_the_journey(mortals: Mortals, step: int) -> None:
    mortals.give(2)
    whole = mortals.hear()
    assert not whole["wrong"]
    calls = whole["calls"]
    print(f"{len(calls)} calls: {' '.join(calls)}")
    falls = [f"{when} {number}" for number in range(1, len(calls) + 1) for when in ("before", "after")]
    for place in range(0, len(falls), step):
        # The first of one call, the second of the next.
        mortals.give(2, falls[place + (place // 2 % 2 if step == 2 else 0)])
    mortals.hear_all()
    # What is done while waiting comes once more or less often, and moves the others by one: each other kind of call
    # is to be met.
    kinds = {call for call in calls if not call.endswith(_BY_THE_CLOCK)}
    for _ in range(3):
        for kind in kinds - _fell(mortals.told[1:]):
            place = calls.index(kind) + 1
            for number in range(place - 2, place + 3):
                mortals.give(2, f"before {max(number, 1)}")
        mortals.hear_all()
    told = mortals.told[1:]
    assert not _wrong(told)
    assert kinds <= _fell(told)
    assert sum(one["last"][0] is not None for one in told) >= 0.8 * len(told)


def test_wherever_the_process_is_killed_on_the_way_back_each_event_is_kept_and_sent_once(
    mortals: Mortals,
) -> None:
    mortals.give(1, back=True)
    whole = mortals.hear()
    assert not whole["wrong"]
    # Each report is looked for, its file stored, and kept: before each, and after what is then durable.
    calls = whole["calls"]
    ahead = calls.index("PostgresLanes.take") + 1
    for number in range(1, ahead + 1):
        mortals.give(1, f"before {number}", f"after {number}", back=True)
    told = mortals.hear_all()[1:]
    assert not _wrong(told)
    assert {"PostgresEvents.keep", "LocalAttachments.put"} <= _fell(told)


def test_a_longer_journey_that_is_killed_again_and_again_comes_to_its_end(mortals: Mortals) -> None:
    seed = SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    dice = Random(seed)
    for _ in range(4):
        falls = [f"{dice.choice(['before', 'after'])} {dice.randint(1, 80)}" for _ in range(6)]
        mortals.give(20, *falls)
    told = mortals.hear_all()
    assert not _wrong(told), seed
    assert any(call is not None for one in told for call in one["last"]), seed
