"""The demo's partners' servers, started beside the hub, and the endpoints that lead to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from demo.plan import DemoPartner, World
from demo.receivers.process import Receiver

_SENDER = "hub@hub.example"


@dataclass(frozen=True, slots=True)
class Servers:
    """`endpoints`: settings and secrets of each partner, as the partners file wants them."""

    sftp: Receiver
    mail: Receiver
    webhook: Receiver
    endpoints: Mapping[str, Mapping[str, Any]]

    async def heal(self) -> None:
        for receiver in (self.sftp, self.mail, self.webhook):
            await receiver.heal()

    async def pending(self) -> int:
        """Webhook deliveries whose files are still being fetched."""
        return (await self.webhook.status()).pending


@asynccontextmanager
async def servers(world: World, folder: Path) -> AsyncIterator[Servers]:
    """Real servers, each in its own process, each with its misbehaving partners."""
    folder.mkdir(parents=True, exist_ok=True)
    key = asyncssh.generate_private_key("ssh-ed25519")
    keys = folder / "authorized_keys"
    keys.write_bytes(key.export_public_key())
    secrets = folder / "webhook-secrets.json"
    secrets.write_text(json.dumps({partner.subscriber: partner.secret for partner in world.on("webhook")}))
    secrets.chmod(0o600)
    async with AsyncExitStack() as stack:

        async def start(kind: str, channel: str, *arguments: str) -> Receiver:
            misbehaving = {
                partner.subscriber: partner.misbehaves for partner in world.on(channel) if partner.misbehaves
            }
            receiver = await Receiver.start(kind, folder / channel, *arguments, misbehaving=misbehaving)
            return await stack.enter_async_context(receiver)

        sftp, mail, webhook = await asyncio.gather(
            start("sftp", "sftp", "--authorized-keys", str(keys.resolve())),
            start("smtp", "mail", "--starttls"),
            start("http", "webhook", "--secrets", str(secrets.resolve())),
        )
        private = key.export_private_key().decode()
        endpoints = {
            **{p.subscriber: _by_sftp(p, sftp, private) for p in world.on("sftp")},
            **{p.subscriber: _by_mail(p, mail) for p in world.on("mail")},
            **{p.subscriber: _by_webhook(p, webhook) for p in world.on("webhook")},
            **{p.subscriber: {} for p in world.on("mailbox")},
        }
        yield Servers(sftp, mail, webhook, endpoints)


def _by_sftp(partner: DemoPartner, receiver: Receiver, private_key: str) -> dict[str, Any]:
    return {
        "settings": {
            "host": "127.0.0.1",
            "port": receiver.port(partner.subscriber),
            "username": partner.subscriber,
            "host_key": receiver.ready["host_key"],
        },
        "secrets": {"private_key": private_key},
    }


def _by_mail(partner: DemoPartner, receiver: Receiver) -> dict[str, Any]:
    return {
        "settings": {
            "host": "127.0.0.1",
            "port": receiver.port(partner.subscriber),
            "tls": "starttls",
            "ca": receiver.ready["ca"],
            "sender": _SENDER,
            "recipients": [f"{partner.subscriber}@mairie.example"],
            "mode": "attachments",
        }
    }


def _by_webhook(partner: DemoPartner, receiver: Receiver) -> dict[str, Any]:
    port = receiver.port(partner.subscriber)
    return {
        "settings": {"url": f"http://127.0.0.1:{port}/hooks/{partner.subscriber}"},
        "secrets": {"secret": partner.secret},
    }
