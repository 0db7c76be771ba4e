"""What is wrong with the operator's settings and files, found without starting anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from hub.adapters.rules.declared import Declared
from hub.assembly.files import checks, declared, declared_rules
from hub.assembly.ground import check_keys
from hub.assembly.journey import log_arguments
from hub.assembly.mail import check_mail, relay
from hub.assembly.objects import attachment_store
from hub.domain.errors import RuleBookError, SettingsError
from hub.domain.review import Finding, Severity
from hub.services import declaration
from hub.services.declaration import flaws_in_partners
from hub.settings import Settings


def faults(settings: Settings) -> list[str]:
    """What `hub check` finds: a sentence for each fault in settings, rules, cases and partners."""
    try:
        files = declared(settings)
        told = [finding.sentence for finding in _reviewed(files) if finding.severity is Severity.FAULT]
        return [*flaws_in(settings), *told, *flaws_in_partners(files, checks(relay(settings)))]
    except (RuleBookError, SettingsError) as error:
        return str(error).splitlines()


def findings(settings: Settings) -> Sequence[Finding]:
    """What is to be said of the rule files and their cases, by themselves."""
    try:
        return _reviewed(declared_rules(settings))
    except RuleBookError as error:
        return declaration.faults(error)


def _reviewed(files: Declared) -> Sequence[Finding]:
    files.check()
    # Those whom a partners file names need not be all there are.
    return declaration.findings(files, files.book(), None, datetime.now(UTC))


def flaws_in(settings: Settings) -> list[str]:
    """What contradicts itself in the settings, or cannot be read. Asks nobody."""
    found = []
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        found.append("TLS needs both HUB_TLS_CERTIFICATE and HUB_TLS_KEY")
    tried: list[Callable[[Settings], object]] = [attachment_store, check_keys, check_mail]
    if settings.deposits and settings.kafka is None:
        found.append("HUB_DEPOSITS names senders that write into Kafka, and none is set: HUB_KAFKA")
    if settings.kafka is not None:
        tried.append(log_arguments)
    elif settings.schema_registry is not None:
        found.append(
            "HUB_SCHEMA_REGISTRY is set, and the log is not Kafka: its records name their schemas themselves"
        )
    for attempt in tried:
        try:
            attempt(settings)
        except SettingsError as error:
            found.append(str(error))
    return found
