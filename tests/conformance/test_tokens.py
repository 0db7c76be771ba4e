"""What tokens must hold: known by their secret alone, kept as a hash, and no text can break them."""

from __future__ import annotations

import asyncio
import hmac
import re
from datetime import UTC, datetime, timedelta

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.tokens import PostgresTokens
from hub.domain.identity import Subscriber
from hub.ports.tokens import Identity, OperatorIdentity, PartnerIdentity, Role, SenderIdentity
from tests.conformance.samples import WatchedDatabase, execute, rows

YEAR = timedelta(days=365)
SENDER = SenderIdentity("essai-osl", frozenset({"EtatCivil", "Aide"}))
PARTNER = PartnerIdentity(Subscriber("21640445900017", "64445"))
OPERATOR = OperatorIdentity("jeanne", Role.APPROVER)


@pytest.fixture
def tokens(database: Database) -> PostgresTokens:
    return PostgresTokens(database)


@pytest.mark.parametrize("identity", [SENDER, PARTNER, OPERATOR])
async def test_a_token_tells_whose_it_is(tokens: PostgresTokens, identity: Identity) -> None:
    assert await tokens.identify(await tokens.create(identity, YEAR)) == identity


async def test_a_token_has_one_shape_and_each_is_another(tokens: PostgresTokens) -> None:
    made = [await tokens.create(OPERATOR, YEAR) for _ in range(20)]
    assert len(set(made)) == 20
    assert all(re.fullmatch(r"hub_[0-9a-z]{12}_[A-Za-z0-9_-]{43}", token) for token in made)


async def test_the_secret_of_a_token_is_kept_nowhere(database: Database, tokens: PostgresTokens) -> None:
    token = await tokens.create(SENDER, YEAR)
    await tokens.identify(token)
    secret = token[17:]
    [row] = await rows(database, "SELECT token::text AS all, encode(hash, 'escape') AS hash FROM token")
    assert secret not in row["all"]
    assert secret not in row["hash"]
    assert all(secret not in repr(view) for view in await tokens.list())


async def test_a_wrong_secret_is_nobody_s_and_another_s_secret_too(tokens: PostgresTokens) -> None:
    one, other = [await tokens.create(SENDER, YEAR) for _ in range(2)]
    assert await tokens.identify(one[:17] + other[17:]) is None
    assert await tokens.identify(one[:-1] + ("A" if one[-1] != "A" else "B")) is None
    assert await tokens.identify("hub_" + "0" * 12 + one[16:]) is None


async def test_a_token_is_nobody_s_once_it_has_expired(tokens: PostgresTokens) -> None:
    assert await tokens.identify(await tokens.create(SENDER, timedelta(0))) is None
    assert await tokens.identify(await tokens.create(SENDER, timedelta(minutes=1))) == SENDER


async def test_a_revoked_token_is_nobody_s_and_stays_in_the_list(tokens: PostgresTokens) -> None:
    token = await tokens.create(SENDER, YEAR)
    kept = await tokens.create(SENDER, YEAR)
    id = token[4:16]
    assert await tokens.revoke(id)
    assert await tokens.identify(token) is None
    assert await tokens.identify(kept) == SENDER
    first = [view.revoked_at for view in await tokens.list()]
    assert first[0] is not None
    assert first[1] is None
    assert await tokens.revoke(id)
    assert [view.revoked_at for view in await tokens.list()] == first


@pytest.mark.parametrize("id", ["", "0" * 12, "a\0b", "' OR true --", "x" * 1_000_000, "é" * 12])
async def test_revoking_what_is_not_there_says_so(tokens: PostgresTokens, id: str) -> None:
    await tokens.create(SENDER, YEAR)
    assert not await tokens.revoke(id)
    assert [view.revoked_at for view in await tokens.list()] == [None]


async def test_the_list_shows_what_is_known_of_each(tokens: PostgresTokens) -> None:
    made = [await tokens.create(identity, YEAR) for identity in (SENDER, PARTNER, OPERATOR)]
    await tokens.identify(made[1])
    seen = await tokens.list()
    assert [view.identity for view in seen] == [SENDER, PARTNER, OPERATOR]
    assert [view.id for view in seen] == [token[4:16] for token in made]
    assert [view.last_used_at is not None for view in seen] == [False, True, False]
    assert abs(seen[0].expires_at - seen[0].created_at - YEAR) < timedelta(seconds=1)
    assert abs(seen[0].created_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_the_last_use_is_noted_at_most_once_a_minute(
    database: Database, tokens: PostgresTokens
) -> None:
    token = await tokens.create(SENDER, YEAR)
    await asyncio.gather(*(tokens.identify(token) for _ in range(10)))
    first = (await tokens.list())[0].last_used_at
    await tokens.identify(token)
    assert (await tokens.list())[0].last_used_at == first
    await execute(database, "UPDATE token SET last_used_at = last_used_at - interval '61 seconds'")
    await tokens.identify(token)
    last = (await tokens.list())[0].last_used_at
    assert first is not None
    assert last is not None
    assert last >= first


async def test_a_refused_token_leaves_no_trace_of_use(tokens: PostgresTokens) -> None:
    token = await tokens.create(SENDER, YEAR)
    await tokens.identify(token[:17] + "A" * 43)
    assert (await tokens.list())[0].last_used_at is None


_REAL = "hub_0123456789ab_" + "A" * 43


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hub__",
        "hub_0123456789ab_",
        "hub_0123456789ab_" + "A" * 42,
        _REAL + "A",
        _REAL + "\n",
        " " + _REAL,
        _REAL.upper(),
        "hub_0123456789a\0_" + "A" * 43,
        "hub_0123456789ab_" + "A" * 42 + "\0",
        "hub_0123456789ab_" + "A" * 42 + "é",
        "hub_٠١٢٣٤٥٦٧٨٩٠١_" + "A" * 43,
        "hub_0123456789ab_" + "A" * 42 + "\ud800",
        "hub_' OR 1=1;--_" + "A" * 43,
        "hub_" * 1_000_000,
        "A" * 5_000_000,
        "\0" * 5_000_000,
    ],
)
async def test_a_text_of_another_shape_is_nobody_s_and_never_reaches_the_database(
    fresh_dsn: str, text: str
) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    assert await PostgresTokens(database).identify(text) is None
    assert database.statements == []
    await database.close()


async def test_an_unknown_token_is_compared_as_a_known_one_is(
    tokens: PostgresTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    token = await tokens.create(SENDER, YEAR)
    for each in (token, token[:17] + "A" * 43, _REAL):
        await tokens.identify(each)
    assert compared == [(32, 32)] * 3
