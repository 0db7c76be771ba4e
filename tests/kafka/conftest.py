"""What the tests of Kafka stand on: the one broker of the run, and a schema registry for who asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka.broker import shared
from tests.kafka.registry import Registry


@pytest.fixture(scope="session")
def kafka() -> str:
    """Where a broker is found that all tests share: each keeps to topics of its own."""
    return shared()


@pytest.fixture(scope="module")
def server() -> Iterator[Registry]:
    """As an operator would have it: a newer version of a schema must read what every older one wrote."""
    made = Registry()
    made.start()
    try:
        made.ask("PUT", "/config", {"compatibility": "BACKWARD_TRANSITIVE"})
        yield made
    finally:
        made.end()
