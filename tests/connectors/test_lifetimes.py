"""Which fields of the channels run out, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connectors.lifetimes import until_all_end, until_one_ends
from hub.assembly import channel_fields
from tests.certificates import authority


def test_a_chain_ends_with_its_first_and_authorities_with_their_last(tmp_path: Path) -> None:
    ours = authority(tmp_path / "ours")
    good, over = (ours.sign(name, expired=name == "over")[0].read_text() for name in ("good", "over"))
    now = datetime.now(UTC)
    assert until_one_ends(over + good) < now < until_all_end(over + good)
    assert abs(until_one_ends(good) - now - timedelta(days=1)) < timedelta(minutes=5)
    for text in ("", "-----BEGIN CERTIFICATE-----"):
        with pytest.raises(ValueError, match=r"."):
            until_one_ends(text)


def test_each_channel_s_certificates_are_known_to_run_out() -> None:
    known = {
        (channel, one.name) for channel, fields in channel_fields().items() for one in fields if one.until
    }
    assert known == {
        ("mail", "ca"), ("mail", "certificates"), ("sftp", "certificate"), ("webhook", "ca"),
        ("webhook", "client_certificate"),
    }  # fmt: skip
