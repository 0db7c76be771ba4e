"""Steps of a trial as they are noted: what was found, in two languages; a fault in the words of its cause."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from hub.domain.delivery import Deferred, Refused
from hub.domain.trials import Step, StepState
from hub.ports.connector import ForbiddenAddress, Outgoing

SOON = 21
"""Days before a certificate's end from which it is told."""

WAITS = 6
"""How often in all a trial may wait for a silent server: less often than it is given time for, so that it ends by
itself, tells what it found, and takes away what it made."""

Judge = Callable[[Exception], Deferred | Refused]

WORDS: Mapping[str, tuple[str, str]] = {
    "timeout": ("le serveur ne répond pas dans le délai", "the server does not answer in time"),
    "connection_refused": (
        "rien n'écoute à ce port, ou un pare-feu refuse",
        "nothing listens at this port, or a firewall refuses",
    ),
    "host_unknown": ("aucun serveur de noms ne connaît ce nom", "no name server knows this name"),
    "address_forbidden": (
        "ce nom mène à une adresse privée ou interdite ; l'exploitant peut l'autoriser par HUB_OUTGOING_ALLOW",
        "this name leads to an address that is private or forbidden; operators allow it by HUB_OUTGOING_ALLOW",
    ),
    "disconnected": ("le serveur coupe la connexion", "the server cuts the connection"),
    "unreachable": ("ce serveur ne peut pas être atteint d'ici", "this server cannot be reached from here"),
    "certificate_invalid": (
        "le certificat n'est pas celui de ce nom, est expiré, ou son autorité n'est pas connue",
        "the certificate is not this name's, has expired, or nobody knows its authority",
    ),
    "tls_failed": ("la session TLS ne s'établit pas", "no session of TLS comes about"),
    "tls_or_login_missing": (
        "le serveur ne propose pas STARTTLS, ou pas d'identification",
        "the server offers no STARTTLS, or no login",
    ),
    "no_common_algorithm": (
        "le serveur ne connaît aucun des algorithmes admis (paramètre algorithms)",
        "the server knows none of the algorithms that are accepted (setting algorithms)",
    ),
    "host_key_changed": (
        "la clé du serveur n'est pas celle attendue",
        "the server's key is not the expected one",
    ),
    "host_key_revoked": (
        "la clé du serveur, ou l'autorité qui la certifie, est révoquée",
        "the server's key, or the authority that certified it, is revoked",
    ),
    "host_authority_unknown": (
        "le serveur est certifié par une autre autorité que celle attendue",
        "the server is certified by another authority than the expected one",
    ),
    "host_certificate_missing": (
        "le serveur ne montre pas de certificat",
        "the server shows no certificate",
    ),
    "host_certificate_expired": ("le certificat du serveur a expiré", "the server's certificate has expired"),
    "host_certificate_early": (
        "le certificat du serveur n'est pas encore en vigueur",
        "the server's certificate is not yet in force",
    ),
    "host_certificate_for_another": (
        "le certificat du serveur n'est pas pour ce nom",
        "the server's certificate is not for this name",
    ),
    "certificate_expired": ("le certificat du compte a expiré", "the account's certificate has expired"),
    "certificate_early": (
        "le certificat du compte n'est pas encore en vigueur",
        "the account's certificate is not yet in force",
    ),
    "certificate_refused": (
        "le certificat du compte est refusé : autorité, ou noms pour lesquels il est fait",
        "the account's certificate is refused: its authority, or whom it is for",
    ),
    "jump_forwarding_denied": (
        "le serveur de rebond ne laisse pas passer vers ce serveur",
        "the server that is jumped through lets nobody through to this server",
    ),
    "permission_denied": (
        "le compte, la clé ou le mot de passe est refusé",
        "the account, key or password is refused",
    ),
    "login_refused": ("le compte ou le mot de passe est refusé", "the account or password is refused"),
    "login_deferred": ("l'identification n'est pas possible pour l'instant", "no login is possible for now"),
    "no_sftp": ("le serveur n'offre pas SFTP", "the server offers no SFTP"),
    "write_denied": ("le compte n'a pas ce droit", "the account may not do this"),
    "failure": ("le serveur refuse, sans dire pourquoi", "the server refuses, and does not say why"),
    "no_space": ("le disque ou le quota est plein", "the disk or quota is full"),
    "directory_missing": ("ce dossier n'existe pas", "there is no such folder"),
    "folder_vanished": ("ce dossier n'existe pas", "there is no such folder"),
    "mailbox_refused": ("cette adresse est refusée", "this address is refused"),
    "mailbox_busy": (
        "cette adresse n'accepte rien pour l'instant (boîte pleine ou liste grise)",
        "this address takes nothing for now (full, or greylisting)",
    ),
    "sender_refused": ("l'adresse d'expédition est refusée", "the sender's address is refused"),
    "sender_deferred": (
        "l'adresse d'expédition est refusée pour l'instant",
        "the sender's address is refused for now",
    ),
    "server_busy": ("le serveur est occupé", "the server is busy"),
    "token_http_401": (
        "le serveur de jetons refuse client_id ou client_secret",
        "the token server refuses client_id or client_secret",
    ),
    "token_unreadable": ("le serveur de jetons ne donne pas de jeton", "the token server gives no token"),
    "http_400": (
        "le partenaire refuse la requête : son contenu, la signature ou le certificat de la plateforme",
        "the partner refuses the request: its content, the signature or the hub's certificate",
    ),
    "http_401": (
        "le partenaire refuse le jeton ou la signature",
        "the partner refuses the token or the signature",
    ),
    "http_404": ("rien ne répond à cette adresse (404)", "nothing answers at this address (404)"),
}
"""What a cause means to who has to change something, by its reason."""


def whole_time(limit: float) -> asyncio.Timeout:
    return asyncio.timeout(limit * WAITS)


@dataclass(slots=True)
class Steps:
    """Noted one after the other. `judge` says what a fault means on this channel. `of`, `told`: what names, and texts
    in both languages, begin with, where steps are about a server on the way."""

    judge: Judge
    noted: list[Step] = field(default_factory=list)
    of: str = ""
    told: tuple[str, str] = ("", "")

    def well(self, name: str, fr: str, en: str) -> None:
        self._add(name, StepState.WELL, fr, en)

    def note(self, name: str, fr: str, en: str) -> None:
        self._add(name, StepState.NOTED, fr, en)

    def wrong(self, name: str, fr: str, en: str, cause: str | None = None) -> None:
        self._add(name, StepState.WRONG, fr, en, cause)

    def _add(self, name: str, state: StepState, fr: str, en: str, cause: str | None = None) -> None:
        self.noted.append(
            Step(f"{self.of}{name}", state, f"{self.told[0]}{fr}", f"{self.told[1]}{en}", cause)
        )

    @asynccontextmanager
    async def within(self, limit: float) -> AsyncIterator[None]:
        """What takes too long in all is ended here, which is one more step. `limit`: seconds to wait for a silent
        server, at each step."""
        whole = whole_time(limit)
        try:
            async with whole:
                yield
        except TimeoutError:
            if not whole.expired():
                raise
            self.wrong(
                "trial",
                "L'essai a été arrêté : le serveur répond trop lentement.",
                "The trial was stopped: the server answers too slowly.",
            )

    def fault(self, name: str, fault: Exception, fr: str, en: str) -> None:
        """`fr` and `en`: what was tried; what came of it follows."""
        self.refused(name, self.judge(fault).cause, fr, en)

    def refused(self, name: str, cause: str, fr: str, en: str) -> None:
        reason = cause.partition(".")[2]
        known = WORDS.get(reason) or WORDS.get(reason.removeprefix("jump_"))
        told = known or (f"refusé ({reason})", f"refused ({reason})")
        self.wrong(name, f"{fr} : {told[0]}.", f"{en}: {told[1]}.", cause)


async def reach(steps: Steps, outgoing: Outgoing, host: str, port: int, limit: float) -> socket.socket | None:
    """A connection through the hub's guard, after a look at its name; the caller closes it. None: there is none, and
    that is noted."""
    try:
        async with asyncio.timeout(limit):
            found = await outgoing.resolve(host, port)
    except OSError as fault:
        name = "address" if isinstance(fault, ForbiddenAddress) else "name"
        steps.fault(name, fault, f"Nom {host}", f"Name {host}")
        return None
    addresses = ", ".join(dict.fromkeys(info[4][0] for info in found))
    if not _is_address(host):
        steps.well("name", f"{host} a l'adresse {addresses}.", f"{host} has the address {addresses}.")
    try:
        door = await outgoing.connect(host, port, limit)
    except OSError as fault:
        steps.fault("connection", fault, f"Connexion au port {port}", f"Connection to port {port}")
        return None
    steps.well("connection", f"Le port {port} répond.", f"Port {port} answers.")
    return door


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def certificate(steps: Steps, shown: ssl.SSLObject | ssl.SSLSocket | None) -> None:
    """Notes what was agreed on with TLS, and until when the server's certificate is good."""
    encoded = None if shown is None else shown.getpeercert(True)
    if shown is None or encoded is None:
        steps.well("encryption", "La session est chiffrée.", "The session is encrypted.")
        return
    found = x509.load_der_x509_certificate(encoded)
    digest = found.fingerprint(SHA256()).hex()
    until = found.not_valid_after_utc
    left = (until - datetime.now(UTC)).days
    version = shown.version() or "TLS"
    steps.well(
        "encryption",
        f"{version} ; certificat valable jusqu'au {until:%d/%m/%Y}, empreinte SHA-256 {digest}.",
        f"{version}; the certificate is good until {until:%Y-%m-%d}, SHA-256 fingerprint {digest}.",
    )
    if left < SOON:
        steps.note(
            "certificate",
            f"Le certificat du serveur expire dans {left} jours.",
            f"The server's certificate expires in {left} days.",
        )
