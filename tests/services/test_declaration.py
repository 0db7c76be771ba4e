"""What an operator's files do when a hub starts, and when they are applied: on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.errors import RuleBookError, SettingsError, Unavailable
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.domain.review import Severity
from hub.domain.rule_book import RuleBook
from hub.domain.rules import check_procedure
from hub.ports.partners import KeptPartner
from hub.ports.rule_books import Item, ItemKey
from hub.services import declaration
from hub.services.declaration import DeclarationRoom
from hub.services.editions import EditionRoom
from hub.services.partner_flaws import Checks
from hub.wire import difference, items, procedure, read_change, rule_book
from schemas.models.rules import ProcedureIn, SubscriptionIn
from tests.conformance.samples import Obstacle, execute
from tests.unit.samples import BONNEVILLE, MARIGNIER, MINISTRY, territory

LITTLE = territory()
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def _procedure(title: str = "Certificat", **rule: Any) -> ProcedureIn:
    competent = {"place": "commune", "levels": ["commune"]}
    return ProcedureIn.model_validate(
        {
            "procedure": "CERTDC",
            "title": title,
            "facts": {"commune": {"type": "place", "required": True}},
            "rules": [{"id": "mairie", "recipient": "mairie", "competent": competent, **rule}],
        }
    )


def _partner(name: str = "Mairie de Bonneville", **settings: object) -> Partner:
    return Partner(BONNEVILLE, name, Endpoint("mailbox", settings))


def _sftp(subscriber: Subscriber) -> Partner:
    told = {"host": "sftp.example", "username": "hub", "directory": "arrivees"}
    return Partner(subscriber, "Une mairie", Endpoint("sftp", told))


NEVER = _procedure(when={"fact": "commune", "equals": "74010x"})
"""Its rule can never act."""
WISH = SubscriptionIn(procedure="CERTDC", subscriber=str(BONNEVILLE), place="commune:74042")


@dataclass(frozen=True, slots=True)
class Files:
    """Implements `hub.services.declaration.Declared`."""

    procedure: ProcedureIn
    partners: tuple[Partner, ...] | None = (_partner(),)
    subscriptions: tuple[SubscriptionIn, ...] = (WISH,)
    failing: tuple[str, ...] = ()

    def rule_items(self) -> dict[ItemKey, Item]:
        return items([self.procedure], (), (), ("2026", b"essai"))

    def items(self) -> dict[ItemKey, Item]:
        return items([self.procedure], self.subscriptions, (), ("2026", b"essai"))

    def check(self) -> None:
        check_procedure(procedure(self.procedure), LITTLE)

    def failing_cases(self) -> Sequence[str]:
        return self.failing

    def pointed(self, where: Sequence[str | int]) -> str | None:
        return f"line of {where[-1]}" if where and where[0] in ("CERTDC", "partners") else None

    def book(self) -> RuleBook:
        return rule_book([self.procedure], self.subscriptions, LITTLE)


FILES = Files(_procedure())


@dataclass(frozen=True, slots=True)
class Store:
    rule_books: PostgresRuleBooks
    editions: EditionRoom
    partners: PostgresPartners
    room: DeclarationRoom
    database: Database

    def room_with(self, partners: PostgresPartners) -> DeclarationRoom:
        return _room(self.editions, partners)

    async def titles(self) -> list[str]:
        """Of each edition, the oldest first."""
        numbers = [edition.number for edition in await self.editions.history(10)]
        return [
            (await self.editions.snapshot(number)).book.procedures["CERTDC"].title
            for number in sorted(numbers)
        ]


@pytest.fixture
async def store(fresh_database: Callable[[], str]) -> AsyncIterator[Store]:
    database = await Database.open(fresh_database())
    rule_books, partners = PostgresRuleBooks(database), PostgresPartners(database)
    editions = EditionRoom(
        rule_books,
        lambda book, change: read_change(book, change, lambda _: LITTLE),
        difference,
        timedelta(0),
    )
    yield Store(rule_books, editions, partners, _room(editions, partners), database)
    await database.close()


def _room(editions: EditionRoom, partners: PostgresPartners) -> DeclarationRoom:
    checks: Checks = {
        "mailbox": lambda endpoint: [f"{name} is not known" for name in endpoint.settings],
        "sftp": lambda _: (),
    }
    return DeclarationRoom(editions, partners, lambda partner: (partner, None, None), checks)


async def _read(files: Files | RuleBookError) -> Files:
    if isinstance(files, RuleBookError):
        raise files
    return files


async def test_the_first_start_publishes_what_the_files_say(store: Store) -> None:
    assert await store.room.begin(_read(FILES)) == ()
    assert await store.titles() == ["Certificat"]
    assert [kept[0] for kept in await store.partners.list()] == [_partner()]
    assert len((await store.editions.snapshot()).book.subscriptions) == 1


async def test_a_start_with_the_same_files_says_nothing(store: Store) -> None:
    await store.room.begin(_read(FILES))
    assert await store.room.begin(_read(FILES)) == ()
    assert await store.titles() == ["Certificat"]


@pytest.mark.parametrize(
    ("files", "word"),
    [
        (Files(_procedure("Acte")), "hub rules diff"),
        (replace(FILES, partners=(_partner("Un autre nom"),)), "hub partners import"),
        (replace(FILES, subscriptions=(WISH.model_copy(update={"place": "commune:74164"}),)), "import"),
        (RuleBookError("CERTDC.yaml, line 3: this is wrong"), "hub check"),
    ],
)
async def test_a_later_start_with_other_files_turns_nothing_and_tells_how_to(
    store: Store, files: Files | RuleBookError, word: str
) -> None:
    await store.room.begin(_read(FILES))
    (notice,) = await store.room.begin(_read(files))
    assert word in notice
    assert await store.titles() == ["Certificat"]
    assert [kept[0] for kept in await store.partners.list()] == [_partner()]


async def test_a_partners_file_that_names_fewer_than_are_known_is_no_difference(store: Store) -> None:
    await store.room.begin(_read(FILES))
    assert await store.room.begin(_read(replace(FILES, partners=None, subscriptions=()))) == ()


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (replace(FILES, failing=("CERTDC: a case does not hold",)), SettingsError),
        (replace(FILES, partners=(_partner(ville="x"),)), SettingsError),
        (Files(NEVER), SettingsError),
        (replace(FILES, partners=(_partner(), _sftp(Subscriber("21740164590017", "74164")))), SettingsError),
        (replace(FILES, partners=(_sftp(BONNEVILLE), _sftp(MARIGNIER))), SettingsError),
        (RuleBookError("CERTDC.yaml, line 3: this is wrong"), RuleBookError),
        (Files(_procedure(), subscriptions=(WISH.model_copy(update={"procedure": "AUTRE"}),)), RuleBookError),
    ],
)
async def test_a_first_start_with_files_that_are_wrong_writes_nothing(
    store: Store, files: Files | RuleBookError, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await store.room.begin(_read(files))
    assert await store.editions.history(1) == []
    assert await store.partners.list() == []


async def test_who_starts_second_at_the_same_time_leaves_what_the_first_published(store: Store) -> None:
    async def while_another_publishes() -> Files:
        await store.room.begin(_read(FILES))
        return Files(_procedure("Acte"), (_partner("Un autre nom"),))

    rules, partners = await store.room.begin(while_another_publishes())
    assert "hub rules diff" in rules
    assert "hub partners import" in partners
    assert await store.titles() == ["Certificat"]
    assert [kept[0] for kept in await store.partners.list()] == [_partner()]


OTHERS = Files(_procedure("Acte"), (_partner("Un autre nom"),))


async def test_who_starts_second_leaves_the_partners_of_the_first_whenever_that_one_writes(
    store: Store,
) -> None:
    class Overtaken(PostgresPartners):
        """Between the look of who writes here and its writing, another starts from the beginning to the end."""

        async def replace(self, changes: Sequence[tuple[KeptPartner | None, KeptPartner]]) -> None:
            await store.room.begin(_read(FILES))
            await super().replace(changes)

    second = store.room_with(Overtaken(store.database))
    notices = await second.begin(_read(OTHERS))
    assert ["rules diff" in notice for notice in notices] == [True, False]
    assert await store.titles() == ["Certificat"]
    assert [kept[0] for kept in await store.partners.list()] == [_partner()]


async def test_who_starts_while_another_is_about_to_publish_waits_for_it(store: Store) -> None:
    async with Obstacle.before(store.database, "rule_book") as obstacle:
        first = asyncio.create_task(store.room.begin(_read(FILES)))
        await obstacle.reached()
        second = asyncio.create_task(store.room.begin(_read(OTHERS)))
        assert not (await asyncio.wait([second], timeout=0.5))[0]
        await obstacle.remove()
        assert await first == ()
        assert len(await second) == 2
    assert await store.titles() == ["Certificat"]
    assert [kept[0] for kept in await store.partners.list()] == [_partner()]


async def _die_before_publishing(store: Store, files: Files) -> None:
    async with Obstacle.before(store.database, "rule_book") as obstacle:
        starting = asyncio.create_task(store.room.begin(_read(files)))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await starting
    await execute(store.database, "DROP TRIGGER obstacle ON rule_book")
    assert await store.editions.history(1) == []
    assert len(await store.partners.list()) == 1


async def test_a_first_start_that_died_between_partners_and_rules_is_begun_again(store: Store) -> None:
    await _die_before_publishing(store, FILES)
    assert await store.room.begin(_read(FILES)) == ()
    assert await store.titles() == ["Certificat"]
    assert [kept[0] for kept in await store.partners.list()] == [_partner()]


async def test_a_first_start_after_one_of_other_files_that_died_overwrites_nothing_and_says_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declaration, "_LOOKS", 3)
    await _die_before_publishing(store, FILES)
    with pytest.raises(SettingsError, match="hub rules apply"):
        await store.room.begin(_read(OTHERS))
    assert await store.editions.history(1) == []
    assert [kept[0] for kept in await store.partners.list()] == [_partner()]


async def test_files_are_proposed_with_all_there_is_to_say_of_them(store: Store) -> None:
    await store.room.begin(_read(FILES))
    found, proposal = await store.room.propose(Files(_procedure("Acte")), NOW)
    assert (list(found), proposal is not None) == ([], True)

    found, proposal = await store.room.propose(replace(FILES, failing=("a case does not hold",)), NOW)
    assert ([one.sentence for one in found], proposal) == (["a case does not hold"], None)

    found, proposal = await store.room.propose(Files(NEVER), NOW)
    assert proposal is None
    (fault,) = [one for one in found if one.severity is Severity.FAULT]
    assert fault.sentence.startswith("line of when: CERTDC, rule mairie: its condition names 74010x")

    other = _procedure().model_copy(update={"procedure": "AUTRE"})
    found, proposal = await store.room.propose(Files(other), NOW)
    assert proposal is None
    assert [one.severity for one in found] == [Severity.FAULT]
    assert await store.titles() == ["Certificat"]


async def test_a_first_start_may_name_a_partner_nobody_knows_and_so_may_what_is_proposed_then(
    store: Store,
) -> None:
    named = Files(_procedure(competent=None, partner=str(MINISTRY)), None, ())
    assert await store.room.begin(_read(named)) == ()
    found, proposal = await store.room.propose(named, NOW)
    assert proposal is not None
    assert [(one.severity, str(MINISTRY) in one.sentence) for one in found] == [(Severity.WARNING, True)]


async def test_what_is_wrong_with_partners_is_told_with_its_line(store: Store) -> None:
    twice = Files(_procedure(), (_sftp(BONNEVILLE), _sftp(MARIGNIER), _sftp(Subscriber("1" * 14, "1"))), ())
    with pytest.raises(SettingsError) as caught:
        await store.room.begin(_read(twice))
    told = str(caught.value).splitlines()
    assert [line.partition(": partner")[0] for line in told] == [
        *(f"line of {who}" for who in (BONNEVILLE, MARIGNIER)),
        *["line of 11111111111111-1"] * 2,
    ]
    assert sum("in this folder of this server" in line for line in told) == 3
    assert "check sum" in told[2]


async def test_before_the_first_rule_book_a_rule_may_name_whom_nobody_knows(store: Store) -> None:
    named = Files(_procedure(competent=None, partner=str(MARIGNIER)), None, ())
    _, proposal = await store.room.propose(named, NOW)
    assert proposal is not None
