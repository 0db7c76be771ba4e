"""Whether a test may mount something of its own."""

from __future__ import annotations

import os
import subprocess


def may_mount() -> bool:
    """Containers often have root's name and not root's rights."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0
