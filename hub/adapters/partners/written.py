"""Writing an export: as the hub's own partners file (JSON), or as its table (CSV).

Business of this file: that reading the export again changes nothing, that no secret is in it (only that there
are some), and that no spreadsheet takes a cell for a formula. A table cannot tell
successions and paces.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, assert_never

from hub.adapters.partners.tables import COLUMNS, defused
from hub.domain.pace import pace_to_json
from hub.domain.partner import Partner
from hub.domain.rules import Subscription, SubscriptionState
from hub.ports.partners import KeptPartner
from hub.services.onboarding import Exported
from hub.wire import subscription_in, succession_in


class ExportForm(StrEnum):
    JSON = "json"
    CSV = "csv"


def written(export: Exported, form: ExportForm) -> Iterator[str]:
    """The text, piece by piece."""
    match form:
        case ExportForm.JSON:
            return _json(export)
        case ExportForm.CSV:
            return _table(export)
        case _:
            assert_never(form)


def write_export(path: Path, export: Exported, form: ExportForm) -> None:
    """The whole file or none: an earlier one of this name stays until this one is written. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.writelines(written(export, form))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _json(export: Exported) -> Iterator[str]:
    # A record to a line: the file is read, compared and mended by people too.
    yield '{"partners": ['
    yield from _listed(export.partners, lambda kept: _record(kept, export))
    yield '],\n "successions": ['
    yield from _listed(export.successions, lambda one: succession_in(one).model_dump(mode="json"))
    yield "]}\n"


def _listed(those: tuple[Any, ...], told: Callable[[Any], Mapping[str, Any]]) -> Iterator[str]:
    for number, one in enumerate(those):
        yield ",\n  " if number else "\n  "
        yield json.dumps(told(one), ensure_ascii=False)


def _record(kept: KeptPartner, export: Exported) -> Mapping[str, Any]:
    partner, sealed, _ = kept
    return {
        "subscriber": str(partner.subscriber),
        "name": partner.name,
        "channel": partner.endpoint.channel,
        "settings": dict(partner.endpoint.settings),
        "has_secrets": sealed is not None,
        **({} if partner.vendor is None else {"vendor": partner.vendor}),
        **({} if partner.sender is None else {"sender": partner.sender}),
        **({} if partner.pace is None else {"delivery": pace_to_json(partner.pace)}),
        "subscriptions": [
            subscription_in(one).model_dump(mode="json", exclude={"subscriber"})
            for one in export.subscriptions.get(partner.subscriber, ())
        ],
    }


_STATES: Mapping[SubscriptionState, str] = {
    SubscriptionState.INACTIVE: "Inactif",
    SubscriptionState.ACTIVE: "Actif",
    SubscriptionState.SUSPENDED: "Suspendu",
    SubscriptionState.REFUSED: "Refusé",
}


def _table(export: Exported) -> Iterator[str]:
    # Spreadsheets in France take a table for UTF-8 only when it begins so, and part cells by semicolons.
    yield "\ufeff" + _line(COLUMNS)
    for kept in export.partners:
        for number, one in enumerate(export.subscriptions.get(kept[0].subscriber, (None,))):
            # What a partner's lines say together is its own: its settings need not stand in each.
            own = ("", "", "") if number else _own(kept)
            yield _line((*_partner(kept[0]), *_subscription(one), *own))


def _partner(partner: Partner) -> tuple[str, str, str, str]:
    subscriber = partner.subscriber
    return subscriber.siret, subscriber.branch, partner.name, partner.endpoint.channel


def _subscription(one: Subscription | None) -> tuple[str, str, str, str, str]:
    if one is None:
        return "", "", "", "", ""
    told = subscription_in(one)
    since, until = ("" if day is None else day.isoformat() for day in (told.since, told.until))
    return one.procedure, str(one.place), _STATES[one.state], since, until


def _own(kept: KeptPartner) -> tuple[str, str, str]:
    partner, sealed, _ = kept
    marked = {"has_secrets": True} if sealed is not None else {}
    told = {**partner.endpoint.settings, **marked}
    settings = json.dumps(told, ensure_ascii=False) if told else ""
    return settings, partner.vendor or "", partner.sender or ""


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=";").writerow(map(defused, cells))
    return out.getvalue()
