"""What may be wrong with partners beside their endpoints' own settings: two that would be served in one folder, and
paces that cannot be. Pure."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

from hub.domain.identity import Subscriber
from hub.domain.pace import PartnerPace
from hub.domain.partner import Endpoint, Partner

Checks = Mapping[str, Callable[[Endpoint], Sequence[str]]]
"""By channel: what is wrong with an endpoint (see `Connector.check`)."""

_NAMED = 3


def crowded(
    wanted: Mapping[Subscriber, Endpoint], known: Mapping[Subscriber, Endpoint]
) -> Mapping[Subscriber, Sequence[Subscriber]]:
    """Those of `wanted` that would come into a folder where others are served, and who these are. Who was there first
    stays; of several that come, nobody can tell which is right: all are refused."""
    there = {subscriber: _folders(subscriber, endpoint) for subscriber, endpoint in known.items()}
    coming = {subscriber: _folders(subscriber, endpoint) for subscriber, endpoint in wanted.items()}
    inside: defaultdict[Hashable, list[Subscriber]] = defaultdict(list)
    for subscriber, folders in (there | coming).items():
        for folder in folders:
            inside[folder].append(subscriber)
    met: defaultdict[Subscriber, set[Subscriber]] = defaultdict(set)
    for subscriber, folders in coming.items():
        for folder in folders - there.get(subscriber, frozenset()):
            met[subscriber] |= set(inside[folder]) - {subscriber}
    return {subscriber: sorted(others) for subscriber, others in met.items() if others}


def crowded_by(others: Sequence[Subscriber]) -> str:
    """The sentence: it names those who are there, as who reads it is to find them."""
    told = ", ".join(map(str, others[:_NAMED]))
    more = f" and {len(others) - _NAMED} others" if len(others) > _NAMED else ""
    return f"another partner is served in this folder of this server: {told}{more}"


def _folders(subscriber: Subscriber, endpoint: Endpoint) -> frozenset[Hashable]:
    """The folders of a server where parcels arrive, and where acknowledgements are left, by the settings of the sftp
    channel: its connector sees one endpoint at a time, so two that meet can only be seen here. Two accounts of one
    server have each their own root, as far as anybody can tell from outside."""
    if endpoint.channel != "sftp":
        return frozenset()
    told = endpoint.settings
    # A name may be another server's behind another server that is jumped through.
    hosts = [str(told.get(name)).casefold().rstrip(".") for name in ("host", "jump_host")]
    account = (*hosts, told.get("port", 22), told.get("jump_port", 22), told.get("username"))
    folders = [str(told.get("directory", ".")).replace("{partner}", str(subscriber))]
    if told.get("return_directory") is not None:
        folders.append(str(told["return_directory"]))
    return frozenset((*account, posixpath.normpath(folder)) for folder in folders)


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
