"""What a channel asks of an endpoint, for those who ask: as a form's fields, as JSON Schema, as a table.

Business of this file: the shapes. What a field takes is said once, in `hub.domain.fields`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.domain.fields import LISTS, PATTERNS, Field, FieldKind

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_LINE = r"^[^\u0000-\u001f\u007f]*$"
_FORMATS = {FieldKind.URL: "uri"}


def form(fields: Sequence[Field]) -> list[dict[str, Any]]:
    """The fields in their order, with what a form needs to ask for them, help in both languages. What does not apply
    is left out."""
    return [_asked(one) for one in fields]


def _asked(one: Field) -> dict[str, Any]:
    least, most = one.bounds()
    told: dict[str, Any] = {
        "name": one.name,
        "kind": one.kind.value,
        "secret": one.secret,
        "required": one.required,
        "help": {"fr": one.fr, "en": one.en},
    }
    if one.kind not in (FieldKind.FLAG, FieldKind.CHOICE):
        told |= {"least": least, "most": most}
    for name, value in (
        ("default", list(one.default) if isinstance(one.default, tuple) else one.default),
        ("choices", list(one.choices)),
        ("pattern", one.pattern),
        ("needs", list(one.needs)),
        ("unless", list(one.unless)),
    ):
        if value not in (None, []):
            told[name] = value
    return told


def schema(channel: str, fields: Sequence[Field]) -> dict[str, Any]:
    """Of an endpoint as a partners file writes it: `channel`, `settings` and `secrets`. Whatever the channel takes is
    valid by it; what only its connector can know (that a key is one) is not in it."""
    parts = {
        "settings": [one for one in fields if not one.secret],
        "secrets": [one for one in fields if one.secret],
    }
    told: dict[str, Any] = {
        "$schema": DIALECT,
        "title": f"An endpoint of the channel {channel}",
        "type": "object",
        "properties": {
            "channel": {"const": channel},
            **{name: _object(those) for name, those in parts.items()},
        },
        "required": [
            "channel",
            *(name for name, those in parts.items() if any(one.required for one in those)),
        ],
    }
    rules = [rule for one in fields for rule in _together(one, fields)]
    return {**told, "allOf": rules} if rules else told


def _object(fields: Sequence[Field]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": "object",
        "properties": {one.name: _value(one) for one in fields},
        "additionalProperties": False,
    }
    required = [one.name for one in fields if one.required]
    return {**told, "required": required} if required else told


def _value(one: Field) -> dict[str, Any]:
    told: dict[str, Any] = {"description": one.en}
    if one.default is not None:
        told["default"] = list(one.default) if isinstance(one.default, tuple) else one.default
    if one.secret:
        told["writeOnly"] = True
    least, most = one.bounds()
    match one.kind:
        case FieldKind.NUMBER:
            return {**told, "type": "integer", "minimum": least, "maximum": most}
        case FieldKind.FLAG:
            return {**told, "type": "boolean"}
        case FieldKind.CHOICE:
            return {**told, "enum": list(one.choices)}
        case kind if kind in LISTS:
            return {**told, "type": "array", "minItems": least, "maxItems": most, "items": _text(one)}
        case _:
            return {**told, **_text(one), "minLength": least, "maxLength": most}


def _text(one: Field) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "string"}
    if one.choices:
        return {**told, "enum": list(one.choices)}
    if one.kind in _FORMATS:
        told["format"] = _FORMATS[one.kind]
    patterns = [
        f"^(?:{pattern})$" for pattern in (PATTERNS.get(one.kind), one.pattern) if pattern is not None
    ]
    if not patterns and one.kind is not FieldKind.BLOCK:
        patterns = [_LINE]
    if len(patterns) > 1:
        told["allOf"] = [{"pattern": pattern} for pattern in patterns]
        return told
    return {**told, "pattern": patterns[0]} if patterns else told


def _together(one: Field, fields: Sequence[Field]) -> list[dict[str, Any]]:
    """Which fields go with this one, wherever they stand."""
    places = {other.name: "secrets" if other.secret else "settings" for other in fields}
    rules: list[dict[str, Any]] = []
    for other in one.needs:
        given = _given(places[one.name], one.name)
        if one.kind is FieldKind.FLAG:
            given["properties"][places[one.name]]["properties"] = {one.name: {"const": True}}
        rules.append({"if": given, "then": _given(places[other], other)})
    if one.unless:
        rules.append({"anyOf": [_given(places[name], name) for name in (one.name, *one.unless)]})
    return rules


def _given(place: str, name: str) -> dict[str, Any]:
    return {"required": [place], "properties": {place: {"required": [name]}}}


def table(fields: Sequence[Field]) -> list[str]:
    """Lines of Markdown, for the connectors' README."""
    if not fields:
        return ["Nothing is asked."]
    return ["| field | | what it is |", "|---|---|---|", *(_row(one) for one in fields)]


def _row(one: Field) -> str:
    marks = ["secret"] if one.secret else []
    if one.required:
        marks.append("needed")
    if one.unless:
        marks.append(f"needed without {' or '.join(f'`{name}`' for name in one.unless)}")
    if one.needs:
        marks.append(f"with {' and '.join(f'`{name}`' for name in one.needs)}")
    if one.choices:
        marks.append(" or ".join(f"`{word}`" for word in one.choices))
    if one.default is not None and one.default is not False:
        marks.append(f"default `{one.default}`")
    told = "; ".join((one.kind.value, *marks)).replace("|", "\\|")
    return f"| `{one.name}` | {told} | {one.en.replace('|', chr(92) + '|')} |"
