"""Fields (champs): what a channel asks of an endpoint, described once.

Business of this file: what a field takes, which of them go together, and sentences about those that are wrong. A
sentence names the field and what it should be, never the value that stands there. What a field is for is its
connector's business; forms and schemas are made of the same descriptions elsewhere (`hub.wire.fields`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from urllib.parse import urlsplit

from hub.domain.errors import SettingsError

Value = str | int | bool | tuple[str, ...]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SPACE = "write its name, a colon, a space, and then its value"


class FieldKind(StrEnum):
    """What a value is. Secrets are texts or blocks."""

    TEXT = "text"
    """One line of signs that can be printed."""
    BLOCK = "block"
    """Several lines: a key, certificates."""
    NUMBER = "number"
    """A whole one."""
    FLAG = "flag"
    CHOICE = "choice"
    TEXTS = "texts"
    """A list of lines; of `choices`, where the field has any."""
    URL = "url"
    """Of http or https, without a user, a query or a fragment: tokens stand there."""
    MAIL = "mail"
    MAILS = "mails"
    HOST = "host"
    """A name or an address, without a port."""


# With letters beyond ASCII, for servers that take such addresses (RFC 6531).
_ADDRESS = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\u00A1-\uFFEF-]+@[A-Za-z0-9.\u00A1-\uFFEF-]+"
PATTERNS: Mapping[FieldKind, str] = {
    FieldKind.URL: r"https?://[!-~]+",
    FieldKind.MAIL: _ADDRESS,
    FieldKind.MAILS: _ADDRESS,
    FieldKind.HOST: r"[^\s/\\@?#%\[\]\"'<>|^`{}]{1,253}",
}
"""What each text of this kind matches as a whole, beside what its field's own pattern says."""

LISTS = frozenset({FieldKind.TEXTS, FieldKind.MAILS})
_LONGEST = 2000
_LONGEST_BLOCK = 64 * 1024
_LONGEST_LIST = 200
_MUST = {
    FieldKind.TEXT: "must be a text of one line, not empty",
    FieldKind.BLOCK: "must be a text, not empty",
    FieldKind.FLAG: "must be true or false",
    FieldKind.TEXTS: "must be a list of at least one text",
    FieldKind.URL: "must be a URL of https, in ASCII",
    FieldKind.MAIL: "must be a mail address",
    FieldKind.MAILS: "must be a list of at least one mail address",
    FieldKind.HOST: "must be the name or the address of a host, without a port",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One setting, or one secret, of a channel. `fr` and `en` say what it is for, in a sentence.

    `least` and `most` bound a number's value, a text's length, a list's entries. `pattern` is matched by each text as a
    whole, and is written so that ECMAScript reads it the same. `must` is the end of the sentence told when a
    value is wrong (“must be …”). `needs`: where this field is given, these are too; `unless`: it is needed where none
    of these is given. `until`: when a value of it is of no use any more (certificates run out), None: never; it raises
    ValueError for what it cannot read."""

    name: str
    kind: FieldKind
    fr: str
    en: str
    secret: bool = False
    required: bool = False
    default: Value | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    must: str | None = None
    least: int | None = None
    most: int | None = None
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    until: Callable[[str], datetime | None] | None = None

    def bounds(self) -> tuple[int, int]:
        """Of a number's value, a text's length, a list's entries."""
        match self.kind:
            case FieldKind.NUMBER:
                usual = (0, 2**31 - 1)
            case FieldKind.BLOCK:
                usual = (1, _LONGEST_BLOCK)
            case FieldKind.TEXTS | FieldKind.MAILS:
                usual = (1, _LONGEST_LIST)
            case _:
                usual = (1, _LONGEST)
        return (usual[0] if self.least is None else self.least, usual[1] if self.most is None else self.most)

    def flaw(self, value: object) -> str | None:
        """What is wrong with a value, as a sentence without it; None: nothing."""
        return None if self._fits(value) else f"{self.name} {self._sentence(value)}"

    def _fits(self, value: object) -> bool:
        least, most = self.bounds()
        match self.kind:
            case FieldKind.NUMBER:
                return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
            case FieldKind.FLAG:
                return isinstance(value, bool)
            case FieldKind.CHOICE:
                return value in self.choices
            case FieldKind.TEXTS | FieldKind.MAILS:
                return (
                    isinstance(value, list | tuple)
                    and least <= len(value) <= most
                    and all(isinstance(one, str) and self._is_text(one, (1, _LONGEST)) for one in value)
                )
            case _:
                return isinstance(value, str) and self._is_text(value, (least, most))

    def _is_text(self, text: str, bounds: tuple[int, int]) -> bool:
        lines = self.kind is FieldKind.BLOCK
        return (
            bounds[0] <= len(text) <= bounds[1]
            and bool(text.strip())
            and (lines or is_one_line(text) or (self.secret and _is_line(text)))
            and (not self.choices or text in self.choices)
            and _matches(PATTERNS.get(self.kind), text)
            and _matches(self.pattern, text)
            and (self.kind is not FieldKind.URL or _url_flaw(text) is None)
        )

    def _sentence(self, value: object) -> str:
        if self.kind is FieldKind.URL and isinstance(value, str) and _matches(PATTERNS[self.kind], value):
            found = _url_flaw(value)
            if found is not None:
                return found
        if self.must is not None:
            return self.must
        least, most = self.bounds()
        if self.kind is FieldKind.NUMBER:
            return f"must be a whole number from {least} to {most}"
        if self.choices:
            words = ", ".join(self.choices)
            return f"must be {'a list of' if self.kind in LISTS else 'one of'} {words}"
        told = _MUST[self.kind]
        if isinstance(value, str) and len(value) > most:
            return f"{told}, of at most {most} signs"
        if isinstance(value, list | tuple) and len(value) > most:
            return f"{told}, and of at most {most}"
        return told


@dataclass(frozen=True, slots=True)
class Filled:
    """An endpoint's fields as they were read: those that are given and right, with the others' defaults. `flaws`:
    a sentence for each that is wrong; unless it is empty, nothing may be used."""

    values: Mapping[str, Value]
    flaws: tuple[str, ...]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def fill(fields: Sequence[Field], settings: Mapping[str, object], secrets: Mapping[str, str]) -> Filled:
    """Each field's value or what is wrong with it. An empty secret is none. What is no field is wrong too: it is
    often a slip of the pen; its name is told only if it looks like one, for with a space left out YAML takes a whole
    secret for a name."""
    values: dict[str, Value] = {}
    opened: dict[str, str] = {}
    flaws: list[str] = []
    given = {name for name, value in settings.items() if value is not None} | {
        name for name, value in secrets.items() if value
    }
    for one in fields:
        told: object = (secrets.get(one.name) or None) if one.secret else settings.get(one.name)
        if told is None:
            flaws += _absent(one, given, fields)
            if one.default is not None:
                values[one.name] = one.default
            continue
        found = one.flaw(told)
        if found is not None:
            flaws.append(found)
        elif one.secret:
            opened[one.name] = str(told)
        else:
            values[one.name] = _value(told)
        if told is not False:
            flaws += [f"{one.name} needs {other}" for other in one.needs if other not in given]
    flaws += _unheard(fields, settings, secrets)
    return Filled(values, tuple(flaws), opened)


def _absent(one: Field, given: Iterable[str], fields: Sequence[Field]) -> list[str]:
    if one.required:
        return [f"{one.name} is missing"]
    if one.unless and not any(other in given for other in one.unless):
        return [f"{' or '.join((one.name, *one.unless))} is missing"]
    return []


def _value(told: object) -> Value:
    if isinstance(told, list | tuple):
        return tuple(str(one) for one in told)
    assert isinstance(told, str | int)
    return told


def _unheard(
    fields: Sequence[Field], settings: Mapping[str, object], secrets: Mapping[str, str]
) -> list[str]:
    shown = {one.name for one in fields if not one.secret}
    hidden = {one.name for one in fields if one.secret}
    found = []
    for name in settings:
        if name in hidden:
            found.append(f"{name} is a secret: it belongs to the secrets")
        elif name not in shown and _NAME.fullmatch(name):
            found.append(f"{name} is not a setting of this channel")
        elif name not in shown:
            found.append(f"there is a setting that this channel does not have; {_SPACE}")
    for name in secrets:
        if name in shown:
            found.append(f"{name} is no secret: it belongs to the settings")
        elif name not in hidden:
            found.append(f"there is a secret that this channel does not have; {_SPACE}")
    return found


def masked(fields: Sequence[Field], settings: Mapping[str, object]) -> dict[str, object]:
    """Settings that may be shown: without what these fields call a secret, or do not know."""
    shown = {one.name for one in fields if not one.secret}
    return {name: value for name, value in settings.items() if name in shown}


def check_fields(channel: str, fields: object) -> tuple[Field, ...]:
    """A connector's description of its fields, if it is one. Raises SettingsError with a sentence for who wrote it."""
    where = f"the connector of the channel {channel}"
    if not isinstance(fields, list | tuple) or not all(isinstance(one, Field) for one in fields):
        raise SettingsError(f"{where} does not describe its fields: `fields` must be a sequence of Field")
    described: tuple[Field, ...] = tuple(fields)
    names = [one.name for one in described]
    for one in described:
        found = _wrong_description(one, names)
        if found is not None:
            raise SettingsError(f"{where} describes its field {one.name!r} wrongly: {found}")
    return described


def _wrong_description(one: Field, names: Sequence[str]) -> str | None:
    if not _NAME.fullmatch(one.name):
        return "a name is of small letters, digits and underscores"
    if names.count(one.name) > 1:
        return "there are two of this name"
    if not one.fr.strip() or not one.en.strip():
        return "it has no help in French and in English"
    if one.secret and one.kind not in (FieldKind.TEXT, FieldKind.BLOCK):
        return "a secret is a text or a block"
    if one.secret and one.default is not None:
        return "a secret has no default"
    if one.until is not None and (one.secret or one.kind not in (FieldKind.TEXT, FieldKind.BLOCK)):
        return "only a text or a block that is no secret is known to run out"
    if one.kind is FieldKind.CHOICE and not one.choices:
        return "it has no choices"
    if one.pattern is not None and not _is_pattern(one.pattern):
        return "its pattern cannot be read"
    if one.default is not None and one.flaw(one.default) is not None:
        return "it does not take its own default"
    if any(other not in names for other in (*one.needs, *one.unless)):
        return "it speaks of a field that there is not"
    return None


def _is_pattern(text: str) -> bool:
    """Of what both Python and ECMAScript read."""
    try:
        _compiled(text)
    except re.error:
        return False
    return not re.search(r"\(\?P|\(\?#|\\[AZz]|\(\?[aiLmsux]", text)


def is_one_line(text: str) -> bool:
    return bool(text.strip()) and text.isprintable()


def _is_line(text: str) -> bool:
    """A password may hold what nobody can print, but no line's end and no order."""
    return not any(ord(sign) < 32 or ord(sign) == 127 for sign in text)


def _matches(pattern: str | None, text: str) -> bool:
    return pattern is None or _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _url_flaw(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "must be a URL"
    if not host:
        return "must be a URL of https, in ASCII"
    if parts.username is not None or parts.password is not None or "#" in url:
        return "must carry no user, password or fragment"
    if "?" in url:
        return "must carry no query: tokens stand there, and settings are shown"
    return None
