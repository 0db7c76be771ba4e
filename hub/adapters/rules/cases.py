"""The cases beside the rules: each says a submission and who must get it, and is checked against the rules
as they stand, in the little world of subscriptions that stands with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from hub.adapters.rules.files import RuleFolder
from hub.domain.decisions import Routed, Unroutable, Verdict
from hub.domain.errors import RuleBookError
from hub.domain.identity import submission_id
from hub.domain.matching import match
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import Territory
from hub.wire import rule_book
from schemas.models.rules import CaseIn


def failing_cases(folder: RuleFolder, territory: Territory) -> Sequence[str]:
    """A sentence for each case that does not hold, and for each procedure without cases. Raises
    RuleBookError when the rules themselves do not stand."""
    found = []
    for procedure in folder.procedures:
        told = folder.cases.get(procedure.procedure)
        if told is None:
            found.append(f"{procedure.procedure}: it has no cases; write {procedure.procedure}.cases.yaml")
            continue
        try:
            book = rule_book([procedure], told.subscriptions, territory)
        except RuleBookError as error:
            raise RuleBookError(f"{procedure.procedure}.cases.yaml: {error}") from None
        for case in told.cases:
            verdict = match(_facts(procedure.procedure, case), book)
            if _expected(case) != _got(verdict):
                found.append(f"{procedure.procedure}: “{case.says}” does not hold; it got: {_words(verdict)}")
    return found


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
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _expected(case: CaseIn) -> dict[str, tuple[int, ...]]:
    if isinstance(case.expect, str):
        return {}
    return {expected.subscriber: tuple(expected.attachments) for expected in case.expect}


def _got(verdict: Verdict) -> dict[str, tuple[int, ...]] | None:
    """None for a verdict no case expects (set aside)."""
    if isinstance(verdict, Routed):
        return {str(recipient.subscriber): recipient.attachments for recipient in verdict.recipients}
    return {} if isinstance(verdict, Unroutable) else None


def _words(verdict: Verdict) -> str:
    got = _got(verdict)
    if not got:
        return "set aside" if got is None else "nobody"
    return ", ".join(f"{subscriber} (files {list(files)})" for subscriber, files in got.items())
