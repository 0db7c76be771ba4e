"""A trial of a webhook: TLS, the token; and, if that is wanted, a signed ping that carries nothing.

    {"type": "ping", "timestamp": "2026-03-01T09:00:00.000000Z", "data": {"text": "…"}}

It is signed like every request (Standard Webhooks), and its `webhook-id` begins with `ping-`.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp
from pydantic_core import to_json

from connectors.trials.steps import Steps, certificate, reach
from connectors.webhook.authorising import NoToken, Tokens
from connectors.webhook.judging import judge
from connectors.webhook.settings import Target
from connectors.webhook.signing import signed
from hub.domain.delivery import Deferred, Delivered, Refused
from hub.domain.trials import Step
from hub.ports.connector import Outgoing

TEXT = "Essai de la plateforme Aiguillage : aucun télédossier n'est joint."


async def try_out(
    target: Target,
    trust: ssl.SSLContext | bool,
    session: Callable[[], aiohttp.ClientSession],
    tokens: Tokens,
    outgoing: Outgoing,
    now: float,
    limit: float,
    *,
    send: bool,
) -> list[Step]:
    """`limit`: seconds to wait for a silent server, at each step. `send`: with the ping."""
    steps = Steps(_judge)
    async with steps.within(limit):
        if not await _encryption(steps, target, trust, outgoing, limit):
            return steps.noted
        token = target.token
        if target.token_request is not None:
            try:
                token = await tokens.token(target.token_request, limit)
            except NoToken as fault:
                if not isinstance(fault.outcome, Delivered):
                    steps.refused("token", fault.outcome.cause, "Jeton OAuth 2.0", "Token of OAuth 2.0")
                return steps.noted
            steps.well("token", "Le serveur de jetons en donne un.", "The token server gives one.")
        if send:
            await _ping(steps, target, trust, session(), token, now, limit)
        else:
            steps.note(
                "sending",
                "Aucune requête n'a été envoyée : --send en envoie une, signée et vide (ping).",
                "No request was sent: --send sends one, signed and empty (ping).",
            )
    return steps.noted


def _judge(fault: Exception) -> Deferred | Refused:
    outcome = judge(fault)
    assert not isinstance(outcome, Delivered)
    return outcome


async def _encryption(
    steps: Steps, target: Target, trust: ssl.SSLContext | bool, outgoing: Outgoing, limit: float
) -> bool:
    host = target.address.raw_host or ""
    door = await reach(steps, outgoing, host, target.address.port or 443, limit)
    if door is None:
        return False
    if target.address.scheme == "http":
        door.close()
        steps.note("encryption", "La connexion n'est pas chiffrée.", "The connection is not encrypted.")
        return True
    context = trust if isinstance(trust, ssl.SSLContext) else ssl.create_default_context()
    try:
        async with asyncio.timeout(limit):
            _, writer = await asyncio.open_connection(sock=door, ssl=context, server_hostname=host)
    except (OSError, ssl.SSLError) as fault:
        steps.fault("encryption", fault, "Ouverture de la session TLS", "Opening the session of TLS")
        return False
    certificate(steps, writer.get_extra_info("ssl_object"))
    writer.transport.abort()
    return True


async def _ping(
    steps: Steps,
    target: Target,
    trust: ssl.SSLContext | bool,
    session: aiohttp.ClientSession,
    token: str | None,
    now: float,
    limit: float,
) -> None:
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    sent = to_json({"type": "ping", "timestamp": at, "data": {"text": TEXT}})
    told = signed(f"ping-{secrets.token_hex(16)}", sent, target.signers, now)
    if token is not None:
        told["Authorization"] = f"Bearer {token}"
    try:
        async with session.post(
            target.address,
            data=aiohttp.BytesPayload(sent),
            headers=told,
            allow_redirects=False,
            ssl=trust,
            timeout=aiohttp.ClientTimeout(total=limit),
        ) as response:
            status = response.status
            outcome = judge(status)
            response.close()
    except (aiohttp.ClientError, OSError) as fault:
        steps.fault("ping", fault, "Envoi d'un ping signé", "Sending a signed ping")
        return
    if isinstance(outcome, Delivered):
        steps.well("ping", f"Le ping signé est accepté ({status}).", f"The signed ping is taken ({status}).")
    else:
        steps.refused("ping", outcome.cause, "Envoi d'un ping signé", "Sending a signed ping")
