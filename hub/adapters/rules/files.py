"""Rules and partners as files: YAML read safely, checked by the schemas, with file, line and field in each fault.

Business of this room: from a folder or a file to wire models, and from whatever is wrong with them to the line
where it stands. It decides nothing about routing. An alias in YAML can make a small file enormous, and a key
that stands twice hides one of its values: both refused.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from hub.domain.errors import Flaw, Invalid, RuleBookError
from hub.domain.rules import check_procedure
from hub.domain.territory import Territory
from hub.wire import flaws_of, read_json
from hub.wire.rule_book import procedure as read_procedure
from schemas.models.partners import PartnersFile
from schemas.models.rules import CasesIn, ProcedureIn

Model = TypeVar("Model", bound=BaseModel)

MOST_RULES = 20_000
MOST_FAULTS = 50
_LARGEST = 20_000_000
_LARGEST_FOR_LINES = 1_000_000
_QUOTED = re.compile(r"(['\"]).{2,}\1")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a line of a file (from 1; None: in no line of it). Never a value that may be secret."""

    file: Path
    line: int | None
    sentence: str

    def __str__(self) -> str:
        line = "" if self.line is None else f", line {self.line}"
        return f"{self.file}{line}: {self.sentence}"


class RuleFileFaults(RuleBookError):
    """Files are refused whole, for all the faults that were found (at most 50)."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults[:MOST_FAULTS])))
        self.faults = tuple(faults[:MOST_FAULTS])


@dataclass(frozen=True, slots=True)
class RuleFolder:
    """What a rules folder holds: procedures, and the cases beside each (by procedure code)."""

    folder: Path
    procedures: tuple[ProcedureIn, ...]
    cases: dict[str, CasesIn]

    def check(self, territory: Territory) -> None:
        """Whether each procedure's rules stand by themselves, in this territory. Raises RuleFileFaults."""
        faults = []
        for told in self.procedures:
            try:
                check_procedure(read_procedure(told), territory)
            except RuleBookError as error:
                path = self.folder / f"{told.procedure}.yaml"
                faults.append(Fault(path, _line_of(path, error.where[1:]), str(error)))
        if faults:
            raise RuleFileFaults(faults)


def read_rules(folder: Path, most: int = MOST_RULES) -> RuleFolder:
    """Raises RuleFileFaults, naming file, line, field and rule of each fault."""
    if not folder.is_dir():
        raise RuleBookError(f"{folder}: there is no such folder")
    procedures: list[ProcedureIn] = []
    cases: dict[str, CasesIn] = {}
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            if path.name.endswith(".cases.yaml"):
                cases[path.name.removesuffix(".cases.yaml")] = read_yaml(path, CasesIn)
            else:
                procedures.append(_named_after_itself(path, read_yaml(path, ProcedureIn)))
        except RuleFileFaults as error:
            faults.extend(error.faults)
    read = {path.stem for path in folder.glob("*.yaml")}
    faults.extend(
        Fault(folder / f"{code}.cases.yaml", None, "there is no rule file beside it")
        for code in cases
        if code not in read
    )
    if (count := sum(len(procedure.rules) for procedure in procedures)) > most:
        faults.append(Fault(folder, None, f"{count} rules are more than the {most} this hub takes"))
    if faults:
        raise RuleFileFaults(faults)
    return RuleFolder(folder, tuple(procedures), cases)


def _named_after_itself(path: Path, procedure: ProcedureIn) -> ProcedureIn:
    if procedure.procedure != path.stem:
        line = _line_of(path, ("procedure",))
        why = f"it describes {procedure.procedure}; name the file after it"
        raise RuleFileFaults([Fault(path, line, why)])
    return procedure


def read_partners(path: Path) -> PartnersFile:
    """Raises RuleFileFaults, naming file, line, field and rule, never a value."""
    return read_yaml(path, PartnersFile)


def read_yaml(path: Path, model: type[Model]) -> Model:
    """A YAML or JSON file as a model. Raises RuleFileFaults, never quoting what is written there."""
    try:
        if path.stat().st_size > _LARGEST:
            raise RuleFileFaults([Fault(path, None, f"larger than {_LARGEST} bytes")])
        if path.suffix == ".json":
            # JSON is YAML too, but 9,000 partners take the YAML reader a minute.
            return read_json(model, path.read_bytes())
        with path.open("rb") as file:
            told = yaml.load(file, Loader=_PlainLoader)  # noqa: S506  # it is a SafeLoader
    except Invalid as error:
        raise _refused(path, error.flaws) from None
    except OSError as error:
        raise RuleFileFaults([Fault(path, None, f"it cannot be read ({error.strerror})")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # The YAML reader quotes words of the file, and one of them may be a secret.
        why = _QUOTED.sub("…", error.problem or "this is not YAML")
        raise RuleFileFaults([Fault(path, None if mark is None else mark.line + 1, why)]) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise RuleFileFaults([Fault(path, None, "this is not YAML")]) from None
    try:
        return model.model_validate(told)
    except ValidationError as error:
        raise _refused(path, flaws_of(error)) from None


# --- where it stands ----------------------------------------------------------------------------------


def _refused(path: Path, flaws: Iterable[Flaw]) -> RuleFileFaults:
    return RuleFileFaults(
        [
            Fault(
                path, _line_of(path, _steps(flaw.field)), f"{flaw.field or '/'}: {flaw.detail} ({flaw.rule})"
            )
            for flaw in flaws
        ]
    )


def _steps(pointer: str) -> Iterator[str]:
    for part in pointer.split("/")[1:]:
        yield part.replace("~1", "/").replace("~0", "~")


def _line_of(path: Path, steps: Iterable[str | int]) -> int | None:
    """The line where the way through a file ends, or the last that is there of it. In a list, a step is a
    place or the `id` that an element bears. None for a file too large to look again."""
    try:
        if path.stat().st_size > _LARGEST_FOR_LINES:
            return None
        with path.open("rb") as file:
            node = yaml.compose(file, Loader=_PlainLoader)
    except (OSError, yaml.YAMLError, RecursionError, ValueError):
        return None
    line = None
    for step in steps:
        found = None if node is None else _below(node, str(step))
        if found is None:
            continue  # a step of the schema's own, or what is missing
        line, node = found
    return line if line is not None or node is None else int(node.start_mark.line) + 1


def _below(node: yaml.Node, step: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode):
        for place, element in enumerate(node.value):
            if str(place) == step or _id_of(element) == step:
                return element.start_mark.line + 1, element
    return None


def _id_of(node: yaml.Node) -> str | None:
    found = _below(node, "id") if isinstance(node, yaml.MappingNode) else None
    return None if found is None else str(found[1].value)


_INTEGER = "tag:yaml.org,2002:int"
_NOT_READ = {_INTEGER, "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"}


def _people_s_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """What the library makes of a word without quotes, by its first sign."""
    found = {
        first: [(tag, pattern) for tag, pattern in those if tag not in _NOT_READ]
        for first, those in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "-0123456789":
        found.setdefault(first, []).append((_INTEGER, re.compile(r"(?:0|-?[1-9][0-9]{0,17})$", re.ASCII)))
    return found


class _PlainLoader(yaml.SafeLoader):
    """Plain data: no aliases, no tags, no key twice. Only a whole number as people write it is one: to YAML,
    01001 is octal, 1:30 is ninety, and a date is an object; here they are text, as they stand."""

    yaml_implicit_resolvers = _people_s_resolvers()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs lack it
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        node = self.peek_event()  # type: ignore[no-untyped-call]  # the same
        if getattr(node, "tag", None) is not None:
            raise yaml.constructor.ConstructorError(None, None, "tags are not allowed", node.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, "a key stands twice, or is no word", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)
