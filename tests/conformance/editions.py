"""Editions of the rule book to try a store with, of one item or a few."""

from __future__ import annotations

from datetime import datetime, timedelta

from hub.domain.errors import Superseded
from hub.ports.rule_books import Change, Confirmation, Item, ItemKey, ItemKind, RuleBooks

SOON = timedelta(milliseconds=200)
NOTHING = timedelta(0)

RULES = (ItemKind.PROCEDURE, "CERTDC")


async def publish(rule_books: RuleBooks, name: str, lead: timedelta = SOON) -> int:
    """A new edition on the newest one, whoever publishes meanwhile; `name` is its only item's content."""
    while True:
        try:
            based_on = await newest(rule_books)
            return await publish_change(rule_books, Change((item(name),)), based_on, lead)
        except Superseded:
            continue


async def publish_change(
    rule_books: RuleBooks, change: Change, based_on: int, lead: timedelta = NOTHING
) -> int:
    return await rule_books.publish(change, based_on, lead, "agent", "essai")


def item(content: str, key: ItemKey = RULES) -> Item:
    return Item(*key, content.encode())


async def newest(rule_books: RuleBooks) -> int:
    return next((edition.number for edition in await rule_books.editions(1)), 0)


async def begins(rule_books: RuleBooks, number: int) -> datetime:
    """Since when an edition is in force."""
    return dict((await rule_books.confirm(0)).editions)[number]


def in_force(told: Confirmation, instant: datetime) -> int:
    """The edition that decides what was received at `instant`."""
    assert instant <= told.until
    return [number for number, start in told.editions if start <= instant][-1]
