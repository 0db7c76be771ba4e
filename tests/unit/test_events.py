"""What a report means: which status may follow, what is an undo, and what is the same event again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.domain.cases import (
    UNTOUCHED,
    USUAL,
    USUAL_MOVES,
    Case,
    CaseMoves,
    CaseStatus,
    allowed,
    unreachable,
    without,
)
from hub.domain.events import (
    Again,
    CaseStanding,
    Judgement,
    Keep,
    KeptFile,
    NewEvent,
    flaws_of,
    judge,
    names_of,
    naming,
    naming_of_message,
    saying,
)
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.reports import Declined, NotTaken, Report, ReturnedFile

DELIVERY = UUID(int=7)
TOWN, OTHER = Subscriber("21740042390019", "74042"), Subscriber("21740164590016", "74164")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DONE, IN_PROGRESS = CaseStatus.DONE, CaseStatus.IN_PROGRESS
NOTIFIED = CaseStatus.HUBEE_NOTIFIED


def new(report: Report, file: KeptFile | None = None) -> NewEvent:
    """With the texts themselves in place of their keyed digests."""
    return NewEvent(
        report.delivery,
        report.way,
        report.status,
        naming(report, file),
        report.reference is not None or file is not None,
        naming_of_message(report),
        saying(report, file),
        b"",
        with_reference=report.reference is not None,
    )


class Told:
    """A delivery and what was said of it so far, as a store would hold it."""

    def __init__(self, state: State = State.DELIVERED, moves: CaseMoves = USUAL) -> None:
        self.standing = CaseStanding(state, UNTOUCHED, None)
        self.known: dict[UUID, bytes] = {}
        self.now = NOW
        self.moves = moves

    def say(
        self,
        status: CaseStatus | None = None,
        message: str | None = None,
        reference: str | None = None,
        file: KeptFile | None = None,
        by: Subscriber = TOWN,
    ) -> Judgement:
        one = new(Report(DELIVERY, status, message, reference), file)
        names = names_of(one, self.standing)
        known = {name: self.known[name] for name in names if name in self.known}
        verdict = judge(one, self.standing, known, self.moves, by, self.now)
        if isinstance(verdict, Keep):
            assert verdict.event not in self.known
            self.known[verdict.event] = one.digest
            moved = verdict.case != self.standing.case
            self.standing = replace(
                self.standing,
                case=verdict.case,
                event=verdict.event if moved else self.standing.event,
                state=State.ACKNOWLEDGED if verdict.acknowledges else self.standing.state,
            )
        return verdict


# --- the table ----------------------------------------------------------------------------------------


def test_every_status_of_the_usual_table_can_be_reached() -> None:
    assert unreachable(USUAL) == ()
    assert {one for following in USUAL_MOVES.values() for one in following} == set(CaseStatus) - {NOTIFIED}


def test_a_partner_may_jump_to_the_end_but_not_ask_for_more_at_once() -> None:
    assert allowed(UNTOUCHED, USUAL, TOWN, NOW) == (
        CaseStatus.SENT,
        CaseStatus.SI_RECEIVED,
        IN_PROGRESS,
        DONE,
        CaseStatus.SI_INTG_ERROR,
    )


def test_what_a_procedure_does_not_have_is_nowhere_in_its_table() -> None:
    moves = without(USUAL_MOVES, [CaseStatus.ADD_AWAITING, CaseStatus.REFUSED])
    assert moves[IN_PROGRESS] == (DONE, CaseStatus.SI_INTG_ERROR)
    assert CaseStatus.ADD_AWAITING not in moves


def test_a_status_that_nothing_leads_to_is_named() -> None:
    moves = CaseMoves({NOTIFIED: (DONE,), IN_PROGRESS: (CaseStatus.REFUSED,)})
    assert unreachable(moves) == (IN_PROGRESS, CaseStatus.REFUSED)


# --- taking back --------------------------------------------------------------------------------------


def test_the_last_status_is_taken_back_by_whoever_said_it_while_the_delay_lasts() -> None:
    told = Told()
    told.say(IN_PROGRESS)
    told.say(DONE)
    told.now += timedelta(minutes=9)
    verdict = told.say(IN_PROGRESS)
    assert isinstance(verdict, Keep)
    assert (verdict.case.status, verdict.case.number) == (IN_PROGRESS, 3)


@pytest.mark.parametrize(
    ("by", "later"), [(OTHER, timedelta(0)), (TOWN, timedelta(minutes=11))], ids=["another", "too-late"]
)
def test_nobody_else_and_nobody_later_takes_it_back(by: Subscriber, later: timedelta) -> None:
    told = Told()
    told.say(DONE)
    told.now += later
    verdict = told.say(NOTIFIED, by=by)
    assert isinstance(verdict, Declined)
    assert verdict.allowed == (CaseStatus.SI_INTG_ERROR,)


def test_a_first_word_taken_back_and_said_again_are_three_events() -> None:
    told = Told()
    verdicts = [told.say(DONE), told.say(NOTIFIED), told.say(DONE)]
    assert all(isinstance(verdict, Keep) for verdict in verdicts)
    assert len(told.known) == 3


# --- the same again -----------------------------------------------------------------------------------


def test_a_status_repeated_without_a_reference_is_the_same_event() -> None:
    told = Told()
    first = told.say(DONE, "Terminé")
    assert isinstance(first, Keep)
    assert told.say(DONE, "Terminé") == Again(first.event)
    assert told.say(DONE) == Again(first.event)


def test_what_is_repeated_with_another_message_moves_nothing_and_loses_nothing() -> None:
    told = Told()
    told.say(DONE)
    second = told.say(DONE, "L'acte est prêt.")
    assert isinstance(second, Keep)
    assert (second.status, second.case.number) == (None, 1)
    assert told.say(DONE, "L'acte est prêt.") == Again(second.event)
    assert told.say(message="L'acte est prêt.") == Again(second.event)


def test_a_reference_is_the_same_event_however_late_it_comes_again() -> None:
    told = Told()
    first = told.say(IN_PROGRESS, reference="a")
    told.say(DONE, reference="b")
    told.now += timedelta(days=9)
    assert isinstance(first, Keep)
    assert told.say(IN_PROGRESS, reference="a") == Again(first.event)


def test_a_reference_used_for_another_report_is_refused() -> None:
    told = Told()
    told.say(IN_PROGRESS, reference="a")
    verdict = told.say(DONE, reference="a")
    assert isinstance(verdict, Declined)
    assert (verdict.why, verdict.flaw.field) == (NotTaken.CONFLICT, "/reference")


def test_a_file_is_named_by_its_name_and_digest_whatever_is_said_with_it() -> None:
    told = Told()
    file = KeptFile("accuse.xml", "application/xml", 3, "ab" * 32, "one")
    first = told.say(DONE, file=file)
    assert isinstance(first, Keep)
    assert told.say(None, file=replace(file, location="two")) == Again(first.event)
    assert isinstance(told.say(None, file=replace(file, sha256="cd" * 32)), Keep)


def test_a_file_that_repeats_the_status_is_kept_and_moves_nothing() -> None:
    told = Told()
    told.say(DONE)
    verdict = told.say(DONE, file=KeptFile("a", "a/b", 1, "ab" * 32, "one"))
    assert isinstance(verdict, Keep)
    assert (verdict.status, verdict.case.number) == (DONE, 1)


# --- the delivery -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(set(State) - {State.WITHDRAWN, State.EXPIRED, State.RETURNED}))
def test_whoever_reports_a_status_has_the_parcel_whatever_was_known(state: State) -> None:
    verdict = Told(state).say(DONE)
    assert isinstance(verdict, Keep)
    assert verdict.acknowledges == (state is not State.ACKNOWLEDGED)


@pytest.mark.parametrize("state", [State.WITHDRAWN, State.EXPIRED, State.RETURNED])
def test_what_is_no_longer_its_partner_s_takes_no_report(state: State) -> None:
    verdict = Told(state).say(DONE)
    assert isinstance(verdict, Declined)
    assert (verdict.why, verdict.flaw.rule) == (NotTaken.CONFLICT, state.value)


def test_nobody_fills_the_store_with_what_it_says_of_one_delivery() -> None:
    told = Told()
    told.standing = replace(told.standing, events=1000)
    verdict = told.say(DONE)
    assert isinstance(verdict, Declined)
    assert verdict.flaw.rule == "too_many"


def test_what_could_not_be_taken_in_and_a_message_acknowledge_nothing() -> None:
    told = Told(State.DELIVERED)
    for verdict in (told.say(message="Où est-il ?"), told.say(CaseStatus.SI_INTG_ERROR)):
        assert isinstance(verdict, Keep)
        assert not verdict.acknowledges


# --- what may be said ---------------------------------------------------------------------------------


def test_every_rule_that_is_broken_is_named() -> None:
    report = Report(
        DELIVERY,
        message="\x07" * 1001,
        reference="",
        file=ReturnedFile("", "pdf", -1, "AB"),
    )
    assert {(flaw.field, flaw.rule) for flaw in flaws_of(report)} == {
        ("/message", "too_long"),
        ("/message", "signs"),
        ("/reference", "blank"),
        ("/file/name", "blank"),
        ("/file/media_type", "media_type"),
        ("/file/size", "size"),
        ("/file/sha256", "sha256"),
    }


def test_no_report_shows_what_it_says() -> None:
    report = Report(DELIVERY, DONE, "Zébulon", "Zébulon", ReturnedFile("Zébulon"))
    assert "Zébulon" not in repr(report)
    assert "Zébulon" not in repr(Case())
