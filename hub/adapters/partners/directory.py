"""The State's directory of public services (annuaire de l'administration, base de données locales), by DILA.

Business of this file: from an entry to the partner it would be, with a subscription for each commune it
serves and each procedure the operator names. Telephone and e-mail are not read: an address there is no
consent to be sent parcels, so a new partner has a mailbox.

A counter's branch code is the INSEE code of its seat. Where a commune has several counters, the directory
numbers them (`mairie-77188-01`, `-02`): the first keeps the bare code, the others add their number to it
(`7718802`), whatever the order of the file and whichever of them stand in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from hub.adapters.partners.elements import read_value
from hub.adapters.partners.reading import Gathering, Places, Unreadable, fitting, subscriber
from hub.services.listings import ListedPartner, ListedSubscription, Remark
from schemas.models.partners import PartnerName

FIELDS = frozenset({"siret", "nom", "pivot", "ancien_code_pivot", "code_insee_commune"})
MARKS = frozenset({"pivot", "ancien_code_pivot"})
"""Of these one at least stands in every form of the directory, and in no other file."""

_OWN = frozenset({"partners", "successions"})
_NAME: TypeAdapter[str] = TypeAdapter(PartnerName)
_COMMUNE = re.compile(r"[0-9][0-9AB][0-9]{3}", re.ASCII)
_FORMER_KEY = re.compile(
    r"(?P<kind>[a-z0-9_]+)-(?P<commune>[0-9][0-9AB][0-9]{3})-(?P<number>[0-9]{2,3})", re.ASCII
)


@dataclass(slots=True)
class Directory:
    """`procedures`: what each entry is subscribed to; `kinds`: of which services (`mairie`)."""

    procedures: Sequence[str]
    kinds: Collection[str]
    places: Places
    gathering: Gathering
    passed_over: int = 0

    def list_entry(self, told: object, where: str) -> None:
        try:
            if not isinstance(told, dict):
                raise Unreadable("", "an object is expected")
            if _OWN & told.keys():
                said = "the hub's own file has no other names than these two: partners, successions"
                raise Unreadable("", said)
            if not MARKS & told.keys():
                raise Unreadable(
                    "", "it says neither pivot nor ancien_code_pivot: it is no entry of the directory"
                )
            key = _FORMER_KEY.fullmatch(_text(told, "ancien_code_pivot"))
            communes = self._communes(told, key)
            if communes is None:
                self.passed_over += 1
                return
            listed = self._entry(told, where, key, communes)
        except Unreadable as why:
            self.gathering.refuse(where, why)
            return
        self.gathering.partners.append(listed)

    def remark(self) -> None:
        """When all entries are listed: what is to be told of them together."""
        if self.passed_over:
            kinds = ", ".join(sorted(self.kinds))
            sentence = f"{self.passed_over} entries are of other kinds than {kinds}: passed over"
            self.gathering.notes.append(Remark("the directory", "pivot", sentence))
        if not self.procedures:
            sentence = "no procedure is named, so nobody is subscribed to any; say which with --procedure"
            self.gathering.notes.append(Remark("the directory", "", sentence))

    def _entry(
        self, told: Mapping[str, Any], where: str, key: re.Match[str] | None, communes: Sequence[str]
    ) -> ListedPartner:
        if not communes:
            raise Unreadable("pivot", "it does not say which commune it serves")
        seat = key["commune"] if key else _text(told, "code_insee_commune") or communes[0]
        number = int(key["number"]) if key else 1
        branch = seat if number == 1 else f"{seat}{number:02d}"
        siret = "".join(_text(told, "siret").split())
        if not siret:
            raise Unreadable("siret", "it has none, and nobody can be named without")
        return ListedPartner(
            where,
            subscriber(f"{siret}-{branch}", "siret"),
            fitting(_NAME, _text(told, "nom"), "nom", "a text of 1 to 200 signs is expected"),
            subscriptions=tuple(
                ListedSubscription(where, procedure, self.places.read(f"commune:{commune}", "pivot"))
                for procedure in self.procedures
                for commune in communes
            ),
        )

    def _communes(self, told: Mapping[str, Any], key: re.Match[str] | None) -> Sequence[str] | None:
        """Each once; None: it is of a kind that is not asked for."""
        served = [one for one in _pivots(told) if one[0] in self.kinds]
        if served:
            found = [commune for _, communes in served for commune in communes]
            return tuple(dict.fromkeys(found))
        if key is None or key["kind"] not in self.kinds:
            return None
        return (_text(told, "code_insee_commune") or key["commune"],)


def _pivots(told: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Kinds of service, each with its communes. In the CSV and in the API the list is a text of JSON."""
    pivots = told.get("pivot") or []
    if isinstance(pivots, str):
        try:
            pivots = read_value(pivots)
        except ValueError as error:
            raise Unreadable("pivot", str(error)) from None
    for one in pivots if isinstance(pivots, list) else [pivots]:
        kind = one.get("type_service_local") if isinstance(one, dict) else None
        communes = one.get("code_insee_commune", []) if isinstance(one, dict) else None
        communes = [communes] if isinstance(communes, str) else communes
        if not isinstance(kind, str) or not isinstance(communes, list):
            raise Unreadable("pivot", "a list of services is expected, each with its kind and its communes")
        for commune in communes:
            if not isinstance(commune, str) or not _COMMUNE.fullmatch(commune):
                raise Unreadable("pivot", "a commune's code has five signs, as 77188 or 2A004")
        yield kind, communes


def _text(told: Mapping[str, Any], name: str) -> str:
    """Empty when it is not said."""
    value = told.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(name, "a text is expected")
    return value.strip()
