"""How every model of this package behaves: unknown fields are refused, nothing is coerced, and values are
never repeated in an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)
