"""What a library tells again and again fills no disk, and is not passed over either."""

from __future__ import annotations

import logging

import structlog

from hub.telemetry.logs import _TypeOnly


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


def alarm(name: str, at: float) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "filename": "cluster.py", "lineno": 262, "created": at})
