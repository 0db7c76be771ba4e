"""A schema registry that speaks Confluent's REST interface: asked for numbers and for what a number stands for.

Business of this room: registering the published schemas, each family under the name of its record
(`aiguillage.v1.Decision`), versions in their order; and recognising one of them by what the registry says of a
number. A number is believed to stand for nothing only when the registry says so in its own words: any other answer
(a proxy's, another service's) would make every record unreadable for ever.

No error quotes what was answered: it may come from anywhere.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from fastavro import parse_schema
from fastavro.schema import to_parsing_canonical_form

from hub.domain.errors import SettingsError, Unavailable
from schemas.avro import published, schema, text

_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_LARGEST_ANSWER = 1 << 20
_PATIENCE = aiohttp.ClientTimeout(total=10, connect=5)

_NO_SUBJECT = 40401
_NO_SCHEMA = 40403
_COPY_LAGS = 0.5
"""Seconds: what was registered through one copy of a registry, another knows a moment later."""


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """`url`: http or https, with the path below which `/subjects` and `/schemas` are found. Without `ca`, the
    system's authorities are believed. Raises SettingsError where these contradict each other."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            told = parts.hostname, parts.port
        except ValueError:
            told = None, None
        if told[0] is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise SettingsError("the address of the schema registry is not http(s)://host:port/path")
        if parts.username is not None or parts.password is not None:
            raise SettingsError(
                "the hub's name at the schema registry has settings of its own, not the address"
            )
        if (self.user is None) != (self.password is None):
            raise SettingsError("the hub's name at the schema registry needs a password, and the password it")
        if self.ca is not None and parts.scheme != "https":
            raise SettingsError(
                "who signed the schema registry's certificate is named, and its address has none"
            )

    def context(self) -> ssl.SSLContext:
        """Reads the certificates: raises SettingsError when it cannot."""
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError):
            raise SettingsError("the certificate for the schema registry cannot be read") from None


class HttpSchemaRegistry:
    """Implements `hub.ports.schemas.SchemaRegistry`. Opened by the first question."""

    def __init__(self, address: RegistryAddress) -> None:
        self._address = address
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ids(self) -> Mapping[str, int]:
        found = {}
        # One after the other: a registry may check each version against those before it.
        for name in sorted(published(), key=_version):
            known = await self._known(name)
            found[name] = known if known is not None else await self._register(name)
        return found

    async def missing(self) -> list[str]:
        """The published schemas that it does not have; registers none."""
        return [name for name in sorted(published(), key=_version) if await self._known(name) is None]

    async def name(self, id: int) -> str | None:
        path = f"/schemas/ids/{id}"
        said = await self._ask("GET", path, unknown={_NO_SCHEMA})
        if said is None:
            await asyncio.sleep(_COPY_LAGS)
            said = await self._ask("GET", path, unknown={_NO_SCHEMA})
        if said is None:
            return None
        written = said.get("schema")
        if not isinstance(written, str):
            raise _no_registry()
        return _ours().get(_form(written))

    async def _known(self, name: str) -> int | None:
        """Without the right to write, a hub may still work: somebody else registered them."""
        unknown = {_NO_SUBJECT, _NO_SCHEMA}
        said = await self._ask("POST", f"/subjects/{_subject(name)}", {"schema": text(name)}, unknown)
        return None if said is None else _number(said)

    async def _register(self, name: str) -> int:
        path = f"/subjects/{_subject(name)}/versions"
        said = await self._ask("POST", path, {"schema": text(name)})
        assert said is not None
        return _number(said)

    async def _ask(
        self, method: str, path: str, told: Any = None, unknown: frozenset[int] | set[int] = frozenset()
    ) -> dict[str, Any] | None:
        """What is answered; None where the registry says that it does not know it, in one of these words."""
        try:
            async with self._opened().request(
                method, self._address.url.rstrip("/") + path, json=told, allow_redirects=False
            ) as answer:
                body = await answer.content.read(_LARGEST_ANSWER)
                while more := await answer.content.read(_LARGEST_ANSWER):
                    body += more
                    if len(body) > _LARGEST_ANSWER:
                        raise _no_registry()
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise SettingsError(
                f"the schema registry's certificate is not believed ({type(error).__name__})"
            ) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"the schema registry does not answer ({type(error).__name__})") from None
        return _understood(answer.status, body, unknown)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            address = self._address
            name = (
                None
                if address.user is None
                else aiohttp.encode_basic_auth(address.user, address.password or "")
            )
            headers = {"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE}
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=address.context()),
                headers=headers if name is None else headers | {"Authorization": name},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_PATIENCE,
            )
        return self._session


def _understood(status: int, body: bytes, unknown: frozenset[int] | set[int]) -> dict[str, Any] | None:
    if status in (401, 403):
        raise SettingsError("the schema registry refuses this hub")
    if status == 409:
        raise SettingsError(
            "the schema registry does not take a schema of this hub as a newer version of the one it has"
        )
    if status == 422:
        raise SettingsError("the schema registry does not take a schema of this hub")
    if status == 429 or status >= 500:
        raise Unavailable(f"the schema registry does not serve ({status})")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict):
        if status == 200:
            return said
        if status == 404 and said.get("error_code") in unknown:
            return None
    raise _no_registry()


def _no_registry() -> Unavailable:
    return Unavailable("what answers at HUB_SCHEMA_REGISTRY does not speak as a schema registry does")


def _number(said: Mapping[str, Any]) -> int:
    number = said.get("id")
    if type(number) is not int or not 0 < number < 1 << 31:
        raise _no_registry()
    return number


def _subject(name: str) -> str:
    return quote(schema(name)["name"], safe="")


def _version(name: str) -> tuple[str, int]:
    family, _, number = name.partition(".v")
    return family, int(number)


@cache
def _ours() -> Mapping[str, str]:
    return {_form(text(name)): name for name in published()}


def _form(written: str) -> str:
    """What the bytes of a record follow from, without what a registry may write otherwise (Avro's parsing
    canonical form); nothing for what is no schema of Avro."""
    try:
        return str(to_parsing_canonical_form(parse_schema(json.loads(written))))
    except Exception:  # fastavro raises many kinds on hostile schemas
        return ""
