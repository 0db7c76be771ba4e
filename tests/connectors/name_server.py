"""Programs with a list of name servers of their own, so that a test may be one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounts import may_mount

needs_own_name_server = pytest.mark.skipif(
    not may_mount(), reason="a name server of one's own needs the right to mount a list of them"
)


def run_with_name_server(address: str, folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """What a Python program says that asks the name server at `address`, which it may be itself."""
    servers = folder / "resolv.conf"
    servers.write_text(f"nameserver {address}\n")
    mounted = f'mount --bind "{servers}" /etc/resolv.conf && exec "$0" -c "$1"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted, sys.executable, program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
