"""JSON Schemas of the files that people write, for their editors: `<name>.schema.json`, published beside this.

Business of this room: giving them from the models (`python -m schemas.json` writes them anew). What a schema
cannot say, the models and the domain still refuse when a file is read: an editor helps, it decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from schemas.models.partners import PartnersFile
from schemas.models.rules import CasesIn, ProcedureIn

MODELS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {"procedure": ProcedureIn, "cases": CasesIn, "partners": PartnersFile}
)
"""What each file is read as, by the name of its schema."""


def published(name: str) -> Path:
    """Where the schema of this name stands."""
    return Path(__file__).parent / f"{name}.schema.json"


def generated(name: str) -> str:
    """The text of the schema of this name, as its model gives it today."""
    told = MODELS[name].model_json_schema(by_alias=True, schema_generator=_ForPeople, mode="validation")
    return json.dumps({"$schema": _ForPeople.schema_dialect, **told}, ensure_ascii=False, indent=2) + "\n"


class _ForPeople(GenerateJsonSchema):
    """An editor shows the field's own name: a title made from it would say it twice."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
