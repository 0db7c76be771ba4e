"""How the cases of deliveries stand, as rows.

Business of this file: a partner's own deliveries with their cases, for whoever reports on them or judges a report.
"""

from __future__ import annotations

import asyncpg

from hub.domain.cases import UNTOUCHED, Case, CaseStatus
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.ports.events import Reported

OWN_CASES = """
    SELECT delivery.id, delivery.submission, delivery.procedure, delivery.state, delivery.attempt,
           submission.sender, submission_key.wrapped, delivery_case.event,
           (SELECT count(*) FROM event WHERE event.delivery = delivery.id) AS events,
           delivery_case.status AS case_status, delivery_case.number AS case_number,
           delivery_case.before AS case_before, delivery_case.changed_at AS case_changed_at,
           delivery_case.subscriber AS case_subscriber
    FROM delivery
    JOIN submission ON submission.id = delivery.submission
    LEFT JOIN submission_key ON submission_key.submission = delivery.submission
    LEFT JOIN delivery_case ON delivery_case.delivery = delivery.id
    WHERE delivery.id = ANY($1::uuid[]) AND delivery.kind = 'submission'
      AND successor_in_force(delivery.subscriber) = $2
"""
"""Of these deliveries, those that are this partner's or of whom it stands for, and carry a submission."""

MOVED_AWAY = """
    SELECT id FROM delivery
    WHERE id = ANY($1::uuid[]) AND successor_in_force(subscriber) <> $2 AND (
        subscriber = $2
        OR EXISTS (SELECT FROM moved WHERE moved.delivery = delivery.id AND moved.subscriber = $2)
    )
"""


def case_from(row: asyncpg.Record) -> Case:
    if row["case_status"] is None:
        return UNTOUCHED
    return Case(
        CaseStatus(row["case_status"]),
        row["case_number"],
        CaseStatus(row["case_before"]),
        row["case_changed_at"],
        Subscriber.parse(row["case_subscriber"]),
    )


def reported_from(row: asyncpg.Record) -> Reported:
    return Reported(row["id"], row["procedure"], State(row["state"]), row["wrapped"] or b"", case_from(row))
