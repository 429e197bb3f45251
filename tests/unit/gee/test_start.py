"""The client is initialised once per process, by the first read; what prevents it is said, and may be put right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any  # what a case prints is JSON

import pytest

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.providers.gee import GeeSettings
from tests.emulator.control import Emulator

_ROOT = Path(__file__).parents[3]


def _run(case: str, service: Emulator, home: Path) -> dict[str, Any]:
    """The outcome of a case of ``starting.py``, in a process of a user who has logged in nowhere."""
    hidden = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "EARTHENGINE_TOKEN")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    environment = {**kept, "HOME": str(home), "CLOUDSDK_CONFIG": str(home), "NO_GCE_CHECK": "true"}
    command = [sys.executable, "-W", "error", "-m", "tests.unit.gee.starting", case, service.url]
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_provider_loads_the_client_on_first_use(service: Emulator, tmp_path: Path) -> None:
    assert _run("light", service, tmp_path)["loaded"] == []


def test_thirty_two_threads_initialise_once(service: Emulator, tmp_path: Path) -> None:
    outcome = _run("crowd", service, tmp_path)
    assert outcome["codes"] == ["ready"]
    assert outcome["requests"]["discovery"] == 2  # what one initialisation takes
    assert outcome["requests"]["algorithms"] == 1


def test_accounts_that_cannot_be_used(service: Emulator, tmp_path: Path) -> None:
    outcome = _run("accounts", service, tmp_path)
    assert outcome["codes"] == {
        "no project": "missing_project",
        "no file": "missing_credentials",
        "no key in it": "missing_credentials",
        "nobody logged in": "missing_credentials",
        "good": "ready",
        "good again": "ready",
        "another project": "earth_engine_in_use",
    }
    assert outcome["asked"] == dict.fromkeys(outcome["asked"], 0)
    assert outcome["where"] == ["test-project", service.url]


def test_an_outage_is_waited_for_within_the_deadline_and_not_remembered(service: Emulator, tmp_path: Path) -> None:
    down, *rest = _run("outage", service, tmp_path)["codes"]
    assert down in ("provider_failed", "provider_timeout")  # the latter where the deadline fell into a try
    assert rest == ["provider_timeout", "ready"]


def test_refused_credentials_are_remembered_for_a_while(service: Emulator, tmp_path: Path) -> None:
    outcome = _run("expired", service, tmp_path)
    assert outcome["codes"] == ["credentials_expired"] * 3
    assert outcome["asked"] == 1
    assert outcome["other"] == "ready"


@pytest.mark.parametrize("tag", ["", "Upper", "-front", "back_", "a" * 64, "a b"])
def test_a_workload_tag_that_the_service_would_refuse(tag: str) -> None:
    with pytest.raises(InvalidRequest, match="workload_tag"):
        GeeSettings(workload_tag=tag)


def test_the_high_volume_endpoint_has_a_short_name() -> None:
    assert GeeSettings(url="high-volume").endpoint == "https://earthengine-highvolume.googleapis.com"
    assert GeeSettings().endpoint is None
