"""Endpoints' secrets: sealed under a key of their own before they are stored, opened for an attempt.

Business of this room: that a password or a signing secret lies in no table and no backup in clear.
"""

from __future__ import annotations

import json
from dataclasses import replace

from hub.domain.errors import MissingKey
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.ports.keyring import Keyring
from hub.ports.lanes import Lane
from hub.ports.partners import KeptPartner

_KEPT = 20_000
"""Endpoints that are remembered: more than a country has partners."""


class EndpointRoom:
    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._opened: dict[int, tuple[Lane, Endpoint]] = {}

    def seal(self, partner: Partner) -> KeptPartner:
        """The partner as the store may keep it."""
        if not partner.endpoint.secrets:
            return partner, None, None
        key = self._keyring.fresh()
        told = json.dumps(dict(partner.endpoint.secrets), sort_keys=True).encode()
        bare = replace(partner, endpoint=Endpoint(partner.endpoint.channel, partner.endpoint.settings))
        return bare, self._keyring.seal(key, told, _context(partner.subscriber)), key.wrapped

    def open(self, lane: Lane) -> Endpoint:
        """The lane's endpoint with its secrets; the same object for as long as it is the same. Raises MissingKey or
        Tampered."""
        known = self._opened.get(lane.id)
        if known is not None and _same(known[0], lane):
            return known[1]
        endpoint = self._open(lane.subscriber, lane.endpoint, lane.sealed_secrets, lane.wrapped_key)
        if len(self._opened) >= _KEPT:
            self._opened.clear()
        self._opened[lane.id] = (lane, endpoint)
        return endpoint

    def opened(self, kept: KeptPartner) -> Partner:
        """The inverse of `seal`. Raises MissingKey or Tampered."""
        partner, sealed, wrapped = kept
        endpoint = self._open(partner.subscriber, partner.endpoint, sealed, wrapped)
        return replace(partner, endpoint=endpoint)

    def _open(
        self, subscriber: Subscriber, endpoint: Endpoint, sealed: bytes | None, wrapped: bytes | None
    ) -> Endpoint:
        if sealed is None:
            return endpoint
        if wrapped is None:
            raise MissingKey
        key = self._keyring.unwrap(wrapped)
        told = json.loads(self._keyring.open(key, sealed, _context(subscriber)))
        return Endpoint(endpoint.channel, endpoint.settings, told)


def _same(known: Lane, lane: Lane) -> bool:
    return (
        known.endpoint == lane.endpoint
        and known.sealed_secrets == lane.sealed_secrets
        and known.wrapped_key == lane.wrapped_key
    )


def _context(subscriber: Subscriber) -> bytes:
    """Binds secrets to whom they belong to: moved to another row, they do not open."""
    return f"secrets of {subscriber}".encode()
