"""A file that a person wrote (YAML or JSON), as plain data, with the line where each thing stands.

Business of this file: reading it safely and once, and what keeps it from being read, in sentences for somebody
who writes no programs. It never quotes the file, which may hold secrets, and what the data mean is not known
here. Every value is text as it stands, but a whole number as people write it, a truth word, and nothing: to
YAML, 01001 is octal, 1:30 is ninety, and a date is an object. An alias can make a small file enormous, a name
that stands twice hides one of its values: both refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from hub.wire.reading import loads

_DEEPEST = 100
_MOST_VALUES = 2_000_000
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The library's own C, where it was built with it: ten times as fast."""


class Garbled(Exception):
    """The file cannot be read on from this line (from 1; None: the line is not known)."""

    def __init__(self, line: int | None, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Way:
    """How far some steps lead: those that are there, the value they end at, and its line."""

    steps: tuple[str | int, ...]
    value: Any
    line: int | None


@dataclass(slots=True)
class Document:
    """`told` is the data. Where its values stand is found in the same text, again for JSON, when it is asked."""

    told: Any
    _lines: Mapping[int, Mapping[str | int, int]] = field(repr=False)
    """By what holds it (its `id`; `told` keeps it alive), then by its name or place in there."""
    _text: str | None = field(default=None, repr=False)
    """Of JSON, whose own reader tells no lines."""

    def follow(self, steps: Iterable[str | int]) -> Way:
        """In a list, a step is a place (from 0) or the `id` that an element bears. A step that leads nowhere
        is passed over: it is the schema's own, or what is missing."""
        if self._text is not None:
            self._look_again(self._text)
        at, line, passed = self.told, 1 if self._lines else None, list[str | int]()
        for step in steps:
            key = _key(at, step)
            if key is not None:
                line = self._lines.get(id(at), {}).get(key, line)
                at = at[key]
                passed.append(key)
        return Way(tuple(passed), at, line)

    def _look_again(self, text: str) -> None:
        self._text = None
        try:
            again = _from_yaml(text)
        except Garbled:
            return
        self.told, self._lines = again.told, again._lines


def _key(at: Any, step: str | int) -> str | int | None:
    if isinstance(at, dict):
        return str(step) if str(step) in at else None
    if not isinstance(at, list):
        return None
    if isinstance(step, int):
        return step if 0 <= step < len(at) else None
    named = (
        place for place, element in enumerate(at) if isinstance(element, dict) and element.get("id") == step
    )
    return next(named, None)


def read_document(body: bytes, *, as_json: bool = False) -> Document:
    """Raises Garbled."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Garbled(_line(body, error.start), "not UTF-8; save it as UTF-8") from None
    if not text.strip():
        raise Garbled(None, "the file is empty")
    if as_json:
        return _from_json(text)
    strange = _UNPRINTABLE.search(text)
    if strange is not None:
        raise Garbled(
            _line(text.encode(), strange.start()), "a sign stands here that cannot be printed; delete it"
        )
    return _from_yaml(text)


def _line(body: bytes, at: int) -> int:
    return body.count(b"\n", 0, at) + 1


_UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _from_json(text: str) -> Document:
    try:
        return Document(loads(text), {}, text)
    except json.JSONDecodeError as error:
        raise Garbled(error.lineno, "this is not well-formed JSON") from None
    except ValueError as error:
        raise Garbled(None, str(error)) from None
    except RecursionError:
        raise Garbled(None, "it is nested too deep") from None


def _from_yaml(text: str) -> Document:
    try:
        return _Building().built(yaml.parse(text, Loader=_PARSER))
    except yaml.MarkedYAMLError as error:
        raise _garbled(error, text) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise Garbled(None, "this is not YAML") from None


# --- what is no YAML ---------------------------------------------------------------------------------------

_INDENTED = "this line is not indented like those it belongs to"
_SPACE = "write a space after the colon"
_QUOTE = "put the text in quotation marks"
_SENTENCES = (
    ("a tab character", "indent with spaces, not tabs"),
    ("unknown escape", "between double quotation marks a backslash means something; use single ones"),
    ("another document", "a second document begins here; take the line --- out"),
    ("',' or ']'", "a list in brackets goes on with a comma, or ends with ]"),
    ("',' or '}'", "an object in braces goes on with a comma, or ends with }"),
    ("did not find expected key", _INDENTED),
    ("'-' indicator", _INDENTED),
    ("<block end>", _INDENTED),
    ("line break", "after | or > the text begins on the next line; or " + _QUOTE),
)
"""By what stands in the library's problem, of which nothing is told: it may quote the file."""


def _garbled(error: yaml.MarkedYAMLError, text: str) -> Garbled:
    problem, mark = error.problem or "", error.problem_mark or error.context_mark
    if mark is None:
        return Garbled(None, "this is not YAML")
    began = mark if error.context_mark is None else error.context_mark
    lines = text.split("\n")
    if "quoted scalar" in (error.context or "") and "end of stream" in problem:
        return Garbled(began.line + 1, "the quotation mark that opens here is not closed")
    if "expected ':'" in problem:
        there = lines[began.line] if began.line < len(lines) else ""
        missing = _SPACE if _NO_SPACE.match(there) else "a name is followed by a colon, a space and a value"
        return Garbled(began.line + 1, missing)
    if "mapping values" in problem:
        return _two_colons(lines, mark.line, mark.column)
    if "cannot start any token" in problem:
        tab = text[mark.index : mark.index + 1] == "\t"
        return Garbled(mark.line + 1, "indent with spaces, not tabs" if tab else _QUOTE)
    for words, sentence in _SENTENCES:
        if words in problem:
            return Garbled(mark.line + 1, sentence)
    return Garbled(mark.line + 1, "this is not YAML; look for brackets, quotation marks and the indentation")


_NO_SPACE = re.compile(r"\s*(?:- +)?[\w-]+:\S")


def _two_colons(lines: list[str], line: int, column: int) -> Garbled:
    """A colon where a value goes on: in the text of this line, or of one that began before."""
    before = next((at for at in range(line - 1, -1, -1) if lines[at].strip()), None)
    if ": " in lines[line][:column] or before is None:
        return Garbled(line + 1, "a colon and a space stand in this text: " + _QUOTE)
    if _NO_SPACE.match(lines[before]):
        return Garbled(before + 1, _SPACE)
    return Garbled(line + 1, _INDENTED)


# --- from events to data ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A list or an object that has not ended yet. `key`: of an object, whose value comes next."""

    into: Any
    lines: dict[str | int, int]
    key: str | None = None


_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_WORDS: Mapping[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **{form: True for word in ("yes", "true", "on") for form in (word, word.capitalize(), word.upper())},
    **{form: False for word in ("no", "false", "off") for form in (word, word.capitalize(), word.upper())},
}
"""What YAML does not take for text, without quotation marks."""


@dataclass(slots=True)
class _Building:
    root: list[Any] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    lines: dict[int, dict[str | int, int]] = field(default_factory=dict)
    values: int = 0

    def built(self, events: Iterator[Any]) -> Document:
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._begin(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self.open.pop()
                if self.open:
                    self.open[-1].key = None
            elif isinstance(event, yaml.AliasEvent):
                raise Garbled(_at(event), _WRITE_IT_OUT)
            elif isinstance(event, yaml.DocumentStartEvent) and self.root:
                raise Garbled(_at(event), "a second document begins here; take the line --- out")
        if not self.root or self.root[0] is None:
            raise Garbled(None, "the file is empty")
        return Document(self.root[0], self.lines)

    def _scalar(self, event: Any) -> None:
        _refuse_marks(event)
        inside = self.open[-1] if self.open else None
        if inside is not None and isinstance(inside.into, dict) and inside.key is None:
            self._name(inside, event)
        elif event.implicit[0]:
            self._put(event, _plain(event.value))
        else:
            self._put(event, event.value)

    def _name(self, inside: _Open, event: Any) -> None:
        name = event.value
        if event.implicit[0] and name == "<<":
            raise Garbled(_at(event), "<< is not read here: write it out")
        if name in inside.into:
            raise Garbled(_at(event), f"{self._open_word(name)} stands twice")
        inside.key, inside.lines[name] = name, _at(event)

    def _open_word(self, name: str) -> str:
        secret = any(one.key == "secrets" for one in self.open)
        return name if is_word(name) and not secret else "a name"

    def _begin(self, event: Any, new: Any) -> None:
        _refuse_marks(event)
        inside = self.open[-1] if self.open else None
        if inside is not None and isinstance(inside.into, dict) and inside.key is None:
            raise Garbled(_at(event), "a name is a word, neither a list nor an object")
        if len(self.open) == _DEEPEST:
            raise Garbled(_at(event), "it is nested too deep")
        self._put(event, new)
        lines: dict[str | int, int] = {}
        self.lines[id(new)] = lines
        self.open.append(_Open(new, lines))

    def _put(self, event: Any, value: Any) -> None:
        self.values += 1
        if self.values > _MOST_VALUES:
            raise Garbled(_at(event), f"more than {_MOST_VALUES} values are too many")
        if not self.open:
            self.root.append(value)
            return
        inside = self.open[-1]
        if inside.key is not None:
            inside.into[inside.key] = value
            if not isinstance(value, dict | list):
                # Else it is forgotten at its end: what lies deeper asks whether it lies in secrets.
                inside.key = None
        else:
            inside.lines[len(inside.into)] = _at(event)
            inside.into.append(value)


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _INTEGER.fullmatch(text) else text


_WRITE_IT_OUT = "&, * and ! are not read here: write it out, or put the text in quotation marks"


def _refuse_marks(event: Any) -> None:
    if event.tag is not None or event.anchor is not None:
        raise Garbled(_at(event), _WRITE_IT_OUT)


def _at(event: Any) -> int:
    return int(event.start_mark.line) + 1


_WORD = re.compile(r"[a-z_]{1,40}")


def is_word(name: str) -> bool:
    """Whether a name may be shown, whatever the file: no secret that stands in the wrong place looks so."""
    return _WORD.fullmatch(name) is not None
