"""What an endpoint's settings come to, remembered for as long as the hub hands in the same endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from hub.domain.partner import Endpoint

_KEPT = 20_000
"""Endpoints that are remembered: more than a country has partners."""

T = TypeVar("T")


class Targets(Generic[T]):
    """`read`: what an endpoint comes to; None, if something is wrong with it, which is not remembered."""

    def __init__(self, read: Callable[[Endpoint], T | None]) -> None:
        self._read = read
        self._known: dict[int, tuple[Endpoint, T]] = {}

    def of(self, endpoint: Endpoint) -> T | None:
        known = self._known.get(id(endpoint))
        if known is not None and known[0] is endpoint:
            return known[1]
        target = self._read(endpoint)
        if target is None:
            return None
        if len(self._known) >= _KEPT:
            self._known.clear()
        # The endpoint is kept beside: while it is, no other one has its identity.
        self._known[id(endpoint)] = (endpoint, target)
        return target
