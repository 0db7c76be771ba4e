"""The cases beside the rules: each says a submission and who must get it, and is checked against the rules
as they stand, in the little world of subscriptions and successions that stands with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date

from hub.adapters.rules.documents import Document
from hub.adapters.rules.files import Fault, RuleFileFaults, RuleFolder
from hub.domain.decisions import Routed, SetAside, Unroutable, Verdict
from hub.domain.document import OfferedFile
from hub.domain.errors import Invalid, RuleBookError
from hub.domain.facts import check
from hub.domain.identity import submission_id
from hub.domain.matching import match
from hub.domain.rule_book import RuleBook
from hub.domain.rules import QUARANTINE
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import Territory
from hub.wire import midnight, rule_book
from schemas.models.rules import CaseIn, ProcedureIn

_DAY = date(2026, 1, 1)
"""When a case is received that does not say: fixed, so that what holds today holds tomorrow."""


def failing_cases(folder: RuleFolder, territory: Territory) -> Sequence[Fault]:
    """Each case that does not hold, or asks what no submission can say, and each procedure without cases.
    Raises RuleFileFaults when the rules with the world of their cases do not stand."""
    found: list[Fault] = []
    for procedure in folder.procedures:
        name = f"{procedure.procedure}.cases.yaml"
        told = folder.cases.get(procedure.procedure)
        if told is None:
            said = f"{procedure.procedure}: it has no cases; write {name}"
            found.append(folder.fault(f"{procedure.procedure}.yaml", (), said))
            continue
        try:
            book = rule_book([procedure], told.subscriptions, territory, told.successions)
        except RuleBookError as error:
            steps = _way(folder.documents.get(name), error.where)
            raise RuleFileFaults([folder.fault(name, steps, str(error))]) from None
        for place, case in enumerate(told.cases):
            found.extend(
                folder.fault(name, ("cases", place, *steps), f"{procedure.procedure}: “{case.says}” {said}")
                for steps, said in _wrong(procedure, case, book)
            )
    return found


def _way(document: Document | None, where: Sequence[str | int]) -> tuple[str | int, ...]:
    """To the subscription or succession of a little world that a RuleBookError's `where` names."""
    if document is None or len(where) < 2 or where[0] not in ("subscriptions", "successions"):
        return ()
    for place, one in enumerate(document.told.get(where[0]) or ()):
        name = f"{one.get('procedure')}/{one.get('place')}/{one.get('subscriber')}"
        if where[1] in (name, one.get("former")):
            return (where[0], place)
    return (where[0],)


Wrong = Iterator[tuple[tuple[str | int, ...], str]]
"""Where in a case, and a sentence."""


def _wrong(procedure: ProcedureIn, case: CaseIn, book: RuleBook) -> Wrong:
    flaws = [*_unsaid(procedure, case, book), *_twice(case)]
    yield from flaws
    if not flaws:
        verdict = match(_facts(procedure.procedure, case), book)
        if _expected(case) != _got(verdict):
            yield (), f"does not hold; it got: {_words(verdict)}"


def _twice(case: CaseIn) -> Wrong:
    counts = Counter(() if isinstance(case.expect, str) else (one.subscriber for one in case.expect))
    for subscriber, count in counts.items():
        if count > 1:
            yield ("expect",), f"expects {subscriber} twice: a recipient gets one parcel"


def _unsaid(procedure: ProcedureIn, case: CaseIn, book: RuleBook) -> Wrong:
    """What would be refused, were it posted."""
    files = [
        OfferedFile(
            file.number, "", file.type, "", 0, "", None if file.recipients is None else tuple(file.recipients)
        )
        for file in case.files
    ]
    numbers = [file.number for file in files]
    if len(set(numbers)) != len(numbers):
        yield ("files",), "gives two files one number"
    try:
        check(book.procedures[procedure.procedure], case.facts, files, book.territory)
    except Invalid as error:
        for flaw in error.flaws:
            _, field, *way = flaw.field.split("/")
            field = "files" if field == "attachments" else field
            steps = (int(step) if step.isdigit() else step for step in way)
            yield (field, *steps), f"cannot be sent so: {' '.join((field, *way))}: {flaw.detail}"


def _facts(procedure: str, case: CaseIn) -> RoutingFacts:
    return RoutingFacts(
        submission=submission_id("cases", case.says),
        sender="cases",
        procedure=procedure,
        facts=case.facts,
        attachments=tuple(
            AttachmentFacts(
                file.number, file.type, None if file.recipients is None else tuple(file.recipients)
            )
            for file in case.files
        ),
        received_at=midnight(case.at or _DAY),
    )


Outcome = str | dict[str, tuple[int, ...]]
"""Who gets which files; or the word that a case says instead."""


def _expected(case: CaseIn) -> Outcome:
    if isinstance(case.expect, str):
        return case.expect
    if not case.expect:
        return "unroutable"
    return {expected.subscriber: tuple(expected.attachments) for expected in case.expect}


def _got(verdict: Verdict) -> Outcome:
    match verdict:
        case Routed(recipients=recipients):
            return {str(recipient.subscriber): recipient.attachments for recipient in recipients}
        case Unroutable():
            return "unroutable"
        case SetAside(reason=reason):
            return QUARANTINE if reason.partition(":")[0] == "quarantined" else reason


def _words(verdict: Verdict) -> str:
    got = _got(verdict)
    if isinstance(got, str):
        return {"unroutable": "nobody (unroutable)", QUARANTINE: f"{QUARANTINE}, a person must look"}.get(
            got, got
        )
    return ", ".join(f"{subscriber} (files {list(files)})" for subscriber, files in got.items())
