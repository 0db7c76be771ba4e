"""An HTTP receiver of many made-up partners: `POST /hooks/<partner>`, then it fetches the files.

`--secrets FILE`: a JSON object, partner to its `whsec_` secret. A request whose signature does not hold
(checked by an independent library) gets a 401, a good one a 204; after it every file is fetched by its
signed link and lies as `DIR/<partner>/<delivery>/<number>`. A delivery has arrived when all its files have,
with the digests announced. A partner whose kind is `http_503` answers that until healed.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from demo.receivers.stage import Arrivals, Stage, is_partner, parser, read_object

HTTP_503 = "http_503"

_AT_ONCE = 16
# Half a minute in all: a hub that was killed is back by then, also on a busy machine.
_TRIES = 8
_DELIVERY = re.compile(r"[0-9a-f-]{36}")


class Receiver:
    def __init__(
        self, root: Path, stage: Stage, arrivals: Arrivals, secrets: Mapping[str, str], fetch: Fetch
    ) -> None:
        self._root = root
        self._stage = stage
        self._arrivals = arrivals
        self._secrets = secrets
        self._fetch = fetch
        self._taken: dict[tuple[str, str], str] = {}
        self._fetching: set[asyncio.Task[None]] = set()

    async def take(self, request: web.Request) -> web.Response:
        partner = request.match_info["partner"]
        if self._stage.conduct(partner) == HTTP_503:
            return web.Response(status=503)
        secret = self._secrets.get(partner)
        if secret is None or not is_partner(partner):
            return web.Response(status=404)
        try:
            told = Webhook(secret).verify(await request.read(), dict(request.headers))
        except WebhookVerificationError:
            return web.Response(status=401)
        delivery = str(told["data"]["delivery"])
        if delivery != request.headers["webhook-id"] or not _DELIVERY.fullmatch(delivery):
            return web.Response(status=400)
        self._begin(partner, delivery, told["data"]["files"])
        return web.Response(status=204)

    def _begin(self, partner: str, delivery: str, files: Sequence[Mapping[str, Any]]) -> None:
        """Its own task: the answer must not wait for the files."""
        if (partner, delivery) in self._taken:
            self._arrivals.again(partner, delivery, self._taken[partner, delivery])
            return
        self._taken[partner, delivery] = f"{partner}/{delivery}"
        self._arrivals.counts.pending += 1
        task = asyncio.get_running_loop().create_task(self._complete(partner, delivery, files))
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _complete(self, partner: str, delivery: str, files: Sequence[Mapping[str, Any]]) -> None:
        place = self._taken[partner, delivery]
        folder = self._root / place
        folder.mkdir(parents=True, exist_ok=True)
        try:
            got = [await self._fetch(str(file["url"]), folder / str(int(file["number"]))) for file in files]
        except (aiohttp.ClientError, OSError):
            got = []
        self._arrivals.counts.pending -= 1
        if [fingerprint["sha256"] for fingerprint in got] != [file["sha256"] for file in files]:
            self._arrivals.counts.failed += 1
            # Sent again, it may be fetched after all.
            del self._taken[partner, delivery]
            return
        self._arrivals.note(partner, delivery, place, got)


class Fetch:
    """Files by their links, a bounded number at a time, tried again when the hub is busy or restarts."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, url: str, target: Path) -> dict[str, object]:
        """Raises ClientError or OSError after the last try."""
        for pause in range(_TRIES):
            try:
                async with self._gate:
                    return await self._once(url, target)
            except (aiohttp.ClientError, OSError):
                if pause == _TRIES - 1:
                    raise
            await asyncio.sleep(0.2 * 2**pause)
        raise AssertionError("unreachable")

    async def _once(self, url: str, target: Path) -> dict[str, object]:
        digest, size = hashlib.sha256(), 0
        async with self._session.get(url, raise_for_status=True) as response:
            with target.open("wb") as content:
                async for chunk in response.content.iter_chunked(1 << 16):
                    content.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
        return {"name": target.name, "size": size, "sha256": digest.hexdigest()}


async def main() -> None:
    arguments = parser("An HTTP receiver of made-up partners")
    arguments.add_argument("--secrets", type=Path, required=True)
    chosen = arguments.parse_args()
    root = chosen.folder.resolve()
    arrivals = Arrivals(root)
    stage = Stage(read_object(chosen.misbehaving))
    async with aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        receiver = Receiver(root, stage, arrivals, read_object(chosen.secrets), Fetch(session))
        application = web.Application()
        application.router.add_post("/hooks/{partner}", receiver.take)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()

        async def serve(door: socket.socket) -> None:
            await web.SockSite(runner, door).start()

        await stage.run(serve, arrivals, {})
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
