"""Rules and partners as files: YAML read safely, checked by the schemas, with the file named in each error.

Business of this room: from a folder or a file to wire models. It decides nothing about routing. An alias
in YAML can make a small file enormous, and a key that stands twice hides one of its values: both refused.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from hub.domain.errors import Flaw, Invalid, RuleBookError
from hub.wire import flaws_of, read_json
from schemas.models.partners import PartnersFile
from schemas.models.rules import CasesIn, ProcedureIn

Model = TypeVar("Model", bound=BaseModel)

_LARGEST = 20_000_000
_QUOTED = re.compile(r"(['\"]).{2,}\1")


@dataclass(frozen=True, slots=True)
class RuleFolder:
    """What a rules folder holds: procedures, and the cases beside each (by procedure code)."""

    procedures: tuple[ProcedureIn, ...]
    cases: dict[str, CasesIn]


def read_rules(folder: Path) -> RuleFolder:
    """Raises RuleBookError, naming the file, the field and the rule."""
    if not folder.is_dir():
        raise RuleBookError(f"{folder}: there is no such folder")
    procedures = []
    cases = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name.endswith(".cases.yaml"):
            cases[path.name.removesuffix(".cases.yaml")] = read_yaml(path, CasesIn)
            continue
        procedure = read_yaml(path, ProcedureIn)
        if procedure.procedure != path.stem:
            raise RuleBookError(f"{path}: it describes {procedure.procedure}; name the file after it")
        procedures.append(procedure)
    known = {procedure.procedure for procedure in procedures}
    for code in cases:
        if code not in known:
            raise RuleBookError(f"{folder / code}.cases.yaml: there is no rule file beside it")
    return RuleFolder(tuple(procedures), cases)


def read_partners(path: Path) -> PartnersFile:
    """Raises RuleBookError, naming the file, the field and the rule, never a value."""
    return read_yaml(path, PartnersFile)


def read_yaml(path: Path, model: type[Model]) -> Model:
    try:
        if path.stat().st_size > _LARGEST:
            raise RuleBookError(f"{path}: larger than {_LARGEST} bytes")
        if path.suffix == ".json":
            # JSON is YAML too, but 9,000 partners take the YAML reader a minute.
            return read_json(model, path.read_bytes())
        with path.open("rb") as file:
            told = yaml.load(file, Loader=_PlainLoader)  # noqa: S506  # it is a SafeLoader
    except Invalid as error:
        raise _refused(path, error.flaws[0]) from None
    except OSError as error:
        raise RuleBookError(f"{path}: it cannot be read ({error.strerror})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        # The YAML reader quotes words of the file, and one of them may be a secret.
        why = _QUOTED.sub("…", error.problem or "this is not YAML")
        raise RuleBookError(f"{path}{line}: {why}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise RuleBookError(f"{path}: this is not YAML") from None
    try:
        return model.model_validate(told)
    except ValidationError as error:
        raise _refused(path, flaws_of(error)[0]) from None


def _refused(path: Path, flaw: Flaw) -> RuleBookError:
    return RuleBookError(f"{path}: {flaw.field or '/'}: {flaw.detail} ({flaw.rule})")


class _PlainLoader(yaml.SafeLoader):
    """Plain data: no aliases, no tags, no key twice."""

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
