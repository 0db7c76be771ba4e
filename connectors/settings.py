"""Settings of an endpoint, read once: the same reading serves `check` and `deliver`.

Business of this file: typed fields with a sentence for each that is wrong. A sentence names the field and
what it should be, never the value that stands there. What a field means is its connector's business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hub.domain.partner import Endpoint

_NAME = re.compile(r"[a-z_]{1,40}")
_SPACE = "write its name, a colon, a space, and then its value"


class Reading:
    """Reads fields one by one; what is wrong gathers in `flaws`. A field that is wrong reads as an empty
    text or a zero, so reading can go on: the caller must not use what it read unless `flaws` is empty."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._settings = dict(endpoint.settings)
        self._secrets = dict(endpoint.secrets)
        self.flaws: list[str] = []

    def text(self, field: str, default: str | None = None) -> str:
        """A text of one line, not empty."""
        value = self._settings.pop(field, default)
        if value is None:
            return self._wrong(field, "is missing")
        if not isinstance(value, str) or not is_one_line(value):
            return self._wrong(field, "must be a text of one line, not empty")
        return value

    def block(self, field: str) -> str | None:
        """A text of several lines (a certificate), None when it is not given."""
        value = self._settings.pop(field, None)
        if value is not None and not isinstance(value, str):
            return self._wrong(field, "must be a text")
        return value

    def choice(self, field: str, words: Sequence[str], default: str) -> str:
        value = self._settings.pop(field, default)
        if value not in words:
            return self._wrong(field, f"must be one of {', '.join(words)}")
        return str(value)

    def flag(self, field: str) -> bool:
        value = self._settings.pop(field, False)
        if not isinstance(value, bool):
            self._wrong(field, "must be true or false")
        return value is True

    def number(self, field: str, default: int, least: int, most: int) -> int:
        value = self._settings.pop(field, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self._wrong(field, f"must be a whole number from {least} to {most}")
            return 0
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of at least one text, each of one line."""
        value = self._settings.pop(field, None)
        if (
            not isinstance(value, list | tuple)
            or not value
            or not all(isinstance(item, str) and is_one_line(item) for item in value)
        ):
            self._wrong(field, "must be a list of at least one text")
            return ()
        return tuple(value)

    def secret(self, field: str) -> str | None:
        return self._secrets.pop(field, None) or None

    def wrong(self, field: str, sentence: str) -> None:
        """A connector's own finding about a field."""
        self._wrong(field, sentence)

    def finish(self) -> tuple[str, ...]:
        """All that is wrong; a field nobody asked for is wrong too, it is often a slip of the pen. Its name is
        told only if it looks like one: with a space left out, YAML takes a whole secret for a name."""
        for field in self._settings:
            if _NAME.fullmatch(field):
                self._wrong(field, "is not a setting of this channel")
            else:
                self.flaws.append(f"there is a setting that this channel does not have; {_SPACE}")
        if self._secrets:
            self.flaws.append(f"there is a secret that this channel does not have; {_SPACE}")
        return tuple(self.flaws)

    def _wrong(self, field: str, sentence: str) -> str:
        self.flaws.append(f"{field} {sentence}")
        return ""


def is_one_line(text: str) -> bool:
    return bool(text.strip()) and text.isprintable()
