"""The JSON Schemas that editors use say what the models say, and every rule file names its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import routing_rules
from schemas.json import MODELS, generated, published

RULES = Path(routing_rules.__file__).parent
LINE = "# yaml-language-server: $schema=../schemas/json/{}.schema.json"


@pytest.mark.parametrize("name", MODELS)
def test_a_published_json_schema_is_what_its_model_gives(name: str) -> None:
    assert published(name).read_text("utf-8") == generated(name), "run: python -m schemas.json"


def test_there_is_no_published_json_schema_without_a_model() -> None:
    found = {path.name for path in published("procedure").parent.glob("*.json")}
    assert found == {published(name).name for name in MODELS}


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_rule_file_tells_editors_its_schema_in_its_first_line(path: Path) -> None:
    kind = "cases" if path.name.endswith(".cases.yaml") else "procedure"
    first = path.read_text("utf-8").partition("\n")[0]
    assert first == LINE.format(kind)
    assert (RULES / first.partition("$schema=")[2]).resolve() == published(kind).resolve()
