"""Evidence: what a partner's server answered is kept sealed beside its attempt, and opened for an operator alone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.evidence import PostgresEvidence
from hub.adapters.postgres.lanes import PostgresLanes
from hub.cli import app
from hub.domain.delivery import About, Attempt, Deferred, Delivered, Outcome
from hub.ports.connector import Parcel
from hub.services.evidence import EvidenceRoom, seal_answer
from hub.telemetry import logs
from tests.conftest import apart
from tests.services.http_world import World, offer, open_world
from tests.services.room_world import (
    ScriptedPartner,
    all_in,
    column,
    decide_all,
    dispatch,
    ports,
    serve_lanes,
)

SAID = "422 Non\n\nDupont, né le 3 mars, a écrit : \x1b[2J".encode()


async def _delivered(world: World, lanes: PostgresLanes) -> UUID:
    """The ministry's delivery, whose server answered in many words at first, and in none later; or the mairie's."""
    assert (await world.post_parts(offer([b"un fichier"]), [b"un fichier"])).status == 202
    partner = ScriptedPartner()
    await decide_all(world, ports(world, partner))

    async def talks(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        return [
            Deferred("webhook.http_422", About.PARCEL, answer=SAID)
            if one.attempt.number == 1
            else Delivered("x")
            for one in parcels
        ]

    partner.conduct = talks
    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}), lambda: all_in(world, "delivered"))
    (found, *_) = await column(world, "SELECT id FROM delivery ORDER BY id")
    assert isinstance(found, UUID)
    return found


async def test_what_was_answered_is_sealed_in_the_line_of_its_attempt_and_nowhere_else(
    database: str, tmp_path: Path
) -> None:
    async with open_world(database, tmp_path) as world:
        lanes = PostgresLanes(world.database)
        delivery = await _delivered(world, lanes)
        kept = await column(world, "SELECT answer FROM journal WHERE sending IS NOT NULL ORDER BY id")
        assert sorted(answer is not None for answer in kept) == [False, False, True, True]
        everything = await column(
            world, "SELECT journal::text || encode(COALESCE(answer, ''), 'escape') FROM journal"
        )
        assert "Dupont" not in str(everything)

        room = EvidenceRoom(PostgresEvidence(world.database), LocalKeyring(bytes(range(32))))
        (answer,) = await room.answers(delivery, "agent", 10)
        assert answer.text == SAID
        assert (answer.told.attempt.number, answer.told.outcome) == (1, "deferred")
        assert "Dupont" not in repr(answer)
        looked = await column(world, "SELECT actor FROM journal WHERE event = 'delivery.answers_read'")
        assert looked == ["operator:agent"]

        stranger = EvidenceRoom(PostgresEvidence(world.database), LocalKeyring(bytes(32)))
        assert [one.text for one in await stranger.answers(delivery, "agent", 10)] == [None]

        await _swap(world)
        assert [one.text for one in await room.answers(delivery, "agent", 10)] == [None], (
            "bound to its attempt"
        )
        await column(world, "DELETE FROM submission_key RETURNING 1")
        assert [one.text for one in await room.answers(delivery, "agent", 10)] == [None], "gone with its key"
        assert await room.answers(UUID(int=0), "agent", 10) == []
        await lanes.close()


def test_an_answer_that_cannot_be_sealed_costs_no_outcome() -> None:
    keyring = LocalKeyring(bytes(range(32)))
    attempt, key = Attempt(UUID(int=1), 1, 1), keyring.fresh().wrapped
    with patch.object(LocalKeyring, "seal", side_effect=ZeroDivisionError(SAID)), capture_logs() as lines:
        assert seal_answer(keyring, key, attempt, SAID) is None
    assert [(line["event"], line["error"]) for line in lines] == [("answer.unsealed", "ZeroDivisionError")]
    assert seal_answer(keyring, key, attempt, SAID) is not None
    assert seal_answer(keyring, b"damaged", attempt, SAID) is None


def test_the_command_shows_what_was_answered_and_gives_the_terminal_no_orders(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deliver() -> UUID:
        async with open_world(database, tmp_path) as world:
            lanes = PostgresLanes(world.database)
            try:
                return await _delivered(world, lanes)
            finally:
                await lanes.close()

    delivery = apart(deliver)
    for name, value in (
        ("DATABASE_URL", database),
        ("FOLDER", str(tmp_path / "hub")),
        ("KEY", base64.b64encode(bytes(range(32))).decode()),
    ):
        monkeypatch.setenv(f"HUB_{name}", value)
    with patch.object(logs, "configure"):
        done = CliRunner().invoke(app, ["deliveries", "answers", str(delivery)])
        nothing = CliRunner().invoke(app, ["deliveries", "answers", str(UUID(int=0))])
    assert done.exit_code == 0, done.output
    assert "sending 1, attempt 1: deferred webhook.http_422\n  422 Non\n" in done.output
    assert "Dupont, né le 3 mars, a écrit : ?[2J" in done.output
    assert nothing.exit_code == 1


async def _swap(world: World) -> None:
    """Each answer to the attempt of the other delivery."""
    await column(
        world,
        """
        UPDATE journal SET answer = other.answer FROM journal AS other
        WHERE journal.answer IS NOT NULL AND other.answer IS NOT NULL AND journal.id <> other.id RETURNING 1
        """,
    )
