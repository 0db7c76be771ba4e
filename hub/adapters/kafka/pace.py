"""What a reader of Kafka reads, and how long it and the others wait for each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. A member that is silent for `session` is dead. When partitions are shared out anew, each
    reader has `grace` to finish what it handed out; what is not done by then is read again by whoever gets
    it. `look`: how often a reader makes sure that its topic is still the same. `patience`: how long
    brokers may be away until a verb gives up."""

    session: float = 10
    grace: float = 20
    look: float = 5
    patience: float = 30

    @property
    def heartbeat(self) -> float:
        return self.session / 10

    @property
    def rebalance(self) -> float:
        """How long the others wait for a member that was told to give its partitions up: it must have had
        its grace, and been told."""
        return self.grace + self.session


@dataclass(frozen=True, slots=True)
class Place:
    """What a reader reads: a topic in one of its lives, for a group (by its name for Kafka)."""

    topic: str
    group: str
    incarnation: str
