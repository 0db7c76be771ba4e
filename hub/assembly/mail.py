"""What mail asks of the settings: the hub's own relay, the hours of digests, addresses for what comes back."""

from __future__ import annotations

import stat
from datetime import time
from pathlib import Path

from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.addresses import read_networks
from hub.domain.digests import DigestHours
from hub.domain.errors import SettingsError
from hub.ports.connector import Relay
from hub.ports.keyring import Keyring
from hub.services.bounces import ReturnAddresses
from hub.settings import Settings

_EVERYWHERE = "0.0.0.0/0, ::/0"
_LONGEST = 64 * 1024


def relay(settings: Settings) -> Relay | None:
    """The hub's own mail server; None: it has none. Operators chose it, so it may stand anywhere. Raises
    SettingsError."""
    if settings.mail_relay_host is None:
        return None
    if settings.mail_relay_sender is None:
        raise SettingsError("HUB_MAIL_RELAY_HOST needs the address mails come from: HUB_MAIL_RELAY_SENDER")
    user, file = settings.mail_relay_user, settings.mail_relay_password_file
    if (user is None) != (file is None):
        raise SettingsError("HUB_MAIL_RELAY_USER and HUB_MAIL_RELAY_PASSWORD_FILE go together")
    if user is not None and settings.mail_relay_tls == "none":
        raise SettingsError("HUB_MAIL_RELAY_TLS must not be none when there is a password to send")
    ca = settings.mail_relay_ca
    return Relay(
        host=settings.mail_relay_host,
        port=settings.mail_relay_port,
        tls=settings.mail_relay_tls,
        sender=settings.mail_relay_sender,
        outgoing=GuardedOutgoing(read_networks(_EVERYWHERE)),
        ca=None if ca is None else _read(ca, "HUB_MAIL_RELAY_CA"),
        username=user,
        password=None if file is None else _secret(file),
    )


def digest_hours(settings: Settings) -> DigestHours:
    return DigestHours(_hours(settings.digest_daily), _hours(settings.digest_twice_daily))


def return_addresses(settings: Settings, keyring: Keyring) -> ReturnAddresses | None:
    """None: mails come back to their sender, and the hub does not see it."""
    domain = settings.mail_return_domain
    return None if domain is None else ReturnAddresses(keyring, domain)


def check_mail(settings: Settings) -> None:
    """Raises SettingsError."""
    relay(settings)
    if settings.bounces_port is not None and settings.mail_return_domain is None:
        raise SettingsError("HUB_BOUNCES_PORT needs the domain of return addresses: HUB_MAIL_RETURN_DOMAIN")


def _hours(told: tuple[str, ...]) -> tuple[time, ...]:
    return tuple(sorted({time.fromisoformat(hour) for hour in told}))


def _secret(path: Path) -> str:
    name = "HUB_MAIL_RELAY_PASSWORD_FILE"
    secret = _read(path, name).strip("\r\n")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(f"{name}: {path} is open to others than its owner: chmod 600 it")
    if not secret or "\n" in secret:
        raise SettingsError(f"{name}: {path} must hold the password, in one line")
    return secret


def _read(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode()
    except (OSError, ValueError) as error:
        # Not chained: what could not be decoded may be a secret.
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise SettingsError(f"{name}: {path}: {reason}") from None
