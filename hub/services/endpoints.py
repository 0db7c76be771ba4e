"""Endpoints' secrets: sealed under a key of their own before they are stored, opened for an attempt.

Business of this room: that a password or a signing secret lies in no table and no backup in clear.
"""

from __future__ import annotations

import json

from hub.domain.errors import MissingKey
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.ports.keyring import Keyring
from hub.ports.store import KeptPartner, Lane


class EndpointRoom:
    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def seal(self, partner: Partner) -> KeptPartner:
        """The partner as the store may keep it."""
        if not partner.endpoint.secrets:
            return partner, None, None
        key = self._keyring.fresh()
        told = json.dumps(dict(partner.endpoint.secrets), sort_keys=True).encode()
        bare = Partner(
            partner.subscriber,
            partner.name,
            Endpoint(partner.endpoint.channel, partner.endpoint.settings),
        )
        return bare, self._keyring.seal(key, told, _context(partner.subscriber)), key.wrapped

    def open(self, lane: Lane) -> Endpoint:
        """The lane's endpoint with its secrets. Raises MissingKey or Tampered."""
        if lane.sealed_secrets is None:
            return lane.endpoint
        if lane.wrapped_key is None:
            raise MissingKey
        key = self._keyring.unwrap(lane.wrapped_key)
        told = json.loads(self._keyring.open(key, lane.sealed_secrets, _context(lane.subscriber)))
        return Endpoint(lane.endpoint.channel, lane.endpoint.settings, told)


def _context(subscriber: Subscriber) -> bytes:
    """Binds secrets to whom they belong to: moved to another row, they do not open."""
    return f"secrets of {subscriber}".encode()
