"""What may be wrong with partners beside their endpoints' own settings: two that would be served in one folder, and
paces that cannot be. Pure."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

from hub.domain.identity import Subscriber
from hub.domain.pace import PartnerPace
from hub.domain.partner import Endpoint, Partner

Checks = Mapping[str, Callable[[Endpoint], Sequence[str]]]
"""By channel: what is wrong with an endpoint (see `Connector.check`)."""

CROWDED = "another partner is served in this folder of this server"


def crowded(
    wanted: Mapping[Subscriber, Endpoint], known: Mapping[Subscriber, Endpoint]
) -> Sequence[Subscriber]:
    """Those of `wanted` that would come into a folder where another is served. Who was there first stays; of
    several that come, nobody can tell which is right: all are refused."""
    there = {subscriber: _folder(endpoint) for subscriber, endpoint in known.items()}
    coming = {subscriber: _folder(endpoint) for subscriber, endpoint in wanted.items()}
    inside: dict[Hashable, list[Subscriber]] = {}
    for subscriber, folder in (there | coming).items():
        if folder is not None:
            inside.setdefault(folder, []).append(subscriber)
    return [
        subscriber
        for folder, those in inside.items()
        if len(those) > 1
        for subscriber in those
        if there.get(subscriber) != folder
    ]


def _folder(endpoint: Endpoint) -> Hashable | None:
    """The folder of a server where parcels arrive, by the settings of the sftp channel: its connector sees
    one endpoint at a time, so two that meet can only be seen here. Two accounts of one server have each
    their own root, as far as anybody can tell from outside."""
    if endpoint.channel != "sftp":
        return None
    told = endpoint.settings
    host = str(told.get("host")).casefold().rstrip(".")
    return (
        host,
        told.get("port", 22),
        told.get("username"),
        posixpath.normpath(str(told.get("directory", "."))),
    )


def flaws_in_pace(pace: PartnerPace | None, checks: Checks, procedures: Collection[str]) -> Sequence[str]:
    """What the mail channel finds wrong with where a partner's notices are to go; and whether it speaks of
    procedures that are none."""
    if pace is None:
        return ()
    found = []
    for word, named in (("ordered", pace.ordered), ("retry_of", pace.waits_of.keys())):
        if not named <= set(procedures):
            found.append(f"{word}: the rule book has no such procedure")
    if pace.fallback is not None and pace.fallback.notice is not None and "mail" in checks:
        faults = checks["mail"](Endpoint("mail", pace.fallback.notice))
        found += [f"fallback/notice: {fault}" for fault in faults]
    return found


# --- endpoints of senders -----------------------------------------------------------------------------

SENT_ELSEWHERE = "this sender's events are sent to another partner"


def flaw_in_sender(partner: Partner) -> str | None:
    if partner.sender is None or partner.endpoint.channel == "webhook":
        return None
    return "a sender's events are sent by the webhook channel alone"


def sent_elsewhere(
    wanted: Mapping[Subscriber, str | None], known: Mapping[Subscriber, str | None]
) -> Sequence[Subscriber]:
    """Those of `wanted` that would get the events of a sender which another gets: who has them keeps them, and of
    several that come all are refused."""
    told = Counter((dict(known) | dict(wanted)).values())
    return [
        subscriber
        for subscriber, sender in wanted.items()
        if sender is not None and told[sender] > 1 and known.get(subscriber) != sender
    ]
