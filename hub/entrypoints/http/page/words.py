"""The page's French: instants, sizes, states and refusals, in the words of whoever reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from hub.domain.cases import CaseStatus
from hub.domain.lifecycle import State
from hub.domain.mailbox import Drawer, drawer
from hub.domain.partner import MAILBOX
from hub.ports.mailboxes import Entry

PARIS = ZoneInfo("Europe/Paris")
_MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
    "décembre",
)  # fmt: skip
_UNITS = ("octets", "Ko", "Mo", "Go", "To")
_NARROW = "\u202f"
_FIXED = "\u00a0"

DRAWERS: Mapping[Drawer, str] = {
    Drawer.OPEN: "À relever",
    Drawer.HANDED_OVER: "Remis par un autre canal",
    Drawer.ACKNOWLEDGED: "Réception confirmée",
}

_CHANNELS: Mapping[str, str] = {
    "sftp": "SFTP",
    "mail": "courriel",
    "webhook": "votre logiciel",
    MAILBOX: "cette boîte",
}

STATUSES: Mapping[CaseStatus, str] = {
    CaseStatus.HUBEE_NOTIFIED: "Notifié",
    CaseStatus.SENT: "Transmis",
    CaseStatus.SI_RECEIVED: "Reçu",
    CaseStatus.IN_PROGRESS: "En cours",
    CaseStatus.ADD_AWAITING: "En attente de compléments",
    CaseStatus.REFUSED: "Refusé",
    CaseStatus.DONE: "Traité",
    CaseStatus.SI_INTG_ERROR: "Erreur d’intégration",
}

REFUSALS: Mapping[int, tuple[str, str]] = {
    400: (
        "Demande incomplète",
        "La demande n’est pas arrivée entière. Revenez à la page précédente et recommencez.",
    ),
    403: (
        "Action refusée",
        "Cette action n’a pas été faite : le formulaire ne venait pas de cette page, ou il était trop ancien."
        " Rouvrez le pli et recommencez.",
    ),
    404: ("Page introuvable", "Il n’y a rien à cette adresse dans votre boîte de dépôt."),
    405: ("Action impossible", "Cette adresse ne s’ouvre pas de cette façon. Revenez à la boîte de dépôt."),
    409: (
        "Action impossible",
        "L’état du pli ne permet pas cette action. Rouvrez le pli pour voir où il en est.",
    ),
    410: (
        "Pli transféré",
        "Ce pli était dans votre boîte. Il a suivi l’organisme qui a pris la suite du vôtre.",
    ),
    413: ("Demande trop longue", "Le texte envoyé est trop long."),
    416: ("Téléchargement impossible", "La partie demandée n’existe pas dans ce fichier."),
    422: ("Demande incorrecte", "Un champ n’est pas rempli comme il faut. Revenez à la page précédente."),
    429: ("Trop d’essais", "Trop d’essais en peu de temps. Patientez une minute, puis recommencez."),
    500: (
        "Erreur",
        "La page n’a pas pu être affichée. L’incident est enregistré ; aucun pli n’est perdu. Recommencez plus tard.",
    ),
    503: (
        "Service momentanément indisponible",
        "Un élément dont la boîte a besoin ne répond pas. Aucun pli n’est perdu. Recommencez dans une minute.",
    ),
}


def refusal(status: int) -> tuple[str, str]:
    return REFUSALS.get(status, REFUSALS[500])


def day(instant: datetime) -> str:
    here = instant.astimezone(PARIS)
    number = "1er" if here.day == 1 else str(here.day)
    return f"{number} {_MONTHS[here.month - 1]} {here.year}"


def moment(instant: datetime) -> str:
    """On the clocks of Paris: `27 novembre 2026 à 14 h 05`."""
    return f"{day(instant)} à {clock(instant)}"


def short(instant: datetime) -> str:
    here = instant.astimezone(PARIS)
    return f"{here:%d/%m/%Y} {here:%H:%M}"


def clock(instant: datetime) -> str:
    here = instant.astimezone(PARIS)
    return f"{here.hour}{_FIXED}h{_FIXED}{here.minute:02d}"


def size(number: int) -> str:
    """In powers of a thousand, as file managers show them."""
    amount, unit = float(number), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    if unit == 0:
        return f"{number}{_FIXED}octet{'s' if number > 1 else ''}"
    told = f"{amount:.1f}" if amount < 99.95 else f"{amount:.0f}"
    return f"{told.removesuffix('.0').replace('.', ',')}{_FIXED}{_UNITS[unit]}"


def number(amount: int) -> str:
    return f"{amount:,}".replace(",", _NARROW)


def several(number: int, one: str, many: str) -> str:
    return f"{number}{_FIXED}{one if number < 2 else many}"


def channel(word: str) -> str:
    return _CHANNELS.get(word, word)


def standing(entry: Entry) -> str:
    """Where a parcel is, in one line."""
    if drawer(entry.state, entry.channel) is Drawer.ACKNOWLEDGED:
        return f"Réception confirmée le {moment(entry.since)}"
    if entry.leased_until is not None:
        return f"Réservé par votre logiciel jusqu’à {clock(entry.leased_until)}"
    if entry.state is State.DELIVERED and entry.channel != MAILBOX:
        return f"Remis par {channel(entry.channel)} le {moment(entry.since)}"
    if entry.channel == MAILBOX and entry.state is not State.PARKED:
        return "Consulté, à confirmer" if entry.fetched else "À relever"
    if entry.state is State.PARKED:
        return f"N’a pas pu être remis par {channel(entry.channel)}"
    return f"En cours d’envoi par {channel(entry.channel)}"


def tone(entry: Entry) -> str:
    """How it is set apart in a list, beside its words."""
    if entry.state is State.PARKED:
        return "bad"
    if drawer(entry.state, entry.channel) is not Drawer.OPEN:
        return "good"
    if entry.leased_until is not None or entry.channel != MAILBOX:
        return "calm"
    return "seen" if entry.fetched else "fresh"


def media_type(told: str) -> str:
    """What an agent calls it; the sender's word where there is none."""
    return _MEDIA_TYPES.get(told.lower(), told)


_MEDIA_TYPES: Mapping[str, str] = {
    "application/pdf": "PDF",
    "application/json": "données JSON",
    "application/xml": "données XML",
    "text/xml": "données XML",
    "text/plain": "texte",
    "text/html": "page web",
    "text/csv": "tableau CSV",
    "image/jpeg": "image JPEG",
    "image/png": "image PNG",
    "application/zip": "archive ZIP",
    "application/octet-stream": "fichier",
    "application/msword": "document Word",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "document Word",
    "application/vnd.oasis.opendocument.text": "document OpenDocument",
}
