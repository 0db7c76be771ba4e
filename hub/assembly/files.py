"""What lies in files: the operator's rules and partners; and the connectors that are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from hub.adapters.rules.declared import Declared, read_declared, remembering
from hub.adapters.rules.territory import read_territory
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.errors import SettingsError
from hub.domain.fields import Field, check_fields
from hub.domain.territory import Territory
from hub.ports.connector import Connector, Relay, Surroundings
from hub.services.partner_flaws import Checks
from hub.settings import Settings


def declared(settings: Settings, territory: Callable[[bytes], Territory] | None = None) -> Declared:
    """Read every file. Raises RuleBookError."""
    read = remembering(read_territory) if territory is None else territory
    return read_declared(rules_folder(settings), settings.rules_most, settings.partners, read)


def declared_rules(settings: Settings, territory: Callable[[bytes], Territory] | None = None) -> Declared:
    """The same without the partners file."""
    return declared(settings.model_copy(update={"partners": None}), territory)


def rules_folder(settings: Settings) -> Path:
    if settings.rules is not None:
        return settings.rules
    spec = importlib.util.find_spec("routing_rules")
    if spec is None or spec.origin is None:
        raise SettingsError("no rules folder: set HUB_RULES")
    return Path(spec.origin).parent


def connectors(surroundings: Surroundings) -> dict[str, Connector]:
    """Every connector that is installed, by channel. Raises SettingsError for one that does not describe its
    fields: nothing would tell its settings from its secrets."""
    known: dict[str, Connector] = {
        point.name: point.load()(surroundings) for point in entry_points(group="hub.connectors")
    }
    for channel, connector in known.items():
        check_fields(channel, getattr(connector, "fields", None))
    return known


def checks(relay: Relay | None) -> Checks:
    """What each channel's connector finds wrong with an endpoint. `relay`: the hub's own mail server."""
    return {channel: connector.check for channel, connector in _asked_only(relay).items()}


def channel_fields() -> dict[str, Sequence[Field]]:
    """What each channel asks of an endpoint. Raises SettingsError."""
    return {channel: connector.fields for channel, connector in _asked_only(None).items()}


def _asked_only(relay: Relay | None) -> dict[str, Connector]:
    """Connectors that deliver nothing."""
    return connectors(Surroundings(lambda *_: "", lambda: 0.0, GuardedOutgoing(), relay=relay))
