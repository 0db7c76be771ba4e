"""A browser that lies, for the tests of the mailbox's page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp

from tests.services.http_world import World, inline, offer

CONTENT = bytes(range(256)) * 20
NOWHERE = str(UUID(int=4 << 76))
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    headers: Mapping[str, str]
    body: bytes
    cookie: str = ""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def key(self) -> str:
        found = re.search(r'name="cle" value="([0-9a-f]{64})"', self.text)
        assert found is not None, self.text
        return found[1]


@dataclass(slots=True)
class Browser:
    """One that follows nothing by itself."""

    world: World
    url: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> Page:
        return await self._ask("GET", path, headers, None)

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Page:
        return await self._ask("POST", path, headers, fields)

    async def ask(self, method: str, path: str) -> Page:
        return await self._ask(method, path, {}, None)

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], data: Mapping[str, str] | None
    ) -> Page:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            told["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        jar = aiohttp.DummyCookieJar()
        async with (
            aiohttp.ClientSession(cookie_jar=jar) as client,
            client.request(
                method, (self.url or self.world.url) + path, headers=told, data=data, allow_redirects=False
            ) as answer,
        ):
            body = await answer.read()
            for name, morsel in answer.cookies.items():
                self.cookies[name] = morsel.value
            return Page(answer.status, answer.headers, body, answer.headers.get("Set-Cookie", ""))

    async def log_in_from(self, address: str) -> Page:
        return await self.post(
            "/boite/connexion", {"code": self.world.tokens["bonneville"]}, X_Forwarded_For=address
        )

    async def log_in(self, who: str = "bonneville", **more: str) -> Page:
        return await self.post("/boite/connexion", {"code": self.world.tokens[who], **more})


async def fill(world: World, **more: Any) -> str:
    """A parcel in Bonneville's mailbox: its name."""
    answer = await world.post(offer(attachments=[inline(CONTENT, "acte.pdf")], **more))
    assert answer.status == 202, answer.body
    await world.route()
    await world.deliver()
    listed = await world.call("GET", "/v1/mailbox", "bonneville")
    return str(listed.json["items"][-1]["delivery"])
