"""What the tests of Kafka stand on: the one broker of the run."""

from __future__ import annotations

import pytest

from tests.kafka.broker import shared


@pytest.fixture(scope="session")
def kafka() -> str:
    """Where a broker is found that all tests share: each keeps to topics of its own."""
    return shared()
