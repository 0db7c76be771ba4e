"""Tokens of an OAuth 2.0 server, by client credentials (RFC 6749, 4.4).

Business of this file: one request for all that wait for the same token, which is kept until shortly before it ends.
What its server answers is bounded and believed in nothing but the token. What an endpoint says to a token is not its
business.
"""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote_plus, urlencode

import aiohttp
from pydantic_core import from_json
from yarl import URL

from connectors.webhook.judging import judge_token, wait_of
from connectors.webhook.trust import Contexts, Trust
from hub.domain.delivery import Outcome

_ANSWER = 64 * 1024
_LONGEST_TOKEN = 16 * 1024
_KEPT = 10_000
_UNSAID = 300.0
"""Seconds a token is taken to be good for, whose server does not say it."""
_LONGEST = 86_400.0
_BEFORE = 30.0
"""Seconds before its end from which on a token is not used any more; at most a quarter of its life."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """`login`: name and secret go into the header (`basic`) or the form (`body`). Two that are equal share a token."""

    url: URL
    client: str
    secret: str = field(repr=False)
    scope: str
    audience: str
    login: str
    trust: Trust | None


class NoToken(Exception):
    """There is none; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("no token")
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    until: float


class Tokens:
    """`session` is the one whose connections are guarded; `now` is the time for a server's dates."""

    def __init__(
        self, session: Callable[[], aiohttp.ClientSession], contexts: Contexts, now: Callable[[], float]
    ) -> None:
        self._session = session
        self._contexts = contexts
        self._now = now
        self._kept: OrderedDict[TokenRequest, _Token] = OrderedDict()
        self._asking: dict[TokenRequest, asyncio.Task[_Token]] = {}

    async def token(self, request: TokenRequest, limit: float) -> str:
        """Raises NoToken. `limit`: seconds for the server's whole answer."""
        kept = self._kept.get(request)
        if kept is not None and asyncio.get_running_loop().time() < kept.until:
            return kept.text
        asking = self._asking.get(request)
        if asking is None:
            asking = asyncio.create_task(self._ask(request, limit))
            self._asking[request] = asking
            asking.add_done_callback(lambda done: self._answered(request, done))
        # One who is aborted does not take the answer from the others.
        return (await asyncio.shield(asking)).text

    def spoil(self, request: TokenRequest, token: str) -> None:
        """This one is not taken any more: the next is asked for, unless that has been done."""
        kept = self._kept.get(request)
        if kept is not None and kept.text == token:
            del self._kept[request]

    async def close(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _answered(self, request: TokenRequest, done: asyncio.Task[_Token]) -> None:
        del self._asking[request]
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[request] = done.result()
        self._kept.move_to_end(request)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    async def _ask(self, request: TokenRequest, limit: float) -> _Token:
        try:
            trust = True if request.trust is None else await self._contexts.of(request.trust)
            told, form = _credentials(request)
            async with self._session().post(
                request.url,
                data=form,
                headers=told,
                allow_redirects=False,
                ssl=trust,
                timeout=aiohttp.ClientTimeout(total=limit),
            ) as response:
                if not 200 <= response.status <= 299:
                    asked = wait_of(
                        response.headers.get("Retry-After"), datetime.fromtimestamp(self._now(), UTC)
                    )
                    raise NoToken(judge_token(response.status, asked))
                answer = await _read(response)
        except (aiohttp.ClientError, OSError) as fault:
            raise NoToken(judge_token(fault)) from None
        found = read_token(answer)
        if found is None:
            raise NoToken(judge_token(None))
        text, life = found
        return _Token(text, asyncio.get_running_loop().time() + life - min(_BEFORE, life / 4))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """At most a little more than is allowed, which is then no JSON any more."""
    read = bytearray()
    async for chunk in response.content.iter_chunked(8192):
        read += chunk
        if len(read) > _ANSWER:
            response.close()
            return b""
    return bytes(read)


def _credentials(request: TokenRequest) -> tuple[Mapping[str, str], bytes]:
    """Headers and form. Name and secret are encoded before they are put together (RFC 6749, 2.3.1)."""
    form = {"grant_type": "client_credentials", "scope": request.scope, "audience": request.audience}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if request.login == "body":
        form |= {"client_id": request.client, "client_secret": request.secret}
    else:
        login = f"{quote_plus(request.client)}:{quote_plus(request.secret)}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
    return headers, urlencode({name: value for name, value in form.items() if value}).encode()


def read_token(answer: bytes) -> tuple[str, float] | None:
    """The token and for how many seconds it is good; None for what holds none that could be sent."""
    try:
        told = from_json(answer)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    text, kind = told.get("access_token"), told.get("token_type", "bearer")
    if not isinstance(text, str) or not isinstance(kind, str) or kind.casefold() != "bearer":
        return None
    if not 1 <= len(text) <= _LONGEST_TOKEN or not all("!" <= sign <= "~" for sign in text):
        return None
    return text, _life(told.get("expires_in"))


def _life(told: object) -> float:
    """Some servers write the number as a text."""
    if isinstance(told, str) and told.isascii() and told.isdigit() and len(told) <= 9:
        told = int(told)
    if isinstance(told, bool) or not isinstance(told, int | float):
        return _UNSAID
    # Not a number is smaller and larger than nothing.
    return min(max(float(told), 0.0), _LONGEST) if told == told and abs(told) < 1e12 else _UNSAID
