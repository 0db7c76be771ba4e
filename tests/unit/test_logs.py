"""What a library tells again and again fills no disk, and is not passed over either; and no line holds an object."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest
import structlog

from hub.telemetry.logs import _TypeOnly, configure


def test_what_a_library_tells_again_and_again_is_told_every_ten_seconds_with_how_often() -> None:
    handler = _TypeOnly()
    with structlog.testing.capture_logs() as lines:
        for tenth in range(150):
            handler.emit(alarm("library.topics", 1000 + tenth / 10))
        handler.emit(alarm("library.other", 1015))
    assert [(line["library"], line["times"]) for line in lines] == [
        ("library.topics", 1),
        ("library.topics", 100),
        ("library.other", 1),
    ]


@dataclass
class Holding:
    secret: str = field(repr=False)


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_object_that_is_logged_by_mistake_says_its_type_and_nothing_it_holds(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        configure(form)
        holding = Holding("bulon-7319")
        structlog.get_logger().info(
            "x", one=holding, more=[holding], named={"a": holding}, raw=b"bulon-7319", word="a word"
        )
    finally:
        structlog.reset_defaults()
        root.handlers, root.level = before
    told = capsys.readouterr().err
    assert "bulon" not in told
    assert told.count("Holding") == 3
    assert "a word" in told


def alarm(name: str, at: float) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "filename": "cluster.py", "lineno": 262, "created": at})
