"""The first calls of the README, run as a user runs them (``ray_job.py`` needs Ray: tests/serve)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.http_service import local_service

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local_service() as address:
        yield address


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_call(url: str) -> None:
    said = _run(sys.executable, str(EXAMPLES / "first_call.py"), url).splitlines()
    assert said[0].startswith("(512,)")
    assert len(said) == 2 + 16


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl(url: str) -> None:
    said = _run("sh", str(EXAMPLES / "curl.sh"), url)
    assert '"ready":true' in said
    assert '"summary":{"status":"complete","rows":2,"problems":0}' in said
    assert "Did you mean mosaiks" in said
