"""Between what travels (`schemas`) and what the domain thinks in: the only room that knows both.

Everything that comes in is checked here, once; a flaw names its field and its rule, never the value.
"""

from hub.wire.decisions import DecisionWriter, read_decision_record, write_decision
from hub.wire.deposits import external_id_of, read_deposit, write_refusal
from hub.wire.reading import flaws_of, read_id, read_json
from hub.wire.records import (
    SubmissionReader,
    read_news,
    read_submission_record,
    write_news,
    write_submission,
)
from hub.wire.rule_book import (
    Items,
    applied,
    difference,
    items,
    midnight,
    procedure,
    read_change,
    rule_book,
    subscription,
    subscription_in,
    succession,
    succession_in,
)
from hub.wire.selections import read_order, read_selection
from hub.wire.set_aside import read_unreadable, write_unreadable
from hub.wire.status_reports import read_status_report
from hub.wire.submissions import offer_document, read_submission

__all__ = [
    "DecisionWriter",
    "Items",
    "SubmissionReader",
    "applied",
    "difference",
    "external_id_of",
    "flaws_of",
    "items",
    "midnight",
    "offer_document",
    "procedure",
    "read_change",
    "read_decision_record",
    "read_deposit",
    "read_id",
    "read_json",
    "read_news",
    "read_order",
    "read_selection",
    "read_status_report",
    "read_submission",
    "read_submission_record",
    "read_unreadable",
    "rule_book",
    "subscription",
    "subscription_in",
    "succession",
    "succession_in",
    "write_decision",
    "write_news",
    "write_refusal",
    "write_submission",
    "write_unreadable",
]
