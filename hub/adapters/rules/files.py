"""Rules and partners as files: read, checked by the schemas, with file, line and name in each fault.

Business of this room: from a folder or a file to wire models, and from whatever is wrong with them to the line
where it stands. It decides nothing about routing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hub.adapters.rules.documents import Document, Garbled, read_document
from hub.adapters.rules.flaws import shortened, told_flaws
from hub.domain.errors import RuleBookError
from hub.domain.rules import check_procedure
from hub.domain.territory import Territory
from hub.wire.rule_book import procedure as read_procedure
from schemas.models.partners import PartnersFile
from schemas.models.rules import CasesIn, ProcedureIn

Model = TypeVar("Model", bound=BaseModel)

MOST_RULES = 20_000
MOST_FAULTS = 50
LARGEST_RULES = 5_000_000
"""Bytes of a file of rules or cases."""
LARGEST_PARTNERS = 20_000_000
"""Bytes of a file of partners that is read at once."""
_CASES = ".cases.yaml"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a line of a file (from 1; None: in no line of it). Never a value that may be secret."""

    file: Path
    line: int | None
    sentence: str

    def __str__(self) -> str:
        return f"{located(self.file, self.line)}: {self.sentence}"


def located(file: Path, line: int | None) -> str:
    return f"{file}" if line is None else f"{file}, line {line}"


class RuleFileFaults(RuleBookError):
    """Files are refused whole, for all the faults that were found; its text tells the first fifty."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        told = [str(fault) for fault in faults[:MOST_FAULTS]]
        more = [f"… and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        super().__init__("\n".join([*told, *more]))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class RuleFolder:
    """What a rules folder holds: procedures, and the cases beside each (by procedure code). `documents`: what
    stands in its files, by their names."""

    folder: Path
    procedures: tuple[ProcedureIn, ...]
    cases: dict[str, CasesIn]
    documents: Mapping[str, Document] = field(default_factory=dict, repr=False)

    def check(self, territory: Territory) -> None:
        """Whether each procedure's rules stand by themselves, in this territory. Raises RuleFileFaults."""
        faults = []
        for told in self.procedures:
            try:
                check_procedure(read_procedure(told), territory)
            except RuleBookError as error:
                faults.append(self.fault(f"{told.procedure}.yaml", error.where[1:], str(error)))
        if faults:
            raise RuleFileFaults(faults)

    def fault(self, name: str, steps: Sequence[str | int], sentence: str) -> Fault:
        """At the line where these steps through one of its files end."""
        document = self.documents.get(name)
        return Fault(self.folder / name, None if document is None else document.follow(steps).line, sentence)

    def pointed(self, where: Sequence[str | int]) -> str | None:
        """File and line to which a RuleBookError's `where` leads; None: to none of these files."""
        codes = {told.procedure for told in self.procedures}
        if where and where[0] in codes:
            fault = self.fault(f"{where[0]}.yaml", where[1:], "")
            return located(fault.file, fault.line)
        if len(where) > 1 and where[0] == "subscriptions":
            code, named, _ = str(where[1]).partition("/")
            if named and code not in codes:
                return f"{self.folder / code}.yaml is not there"
        return None


def read_rules(folder: Path, most: int = MOST_RULES) -> RuleFolder:
    """Raises RuleFileFaults, naming file, line and what is wrong of each fault."""
    if not folder.is_dir():
        raise RuleBookError(f"{folder}: there is no such folder")
    procedures: list[ProcedureIn] = []
    cases: dict[str, CasesIn] = {}
    documents: dict[str, Document] = {}
    faults = list(_misnamed(folder))
    paths = sorted(folder.glob("*.yaml"))
    for path in paths:
        try:
            if path.name.endswith(_CASES):
                cases[path.name.removesuffix(_CASES)], documents[path.name] = read_file(path, CasesIn)
            else:
                told, documents[path.name] = read_file(path, ProcedureIn)
                faults.extend(_in_order(path, told, documents[path.name]))
                procedures.append(told)
        except RuleFileFaults as error:
            faults.extend(error.faults)
    if not any(not path.name.endswith(_CASES) for path in paths) and not faults:
        faults.append(Fault(folder, None, "there is no rule file here; each is named PROCEDURE.yaml"))
    read = {path.stem for path in paths}
    faults.extend(
        Fault(folder / f"{code}{_CASES}", None, "there is no rule file beside it")
        for code in cases
        if code not in read
    )
    if (count := sum(len(procedure.rules) for procedure in procedures)) > most:
        faults.append(Fault(folder, None, f"{count} rules are more than the {most} this hub takes"))
    if faults:
        raise RuleFileFaults(faults)
    return RuleFolder(folder, tuple(procedures), cases, documents)


def _misnamed(folder: Path) -> Iterator[Fault]:
    """Files that look like rules, and would be passed over."""
    for path in sorted(folder.iterdir()):
        if path.suffix.casefold() in (".yaml", ".yml") and path.suffix != ".yaml":
            yield Fault(path, None, f"it is not read under this name; name it {path.stem}.yaml")


def _in_order(path: Path, told: ProcedureIn, document: Document) -> Iterator[Fault]:
    if told.procedure != path.stem:
        line = document.follow(("procedure",)).line
        yield Fault(path, line, f"it describes {told.procedure}; name the file after it")
    first: dict[str, int | None] = {}
    for place, rule in enumerate(told.rules):
        line = document.follow(("rules", place)).line
        if rule.id in first:
            sentence = f"two rules are named {rule.id}; the first is at line {first[rule.id]}"
            yield Fault(path, line, f"{told.procedure}: {sentence}")
        first.setdefault(rule.id, line)


def read_partners(path: Path) -> tuple[PartnersFile, Document]:
    """Raises RuleFileFaults, naming file, line and what is wrong, never a value."""
    return read_file(path, PartnersFile, LARGEST_PARTNERS, secret=True)


def read_file(
    path: Path, model: type[Model], largest: int = LARGEST_RULES, *, secret: bool = False
) -> tuple[Model, Document]:
    """A YAML or JSON file as a model. `secret`: it may hold secrets. Raises RuleFileFaults, never quoting a
    value that is written there."""
    try:
        if path.stat().st_size > largest:
            raise RuleFileFaults([Fault(path, None, f"larger than {largest} bytes")])
        document = read_document(path.read_bytes(), as_json=path.suffix.casefold() == ".json")
    except OSError as error:
        raise RuleFileFaults([Fault(path, None, f"it cannot be read ({error.strerror})")]) from None
    except Garbled as why:
        raise RuleFileFaults([Fault(path, why.line, shortened(why.sentence))]) from None
    try:
        return model.model_validate(document.told), document
    except ValidationError as error:
        flaws = told_flaws(document, error, model, secret=secret)
        raise RuleFileFaults([Fault(path, flaw.line, flaw.sentence) for flaw in flaws]) from None
