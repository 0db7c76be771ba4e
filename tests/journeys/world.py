"""A hub in a process of its own, real receivers beside it, and a form site: what the journeys walk through."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from demo.hub import Hub
from demo.receivers.process import Receiver
from tests.ports import free_port

BONNEVILLE = "21740042390019-74042"
MARIGNIER = "21740164590016-74164"
MINISTRY = "11001401600015-75108"
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PROCEDURES = ("CERTDC", "recensementCitoyen")


@dataclass(frozen=True, slots=True)
class Stage:
    folder: Path
    environment: Mapping[str, str]
    receiver: Receiver

    async def start(self) -> Hub:
        return await Hub.start(self.environment, self.folder / "hub.log")

    def arrivals(self) -> list[dict[str, Any]]:
        path = self.folder / "partners" / "arrivals.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def stage(**settings: str) -> AbstractAsyncContextManager[Stage]:
    """All partners behave."""
    return staged(settings)


@asynccontextmanager
async def staged(
    settings: Mapping[str, str], misbehaving: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    """Two town halls and the ministry by webhook. The folder is one that the account which runs the
    embedded server can reach."""
    folder = Path(tempfile.mkdtemp(prefix="hub-journey-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        secrets = folder / "secrets.json"
        secrets.write_text(json.dumps(dict.fromkeys((BONNEVILLE, MARIGNIER, MINISTRY), SECRET)))
        async with await _receiver(folder, secrets, misbehaving) as receiver:
            partners = folder / "partners.json"
            partners.write_text(json.dumps(_partners(receiver)))
            environment = {
                "HUB_FOLDER": str(folder / "hub"),
                "HUB_HOST": "127.0.0.1",
                "HUB_PORT": str(free_port()),
                "HUB_PARTNERS": str(partners),
                "HUB_LEASE": "2",
                "HUB_RETRY_WAITS": "0.2,0.5,1,1,1,1",
                "HUB_ATTEMPT_LIMIT": "5",
                "HUB_RULES_LEAD": "0",
                "HUB_DISK_RESERVE": "0",
                "HUB_RATE_LIMIT": "100000",
                "HUB_LOG_FORMAT": "json",
                "HUB_OUTGOING_ALLOW": "127.0.0.0/8",
                **settings,
            }
            yield Stage(folder, environment, receiver)
    finally:
        await _end_orphans(folder)
        shutil.rmtree(folder, ignore_errors=True)


async def _receiver(folder: Path, secrets: Path, misbehaving: Mapping[str, str] | None) -> Receiver:
    arguments = ("--secrets", str(secrets))
    return await Receiver.start("http", folder / "partners", *arguments, misbehaving=misbehaving)


def submission(number: int, procedure: str, commune: str) -> tuple[dict[str, Any], list[bytes]]:
    """A form and its files, the same for the same number."""
    fact = {"CERTDC": "commune_deces"}.get(procedure, "commune_residence")
    types = ("DD", "VA") if procedure == "CERTDC" else ("formulaire",)
    contents = [f"<demande numero='{number}' type='{type}'>é</demande>".encode() for type in types]
    described = {
        "external_id": f"J-{number:05d}",
        "procedure": procedure,
        "facts": {fact: commune},
        "attachments": [
            {
                "name": f"pièce {type}.xml",
                "type": type,
                "media_type": "application/xml",
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for type, content in zip(types, contents, strict=True)
        ],
    }
    return described, contents


async def post(session: aiohttp.ClientSession, url: str, form: tuple[dict[str, Any], list[bytes]]) -> str:
    """Post until there is a 202, as a form site must; the hub's id."""
    described, contents = form
    while True:
        body = aiohttp.FormData()
        body.add_field("submission", json.dumps(described), content_type="application/json")
        for content in contents:
            body.add_field("file", content, filename="f.xml", content_type="application/xml")
        with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
            async with session.post(f"{url}/v1/submissions", data=body) as answer:
                if answer.status == 202:
                    return str((await answer.json())["id"])
                if answer.status not in (429, 503):
                    raise AssertionError(f"{answer.status}: {await answer.text()}")
        await asyncio.sleep(0.2)


async def accounts(hub: Hub) -> dict[str, Any]:
    """What `hub reconcile` says; an account that does not add up fails here."""
    path = Path(hub.environment["HUB_FOLDER"]).parent / "accounts.json"
    code, _ = await hub.command("reconcile", "--json", str(path))
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    assert code == 0, found["differences"]
    return found["accounts"]  # type: ignore[no-any-return]


async def at_rest(hub: Hub, session: aiohttp.ClientSession, within: float = 60) -> dict[str, int]:
    """Wait until nothing is undecided or in motion."""
    async with asyncio.timeout(within):
        while True:
            counts = await hub.counts(session)
            moving = ("planned", "waiting")
            if not counts.get("submissions.undecided", 1) and not any(
                counts.get(f"deliveries.{state}", 0) for state in moving
            ):
                return counts
            await asyncio.sleep(0.1)


async def fetched(world: Stage) -> None:
    """Receivers answer first and fetch the files by their links afterwards."""
    async with asyncio.timeout(30):
        while (await world.receiver.status()).pending:
            await asyncio.sleep(0.1)


def kill(hub: Hub) -> None:
    os.kill(hub.process.pid, signal.SIGKILL)


def total(lines: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(line[name] for line in lines)


def _partners(receiver: Receiver) -> dict[str, Any]:
    def partner(subscriber: str, *places: str) -> dict[str, Any]:
        return {
            "subscriber": subscriber,
            "name": f"Partner {subscriber}",
            "channel": "webhook",
            "settings": {"url": f"http://127.0.0.1:{receiver.port(subscriber)}/hooks/{subscriber}"},
            "secrets": {"secret": SECRET},
            "subscriptions": [
                {"procedure": procedure, "place": place} for procedure in PROCEDURES for place in places
            ],
        }

    return {
        "partners": [
            partner(BONNEVILLE, "commune:74042"),
            partner(MARIGNIER, "commune:74164"),
            partner(MINISTRY),
        ]
    }


async def _end_orphans(folder: Path) -> None:
    """A hub that was killed last leaves its database server: found again by its folder, and ended."""
    from hub.adapters.postgres.embedded import EmbeddedPostgres

    with contextlib.suppress(Exception):
        async with EmbeddedPostgres(folder / "hub" / "postgres"):
            pass
