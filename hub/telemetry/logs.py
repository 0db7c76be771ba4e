"""Logs: one wide structured line for each step, on standard error.

Business of this room: their form. It also stands guard: an exception is logged by its type and the lines
of our own code it passed, never by its text or its values, which may be somebody's.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, MutableMapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pydantic_core
import structlog

_AGAIN_AFTER = 10.0


def configure(form: str) -> None:
    """`form`: `json`, `console`, or `auto` (console on a terminal)."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(_json)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _places_only,
            _plain_only,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries write of addresses, headers and statements: only their alarms, without their texts.
    root = logging.getLogger()
    root.handlers = [_TypeOnly()]
    root.setLevel(logging.ERROR)


def _json(event: object, **_: object) -> str:
    """In a quarter of the standard library's time."""
    return pydantic_core.to_json(event, fallback=repr, inf_nan_mode="constants").decode()


def _places_only(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    told = event.pop("exc_info", None)
    if told:
        error = told if isinstance(told, BaseException) else sys.exc_info()[1]
        if error is not None:
            event["error"] = type(error).__name__
            event["places"] = places(error)
    return event


def _plain_only(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        event[name] = _plain(value)
    return event


def _plain(value: object) -> object:
    """An object is logged by its type: a renderer would write its fields, those too that its own form leaves out."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, UUID | datetime | timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return {str(_plain(name)): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return type(value).__name__


def places(error: BaseException) -> list[str]:
    """Where an exception passed: `file:line function`, without texts or values; the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]


class _TypeOnly(logging.Handler):
    """A library's error: which logger, where, and the exception's type. One that is told again and again, as of a
    topic that is gone, is told every ten seconds, with how many `times` it was."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str, str | None], float] = {}
        self._silenced: Counter[tuple[str, str, str | None]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        kind = type(error).__name__ if error is not None else None
        what = (record.name, f"{record.filename}:{record.lineno}", kind)
        self._silenced[what] += 1
        if record.created - self._told.get(what, float("-inf")) < _AGAIN_AFTER:
            return
        self._told[what] = record.created
        library, place, kind = what
        times = self._silenced.pop(what)
        structlog.get_logger().error("library.error", library=library, place=place, error=kind, times=times)
