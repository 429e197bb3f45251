"""Programs in a process of their own, with a Ray of their own beside that of the tests."""

from __future__ import annotations

import os
import subprocess
import sys

_TRIES = 3
_TOO_SLOW = "timed out during startup"  # Ray gives its processes 30 s, also on a busy machine


def run(program: str, *arguments: str) -> str:
    """What the program printed; it ended well."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", program, *arguments]
    for _ in range(_TRIES):
        ran = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=300)
        if _TOO_SLOW not in ran.stderr:
            break
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
