"""`hub replay` and `hub deliveries` on a real store: tried, ordered, approved by another, shown, by hand."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.replays import PostgresReplays
from hub.cli import app, replaying
from hub.domain.decisions import Recipient, Routed
from hub.ports.replays import TodaysRules
from hub.telemetry import logs
from tests.conformance.motion import park, plant
from tests.conformance.samples import delivery, execute, subscriber
from tests.conftest import Result, apart
from tests.unit.samples import BONNEVILLE


@pytest.fixture
def told(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """A command and what came of it: its exit code and what it printed."""
    for name, value in (
        ("DATABASE_URL", database),
        ("FOLDER", str(tmp_path / "hub")),
        ("REPLAY_APPROVAL", "2"),
        ("LOG_FORMAT", "json"),
        ("KEY", base64.b64encode(bytes(32)).decode()),
    ):
        monkeypatch.setenv(f"HUB_{name}", value)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str, by: str = "jeanne") -> tuple[int, str]:
        monkeypatch.setattr(replaying, "operator", lambda: by)
        # The test's own process is no command: its logs stay as they are.
        with patch.object(logs, "configure"):
            done = CliRunner().invoke(app, list(words))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


def on(dsn: str, work: Callable[[Database], Awaitable[Result]]) -> Result:
    async def carry() -> Result:
        database = await Database.open(dsn)
        try:
            return await work(database)
        finally:
            await database.close()

    return apart(carry)


def parked(dsn: str, numbers: Sequence[int]) -> None:
    async def work(database: Database) -> None:
        await plant(database, numbers)
        await park(database)

    on(dsn, work)


def id_in(text: str) -> str:
    found = re.search(r"replay ([0-9a-f-]{36})", text)
    assert found, text
    return found[1]


def test_a_large_order_is_counted_first_given_and_approved_by_another_operator(
    database: str, told: Callable[..., tuple[int, str]]
) -> None:
    parked(database, range(3))
    words = ("replay", "--cause", "sftp.denied", "--procedure", "EtatCivil")
    code, text = told(*words, "--dry-run")
    assert (code, text.count("\n")) == (0, 4)
    assert "3 deliveries, 0.0 MB" in text
    code, text = told(*words, "--reason", "serveur réparé", "--rate", "1000")
    assert (code, "another operator must approve it" in text) == (0, True)
    id = id_in(text)
    code, text = told("replay", "approve", id)
    assert (code, "another operator than its author" in text) == (1, True)
    assert told("replay", "approve", id, by="paul")[0] == 0
    assert on(database, lambda opened: PostgresReplays(opened).send_again(1)) == 1
    assert told("replay", "pause", id)[0] == 0
    assert on(database, lambda opened: PostgresReplays(opened).send_again(10)) == 0
    code, text = told("replay", "show", id, "--json")
    shown = json.loads(text)
    assert (shown["state"], shown["sent"], shown["pending"]) == ("paused", 1, 2)
    assert (shown["author"], shown["approved_by"], shown["selection"]["cause"]) == (
        "jeanne",
        "paul",
        "sftp.denied",
    )
    code, text = told("replay", "list")
    assert (code, id in text) == (0, True)
    assert told("replay", "cancel", id)[0] == 0
    assert told("replay", "resume", id)[0] == 1


def test_what_was_disclosed_is_shown_after_deciding_anew(
    database: str, told: Callable[..., tuple[int, str]]
) -> None:
    parked(database, [0])

    async def delivered(opened: Database) -> None:
        await execute(opened, "UPDATE delivery SET state = 'delivered', cause = NULL")

    async def today() -> TodaysRules:
        return TodaysRules(9, lambda _: Routed((Recipient(subscriber(2), (1,), ()),)))

    on(database, delivered)
    code, text = told("replay", "--of", "submissions", "--state", "routed", "--reason", "plan corrigé")
    assert code == 0, text
    assert on(database, lambda opened: PostgresReplays(opened).send_again(10, today)) == 1
    code, text = told("replay", "show", id_in(text))
    assert (code, str(delivery(0, 1)) in text, "disclosed 1" in text) == (0, True, True)


def test_a_delivery_is_rerouted_by_hand_and_a_partner_that_is_not_there_is_told(
    database: str, told: Callable[..., tuple[int, str]]
) -> None:
    parked(database, [0])
    words = ("deliveries", "reroute", str(delivery(0, 1)), "--reason", "mauvaise mairie", "--to")
    code, text = told(*words, str(BONNEVILLE))
    assert (code, "there is no such partner here" in text) == (2, True)

    async def declare(opened: Database) -> None:
        await execute(
            opened,
            f"INSERT INTO partner (subscriber, name, channel) VALUES ('{BONNEVILLE}', 'Bonneville', 'mailbox')",
        )

    on(database, declare)
    code, text = told(*words, str(BONNEVILLE))
    assert (code, "decision 2 by hand" in text) == (0, True), text
    code, text = told("deliveries", "--state", "withdrawn")
    assert (code, str(delivery(0, 1)) in text) == (0, True)


def test_the_operator_is_the_account_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = replaying.operator()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "quelqu'un d'autre")
    assert replaying.operator() == before
