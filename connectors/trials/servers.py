"""Servers of SSH in a trial: who they are, who we are there, and which of two that follow each other is at fault."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import asyncssh
from asyncssh.public_key import SSHOpenSSHCertificate

from connectors.sftp.algorithms import Algorithms
from connectors.sftp.certificates import ends_at, out_of_force
from connectors.sftp.connecting import OURS_ALONE
from connectors.sftp.judging import FAULTS, AtTheJump, ForwardingDenied, NotReached, judge
from connectors.sftp.sessions import Session
from connectors.sftp.settings import Hop, Target
from connectors.sftp.trust import Distrusted, Witness, fingerprint
from connectors.trials.steps import SOON, Steps, reach
from hub.ports.connector import ForbiddenAddress, Outgoing


async def look(steps: Steps, target: Target, outgoing: Outgoing, limit: float) -> bool:
    """As far as one gets without an account: at the first of both, where there are two."""
    server = target.jump or target.server
    return await _host_key(_of(steps, target, server), server, target.algorithms, outgoing, limit)


def not_entered(steps: Steps, target: Target, fault: Exception) -> None:
    server, jump = target.server, target.jump
    if isinstance(fault, AtTheJump) and jump is not None:
        _login_fault(_of(steps, target, jump), jump, fault.fault)
        return
    if isinstance(fault, ForbiddenAddress):
        steps.fault("address", fault, f"Adresse {server.host}", f"Address {server.host}")
        return
    if jump is not None:
        _let_in(_of(steps, target, jump), jump)
        if isinstance(fault, ForwardingDenied | NotReached):
            told = f"{server.host}, port {server.port}"
            steps.fault("forwarding", fault, f"Du rebond vers {told}", f"From the jump to {told}")
            return
    _login_fault(steps, server, fault)


def entered(steps: Steps, target: Target, session: Session) -> None:
    server, jump = target.server, target.jump
    if jump is not None and session.jump is not None:
        there = _of(steps, target, jump)
        if jump.host_keys.authorities:
            _shown(there, session.jump)
        _let_in(there, jump)
        steps.well(
            "forwarding",
            f"Le serveur {server.host} est atteint depuis le rebond.",
            f"The server {server.host} is reached from the jump.",
        )
    if jump is not None or server.host_keys.authorities:
        _shown(steps, session.connection)
    _let_in(steps, server)


def account(steps: Steps, server: Hop) -> None:
    """What our certificate says, that the server is to believe."""
    certificate = server.certificate
    if certificate is None:
        return
    until = _until(certificate)
    if (flaw := out_of_force(certificate, time.time())) is not None:
        known = {
            "early": ("n'est pas encore en vigueur", "is not yet in force"),
            "expired": (f"a expiré {until[0]}", f"ran out {until[1]}"),
        }[flaw]
        steps.note(
            "certificate", f"Le certificat du compte {known[0]}.", f"The account's certificate {known[1]}."
        )
        return
    by = fingerprint(certificate.signing_key)
    steps.well(
        "certificate",
        f"Le certificat du compte est valable {until[0]} ; autorité {by}.",
        f"The account's certificate is good {until[1]}; authority {by}.",
    )
    _soon(steps, certificate, ("du compte", "account's"))
    if certificate.principals and server.username not in certificate.principals:
        steps.note(
            "certificate",
            f"Le certificat ne nomme pas le compte {server.username} : au serveur de savoir qui il admet.",
            f"The certificate does not name the account {server.username}: its server must know whom it lets in.",
        )


# --- their keys ---------------------------------------------------------------------------------------


async def _host_key(
    steps: Steps, server: Hop, algorithms: Algorithms, outgoing: Outgoing, limit: float
) -> bool:
    """One handshake for each kind of key that is believed, until one is found; then one for whatever there is. What an
    authority says of a key shows when somebody logs in."""
    door = await reach(steps, outgoing, server.host, server.port, limit)
    if door is None:
        return False
    if server.host_keys.authorities:
        door.close()
        return True
    found: list[asyncssh.SSHKey] = []
    fault: Exception | None = None
    for family in (*server.host_keys.families, ()):
        try:
            door = door or await outgoing.connect(server.host, server.port, limit)
            # From here on it is the library's, which closes it.
            given, door = door, None
            async with asyncio.timeout(limit):
                key = await asyncssh.get_server_host_key(
                    server.host,
                    server.port,
                    sock=given,
                    kex_algs=algorithms.exchange,
                    server_host_key_algs=family,
                    config=None,
                    options=_nobody(),
                )
        except FAULTS as error:
            fault = error
            # A server that has no key of this kind is told by a connection that ends; one that is away, by the network.
            if not isinstance(error, asyncssh.Error | ConnectionResetError):
                break
            continue
        if key is not None and server.host_keys.hold(key):
            _expected(steps, key)
            return True
        if key is not None:
            found.append(key)
    if found:
        told = ", ".join(dict.fromkeys(_told(key) for key in found))
        expected = ", ".join(
            [*(_told(key) for key in server.host_keys.keys), *sorted(server.host_keys.fingerprints)]
        )
        revoked = any(key in server.host_keys.revoked for key in found)
        steps.wrong(
            "host_key",
            f"Le serveur a la clé {told} ; attendue : {expected}. Vérifiez auprès du partenaire avant de la changer.",
            f"The server has the key {told}; expected: {expected}. Ask the partner before you change it.",
            steps.judge(Distrusted("host_key_revoked" if revoked else "host_key_changed")).cause,
        )
    elif fault is not None:
        steps.fault("host_key", fault, "Échange de clés avec le serveur", "Exchange of keys with the server")
    return False


def _nobody() -> asyncssh.SSHClientConnectionOptions:
    """Without a key: the library would look for some in this account's folder, though it logs in nowhere."""
    return asyncssh.SSHClientConnectionOptions(client_keys=None, **OURS_ALONE)


def _expected(steps: Steps, key: asyncssh.SSHKey) -> None:
    steps.well(
        "host_key",
        f"Clé du serveur attendue : {_told(key)}.",
        f"The server's key is the expected one: {_told(key)}.",
    )


def _told(key: asyncssh.SSHKey) -> str:
    return f"{fingerprint(key)} ({key.get_algorithm()})"


def _shown(steps: Steps, connection: asyncssh.SSHClientConnection) -> None:
    """What was believed when somebody logged in."""
    witness, key = connection.get_owner(), connection.get_server_host_key()
    certificate = witness.certificate if isinstance(witness, Witness) else None
    if certificate is not None:
        until, by = _until(certificate), fingerprint(certificate.signing_key)
        steps.well(
            "host_key",
            f"Le serveur est certifié par l'autorité {by}, {until[0]}.",
            f"The server is certified by the authority {by}, {until[1]}.",
        )
        _soon(steps, certificate, ("du serveur", "server's"))
    elif key is not None:
        _expected(steps, key)


def _until(certificate: SSHOpenSSHCertificate) -> tuple[str, str]:
    ends = ends_at(certificate)
    if ends is None:
        return "sans limite de durée", "for ever"
    return f"jusqu'au {ends:%d/%m/%Y} à {ends:%H:%M} UTC", f"until {ends:%Y-%m-%d %H:%M} UTC"


def _soon(steps: Steps, certificate: SSHOpenSSHCertificate, whose: tuple[str, str]) -> None:
    ends = ends_at(certificate)
    if ends is not None and (left := (ends - datetime.now(UTC)).days) < SOON:
        steps.note(
            "certificate",
            f"Le certificat {whose[0]} expire dans {left} jours.",
            f"The {whose[1]} certificate expires in {left} days.",
        )


# --- accounts -----------------------------------------------------------------------------------------


def _of(steps: Steps, target: Target, server: Hop) -> Steps:
    """Steps about this of both servers, among the others."""
    if server is not target.jump:
        return steps
    return Steps(lambda fault: judge(AtTheJump(fault)), steps.noted, "jump_", ("Rebond : ", "Jump: "))


def _let_in(steps: Steps, server: Hop) -> None:
    steps.well(
        "login", f"Le compte {server.username} est admis.", f"The account {server.username} is let in."
    )


def _login_fault(steps: Steps, server: Hop, fault: Exception) -> None:
    if isinstance(fault, asyncssh.HostKeyNotVerifiable):
        steps.fault("host_key", fault, "Clé du serveur", "The server's key")
    else:
        steps.fault("login", fault, f"Compte {server.username}", f"Account {server.username}")
