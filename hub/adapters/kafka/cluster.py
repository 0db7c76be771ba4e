"""How Kafka's brokers are reached, and what their errors mean for the hub.

Business of this file: addresses, TLS and names for every client of this adapter; and which fault is a matter of
waiting (Unavailable) and which of settings. No error quotes what a broker or a library said: it may hold a
name or a secret.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import errors as kafka  # type: ignore[import-untyped]

from hub.domain.errors import SettingsError, Unavailable

REQUEST_TIME = 10.0
"""Seconds until a request that nobody answers is given up, and asked again elsewhere."""


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """`bootstrap`: `host:port`, several by commas. With `tls` and no `ca`, the system's authorities are
    believed; `certificate` and `key` are this hub's own, for brokers that ask for one. With a `user`, SASL by
    `mechanism`. Raises SettingsError where these contradict each other."""

    bootstrap: str
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = "SCRAM-SHA-512"
    client: str = "hub"

    def __post_init__(self) -> None:
        for address in self.addresses:
            host, colon, port = address.rpartition(":")
            if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
                raise SettingsError("an address of the log's brokers is not host:port")
        if not self.tls and (self.ca or self.certificate or self.key):
            raise SettingsError("certificates for the log's brokers are named, and TLS to them is off")
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("the hub's certificate for the log's brokers needs its key, and the key it")
        if (self.user is None) != (self.password is None):
            raise SettingsError("the hub's name at the log's brokers needs a password, and the password it")

    @property
    def addresses(self) -> list[str]:
        return [address.strip() for address in self.bootstrap.split(",")]

    def arguments(self) -> dict[str, Any]:
        """For any of aiokafka's clients. Reads the certificates: raises SettingsError when it cannot."""
        found: dict[str, Any] = {
            "bootstrap_servers": self.addresses,
            "client_id": self.client,
            "security_protocol": ("SASL_" if self.user else "") + ("SSL" if self.tls else "PLAINTEXT"),
        }
        if self.tls:
            found["ssl_context"] = self._context()
        if self.user:
            found |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        return found

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                # Without a password at hand, a key that needs one would be asked for at the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError):
            raise SettingsError(
                "a certificate or key for the log's brokers cannot be read, or they do not belong together"
            ) from None
        return context


_REFUSED = (
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.ClusterAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.IllegalSaslStateError,
    # A session shorter or longer than the cluster allows; a group of readers of another kind.
    kafka.InconsistentGroupProtocolError,
    kafka.InvalidGroupIdError,
    kafka.InvalidSessionTimeoutError,
    kafka.SaslAuthenticationFailed,
    kafka.SecurityDisabled,
    kafka.TopicAuthorizationFailedError,
    kafka.UnsupportedSaslMechanismError,
    ssl.SSLError,
)
_TOO_OLD = (kafka.IncompatibleBrokerVersion, kafka.UnsupportedVersionError, NotImplementedError)
_BROKE_OFF = (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)


@contextmanager
def served() -> Iterator[None]:
    """Brokers that are away show as Unavailable; that refuse this hub, or are too old, as SettingsError."""
    try:
        yield
    except _TOO_OLD as error:
        raise SettingsError("the log's brokers are older than what this hub speaks (Kafka 3.0)") from error
    except (kafka.KafkaError, OSError) as error:
        if is_refusal(error):
            raise refused(error) from None
        raise Unavailable(f"the log's brokers do not serve ({type(error).__name__})") from error


def refused(error: BaseException) -> SettingsError:
    """Names the settings to look at."""
    found = _refusal(error) or error
    for kinds, sentence in _LOOK_AT:
        if isinstance(found, kinds):
            return SettingsError(f"{sentence} ({type(found).__name__})")
    return SettingsError(f"the log's brokers refuse this hub, or it refuses them ({type(found).__name__})")


def is_refusal(error: BaseException | None) -> bool:
    """Also of a connection that the library closed because of one."""
    return _refusal(error) is not None


def _refusal(error: BaseException | None) -> BaseException | None:
    if isinstance(error, _REFUSED):
        return None if isinstance(error, _BROKE_OFF) else error
    return _refusal(error.__cause__) if isinstance(error, kafka.KafkaConnectionError) else None


# The first that fits.
_LOOK_AT: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (
        (kafka.AuthenticationFailedError, kafka.SaslAuthenticationFailed),
        "the log's brokers do not know this name with this password: HUB_KAFKA_USER, HUB_KAFKA_PASSWORD",
    ),
    (
        (
            kafka.AuthenticationMethodNotSupported,
            kafka.IllegalSaslStateError,
            kafka.UnsupportedSaslMechanismError,
        ),
        "the log's brokers do not take a name and password this way: HUB_KAFKA_MECHANISM, HUB_KAFKA_USER",
    ),
    (
        (ssl.SSLCertVerificationError,),
        "the certificate of the log's brokers is signed by nobody this hub believes, or for another host:"
        " HUB_KAFKA_CA, HUB_KAFKA",
    ),
    (
        (ssl.SSLError,),
        "the log's brokers take no TLS, or ask for another certificate of this hub: HUB_KAFKA_TLS,"
        " HUB_KAFKA_CERTIFICATE, HUB_KAFKA_KEY",
    ),
    (
        (
            kafka.ClusterAuthorizationFailedError,
            kafka.GroupAuthorizationFailedError,
            kafka.TopicAuthorizationFailedError,
        ),
        "the log's brokers do not allow this hub's name what it must do: HUB_KAFKA_USER, or its rights there",
    ),
    (
        (kafka.InvalidSessionTimeoutError,),
        "the log's brokers allow no session of this length: HUB_KAFKA_SESSION",
    ),
)
