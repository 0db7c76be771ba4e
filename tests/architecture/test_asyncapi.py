"""The AsyncAPI description says of topics and schemas what they are, and refers to nothing that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.adapters.kafka.deposits import Shape
from schemas.avro import schema

FILE = Path(__file__).parents[2] / "schemas" / "asyncapi" / "deposits.yaml"
DESCRIBED: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SHAPE = Shape("", 4, 3, "intake")
TOPICS = {"deposits": SHAPE.deposits("{sender}"), "refused": SHAPE.refused("{sender}")}


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def found(reference: str) -> Any:
    part: Any = DESCRIBED
    for name in reference.removeprefix("#/").split("/"):
        part = part[name]
    return found(part["$ref"]) if set(part) == {"$ref"} else part


def test_every_reference_leads_somewhere() -> None:
    told = list(references(DESCRIBED))
    assert told
    for reference in told:
        if reference.startswith("#"):
            assert found(reference)
        else:
            assert (FILE.parent / reference).is_file()


@pytest.mark.parametrize("name", TOPICS)
def test_a_channel_is_a_topic_with_its_configuration(name: str) -> None:
    channel, topic = DESCRIBED["channels"][name], TOPICS[name]
    assert channel["address"] == topic.name
    told = channel["bindings"]["kafka"]
    configuration = {key: told["topicConfiguration"][key] for key in told["topicConfiguration"]}
    assert configuration.pop("cleanup.policy") == [topic.configs["cleanup.policy"]]
    assert {key: str(value) for key, value in configuration.items()}.items() <= topic.configs.items()
    assert told.get("partitions", SHAPE.partitions) == topic.partitions


@pytest.mark.parametrize("name", DESCRIBED["components"]["messages"])
def test_a_message_is_a_published_schema(name: str) -> None:
    message = DESCRIBED["components"]["messages"][name]
    reference = message["payload"]["schema"]["$ref"]
    assert reference == f"../avro/{message['name']}.avsc"
    assert schema(message["name"])["name"] == f"aiguillage.v1.{name.capitalize()}"


def test_the_hub_receives_deposits_and_sends_refusals() -> None:
    told = {
        one["action"]: found(one["channel"]["$ref"])["address"] for one in DESCRIBED["operations"].values()
    }
    assert told == {"receive": TOPICS["deposits"].name, "send": TOPICS["refused"].name}
    for operation in DESCRIBED["operations"].values():
        for message in operation["messages"]:
            assert message["$ref"].startswith(operation["channel"]["$ref"])
            assert found(message["$ref"]) in DESCRIBED["components"]["messages"].values()
