"""Errors: what *we* do wrong, or what a caller asks that cannot be. Drawn as one tree.

What partners do is an outcome, a value (see `delivery`), never an error. An error's docstring is its
default message. No error ever carries a value somebody sent: only the field, the rule, and ids.
"""

from __future__ import annotations


class HubError(Exception):
    """The hub could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class Invalid(HubError):
    """What was sent does not satisfy the rules of this hub."""

    def __init__(self, *flaws: Flaw) -> None:
        super().__init__("; ".join(f"{flaw.field}: {flaw.rule}" for flaw in flaws) or None)
        self.flaws = flaws


class Flaw:
    """One field that breaks one rule. `field` is a JSON pointer; `rule` a stable word; `detail` a sentence.

    None of the three ever quotes the value.
    """

    __slots__ = ("detail", "field", "rule")

    def __init__(self, field: str, rule: str, detail: str) -> None:
        self.field = field
        self.rule = rule
        self.detail = detail


class NotGranted(Invalid):
    """This sender may not send this."""


class IllegalMove(HubError):
    """A delivery cannot go from this state to that one."""


class RuleBookError(HubError):
    """The rules, subscriptions or partners contradict themselves or what is known.

    `where` leads to the fault: a procedure's code, then the way inside its file (a rule by its id); or
    `successions` and a subscriber, `subscriptions` and an id. Empty where it has no such place.
    """

    def __init__(self, message: str | None = None, where: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.where = where


class Superseded(HubError):
    """The rule book has a newer edition than the one this change was made for: look again."""


class Pruned(RuleBookError):
    """What this edition of the rule book held is gone: nothing was decided by it."""


class Unavailable(HubError):
    """Something the hub needs (store, log, attachments) is away; trying later may succeed."""


class UnknownKey(Unavailable):
    """This is sealed under a key of the hub that this process does not know (yet), or under another hub's."""


class LeaseLost(HubError):
    """Another worker holds what this one believed to hold."""


class TrialUnderWay(HubError):
    """A trial of this partner, or too many others, are under way: look again in a moment."""


class Tampered(HubError):
    """Sealed content does not open: it was changed, cut, or sealed under another key."""


class MissingKey(HubError):
    """The key under which this content was sealed is not there: it was purged."""


class SettingsError(HubError):
    """The settings contradict each other or name something that is not there."""
