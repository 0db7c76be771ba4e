"""A register as a store gives it: for a process that shall have a rule book in memory, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.register import Register, procedures_on
from hub.domain.rule_book import RuleBook
from hub.domain.territory import Territory
from hub.wire import subscription, subscription_in, succession, succession_in
from schemas.models.rules import SubscriptionIn, SuccessionIn, told


def write(register: Register, file: Path) -> None:
    """Subscriptions and successions; the procedures are always the same."""
    file.write_text(
        json.dumps(
            {
                "subscriptions": [told(subscription_in(one)) for one in register.subscriptions],
                "successions": [told(succession_in(one)) for one in register.successions],
            }
        )
    )


def read(file: Path, territory: Territory) -> RuleBook:
    """With its index, on this territory."""
    lists = json.loads(file.read_text("utf-8"))
    return RuleBook.build(
        procedures_on(territory),
        [subscription(SubscriptionIn.model_validate(one)) for one in lists["subscriptions"]],
        territory,
        [succession(SuccessionIn.model_validate(one)) for one in lists["successions"]],
    )
