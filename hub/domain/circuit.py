"""How an endpoint stands, and what that lets through: the feedback between what a lane tries and what comes of it.

Pure: pages of outcomes come in, a standing and a rest go out. An endpoint proves itself: little goes to it at
once at first, four times as much after each page that went well, half as much after one that went ill in part. When
a whole page fails at the endpoint, the circuit is open: the lane rests, as long as the policy's waits say, and
then one parcel tries it (half-open). So a dead endpoint costs one attempt for each wait, whatever lies behind it.

Some servers refuse whoever they do not know in words that they also have for one parcel. An endpoint that takes nothing
then has refused the hub.

A software vendor's endpoints fail together: when several lanes of one vendor fail in a row and none of them
succeeds, all of them rest but the one that is tried, and they come back one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from hub.domain.delivery import About, Conclusion, Deferred, Delivered, Outcome, Refused
from hub.domain.retry import Park, RetryPolicy, next_wait

_GROWTH = 4
UNPROVED = 4
"""Parcels that go at once to an endpoint that has proved nothing yet."""


@dataclass(frozen=True, slots=True)
class Standing:
    """`at_once`: parcels that may be under way together. `failures`: pages in a row that failed at the
    endpoint; while there are any, one parcel goes, to try it."""

    at_once: int = UNPROVED
    failures: int = 0

    @property
    def fails(self) -> bool:
        return self.failures > 0


UNKNOWN = Standing()
"""Of an endpoint to which nothing went yet."""


def next_standing(standing: Standing, conclusions: Sequence[Conclusion], most: int) -> Standing:
    """After a page. A parcel that fails for a reason of its own says nothing of the endpoint."""
    about = [_of_endpoint(conclusion) for conclusion in conclusions]
    good, bad = about.count(True), about.count(False)
    if bad and not good:
        return Standing(1, standing.failures + 1)
    if bad:
        return Standing(max(standing.at_once // 2, 1))
    if good:
        return Standing(min(standing.at_once * _GROWTH, most))
    if any(_says_either(conclusion.outcome) for conclusion in conclusions):
        return replace(standing, at_once=max(standing.at_once // 2, 1))
    return standing


def tell_apart(standing: Standing, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """The outcomes of a page, those about either told apart as far as can be.

    Beside them                                   The endpoint                      They are about
    a parcel was taken, or refused for its own    any                               the parcel
    nothing of the kind                           has proved little (UNPROVED)      the endpoint
    nothing of the kind, and UNPROVED such        any                               the endpoint
    nothing of the kind, and fewer such           has proved itself                 either, still

    What stays is parked as if it were about the parcel, and halves what is proved: a few such pages in a row are the
    endpoint's."""
    doubtful = sum(map(_says_either, outcomes))
    if not doubtful:
        return outcomes
    if any(_is_there(outcome) for outcome in outcomes):
        about = About.PARCEL
    elif standing.at_once <= UNPROVED or doubtful >= UNPROVED:
        about = About.ENDPOINT
    else:
        return outcomes
    return [
        replace(outcome, about=about)
        if isinstance(outcome, Refused) and outcome.about is About.EITHER
        else outcome
        for outcome in outcomes
    ]


def _says_either(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.about is About.EITHER


def _is_there(outcome: Outcome) -> bool:
    """Who takes one parcel, or refuses one with a reason, has let the hub in. What is ours to refuse says nothing."""
    match outcome:
        case Delivered():
            return True
        case Refused(cause=cause, about=about):
            return about is About.PARCEL and not cause.startswith("hub.")
        case _:
            return False


def rest_after(
    standing: Standing, conclusions: Sequence[Conclusion], policy: RetryPolicy, jitter: float
) -> timedelta:
    """How long a lane rests whose standing is this after a page: not at all while its endpoint does not fail.
    After the policy's last wait, that one again and again."""
    if not standing.fails or not policy.waits:
        return timedelta(0)
    asked = [
        conclusion.outcome.retry_after
        for conclusion in conclusions
        if isinstance(conclusion.outcome, Deferred) and conclusion.outcome.retry_after is not None
    ]
    failures = min(standing.failures, len(policy.waits))
    wait = next_wait(policy, failures, jitter, max(asked, default=None))
    return timedelta(0) if isinstance(wait, Park) else wait


def _of_endpoint(conclusion: Conclusion) -> bool | None:
    """Whether the endpoint did well; None: the outcome says nothing of it."""
    match conclusion.outcome:
        case Delivered():
            return True
        case Refused(about=about):
            # Who refuses one parcel with a reason is there.
            return about is About.PARCEL or None
        case Deferred(about=about):
            return False if about is About.ENDPOINT else None


@dataclass(frozen=True, slots=True)
class VendorCircuit:
    """The lanes of one vendor that failed since one of them last succeeded. `rests`: how often in a row all of
    them were made to rest; `until`: when they have (seconds of some clock)."""

    failed: frozenset[int] = field(default_factory=frozenset)
    rests: int = 0
    until: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.rests > 0


def next_circuit(
    circuit: VendorCircuit, lane: int, standing: Standing, now: float, opens_at: int, rest: timedelta
) -> VendorCircuit:
    """After a page of one of the vendor's lanes, which stands so and rests so long. `opens_at`: how many lanes
    must fail in a row for all to rest. What was under way when they began to rest tells nothing new; whoever
    fails after that makes them rest again."""
    if not standing.fails:
        return VendorCircuit()
    if now < circuit.until:
        return circuit
    failed = circuit.failed | {lane}
    if len(failed) < opens_at:
        return replace(circuit, failed=failed)
    return VendorCircuit(failed, circuit.rests + 1, now + rest.total_seconds())
