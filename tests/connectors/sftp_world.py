"""What tests of the SFTP connector share: a town with the server library's own server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.sftp import SftpConnector
from tests.connectors.partners import SftpTown, sftp_town, surroundings

LIMIT = 1.5
SFTP = SftpConnector(surroundings())


@pytest.fixture(autouse=True)
async def left_nowhere() -> AsyncIterator[None]:
    """No connection outlives its test."""
    yield
    await SFTP.close()


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[SftpTown]:
    folder = tmp_path / "inbox"
    folder.mkdir()
    async with sftp_town(folder) as found:
        yield found
