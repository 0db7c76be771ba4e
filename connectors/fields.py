"""Fields of an endpoint, read once by their description: the same reading serves `check` and `deliver`.

Business of this file: typed values of fields that are right, and a connector's own findings about what a description
cannot say. What a field takes is `hub.domain.fields`' business, what it is for its connector's.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.domain.fields import Field, fill
from hub.domain.partner import Endpoint


class Reading:
    """An endpoint by its channel's fields. A field that is absent or wrong reads as its default, else as an empty
    text, a zero, an empty list; a secret or a block as None. So reading can go on: the caller must not use
    what it read unless `flaws` is empty."""

    def __init__(self, endpoint: Endpoint, fields: Sequence[Field]) -> None:
        self._fields = {one.name: one for one in fields}
        filled = fill(fields, endpoint.settings, endpoint.secrets)
        self._values = filled.values
        self._secrets = filled.secrets
        self._flaws = list(filled.flaws)

    @property
    def flaws(self) -> tuple[str, ...]:
        """All that is wrong: a sentence for each, without the value."""
        return tuple(self._flaws)

    def given(self, name: str) -> bool:
        """Whether it has a value that is right, be it its default."""
        return name in self._values or name in self._secrets

    def text(self, name: str, otherwise: str = "") -> str:
        """Of a text, a choice, a URL, an address or a host. `otherwise`: where it is not given, and what is then
        meant depends on other fields."""
        return str(self._value(name, otherwise))

    def block(self, name: str) -> str | None:
        found = self._value(name, None)
        return None if found is None else str(found)

    def flag(self, name: str) -> bool:
        return self._value(name, False) is True

    def number(self, name: str, otherwise: int = 0) -> int:
        found = self._value(name, otherwise)
        assert isinstance(found, int)
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._value(name, ())
        assert isinstance(found, tuple)
        return found

    def secret(self, name: str) -> str | None:
        assert self._fields[name].secret
        return self._secrets.get(name)

    def wrong(self, name: str, sentence: str) -> None:
        """A connector's own finding about a field, without its value: “must be …”. Told once for each field: what the
        description finds wrong comes first."""
        if not any(flaw.split(" ", 1)[0] == name for flaw in self._flaws):
            self._flaws.append(f"{name} {sentence}")

    def _value(self, name: str, otherwise: object) -> object:
        assert not self._fields[name].secret
        return self._values.get(name, otherwise)
