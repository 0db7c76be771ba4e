"""What a schema finds wrong with a file, for the person who wrote it: the line, what it is called there, a sentence.

Business of this file: from the schemas' findings to sentences. Values are never told. A name that nobody knows
is, in files of rules; in files of partners only if no secret could look like it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ValidationError

from hub.adapters.rules.documents import Document, Way, is_word
from hub.wire.reading import SECRETS, SECRETS_SENTENCE, sentence_of

_LONGEST = 100
_MOST = 1_000
"""Of the findings: nobody reads more, and a senseless file has millions."""
_ONE_OF: Mapping[str, str] = {
    "rules": "rule",
    "cases": "case",
    "facts": "fact",
    "transfers": "transfer",
    "partners": "partner",
    "subscriptions": "subscription",
    "successions": "succession",
}


@dataclass(frozen=True, slots=True)
class Told:
    line: int | None
    sentence: str


def told_flaws(
    document: Document, error: ValidationError, model: type[BaseModel], *, secret: bool
) -> list[Told]:
    """In the order of the schema; what several branches of it say of one place is one sentence. `secret`: the
    file may hold secrets, and a name that is unknown one of them."""
    names = frozenset(_names(model.model_json_schema(by_alias=True)))
    found: dict[tuple[str | int, ...], tuple[Way, list[str]]] = {}
    for one in error.errors(include_url=False, include_input=False)[:_MOST]:
        way, sentence = _one(document, one, names, secret)
        sentences = found.setdefault(way.steps, (way, []))[1]
        if sentence not in sentences:
            sentences.append(sentence)
    outside = {steps[:length] for steps in found for length in range(len(steps))}
    return [
        Told(way.line, _joined(label(document.told, steps, secret=secret), ", or ".join(sentences)))
        for steps, (way, sentences) in found.items()
        # Of two branches, the one that the file meant is the one that found something further inside.
        if steps not in outside
    ]


def _joined(place: str, sentence: str) -> str:
    return f"{place}: {sentence}" if place else sentence


def _one(document: Document, found: Mapping[str, Any], names: Iterable[str], secret: bool) -> tuple[Way, str]:
    loc: tuple[str | int, ...] = found["loc"]
    if SECRETS in loc[:-1]:
        return document.follow(loc[: loc.index(SECRETS) + 1]), SECRETS_SENTENCE
    way = document.follow(loc)
    match found["type"]:
        case "missing":
            return Way((*way.steps, loc[-1]), None, way.line), "it is missing"
        case "extra_forbidden":
            beside = document.follow(loc[:-1]).value
            return way, _unknown(
                str(loc[-1]), set(names) - set(beside if isinstance(beside, dict) else ()), secret
            )
        case type:
            return way, _expected(type, way.value, found)


def _unknown(name: str, names: Iterable[str], secret: bool) -> str:
    if secret and not is_word(name):
        return "a name stands here that is none of those known; write a space after each colon"
    near = get_close_matches(name, names, 1)
    if near:
        return f"there is no such name; did you mean {near[0]}?"
    return "there is no such name" + ("; write a space after the colon" if ":" in name else "")


_TEXTS = frozenset({"string_type", "string_pattern_mismatch", "string_too_short"})


def _expected(type: str, value: Any, found: Mapping[str, Any]) -> str:
    if type in ("string_type", "literal_error") and value is None:
        return "nothing stands here"
    if type == "string_type" and isinstance(value, bool):
        return "yes, no, on, off, true and false are no texts; put it in quotation marks"
    return sentence_of(found)


# --- names --------------------------------------------------------------------------------------------


def label(told: Any, steps: Sequence[str | int], *, secret: bool = False) -> str:
    """The way as it is called in the file: `rule mairie, levels`."""
    words: list[str] = []
    for above, step in pairwise(("", *steps)):
        element: Any = None
        if isinstance(told, dict):
            element = told.get(step)
        elif isinstance(told, list):
            element = told[int(step)]
        if isinstance(told, list):
            own = element.get("id") if isinstance(element, dict) else None
            shown = own if isinstance(own, str) and not secret else str(int(step) + 1)
        else:
            shown = str(step) if not secret or is_word(str(step)) else "…"
        if above in _ONE_OF and words and (isinstance(told, list) or above == "facts"):
            words[-1] = f"{_ONE_OF[str(above)]} {shown}"
        elif isinstance(told, list) and words:
            words[-1] += f" {shown}"
        else:
            words.append(shown)
        told = element
    return shortened(", ".join(words))


def shortened(text: str) -> str:
    """For a terminal: what it might take for an order is no sign, and nothing is endless."""
    clean = "".join(sign if sign.isprintable() else "?" for sign in text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"


def _names(schema: Any) -> Iterator[str]:
    """Of every object of a JSON Schema."""
    if isinstance(schema, dict):
        properties = schema.get("properties")
        yield from properties if isinstance(properties, dict) else ()
        for inner in schema.values():
            yield from _names(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _names(inner)
