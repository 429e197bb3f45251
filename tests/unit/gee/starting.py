"""Starts the client in ways that need a fresh process each: ``python -m tests.unit.gee.starting CASE URL``.

Prints what happened as JSON; ``test_start.py`` judges it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any  # what is printed is JSON

from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.calls import Terms, under
from rs_embed_core.providers.gee import GeeProvider, GeeSettings
from tests.emulator.control import Emulator

_HEAVY = ("ee", "google.auth", "googleapiclient", "httplib2", "pyproj")


def _provider(service: Emulator, **changes: Any) -> GeeProvider:
    settings: dict[str, Any] = {"project": "test-project", "url": service.url, "credentials": "anonymous"}
    return GeeProvider(GeeSettings(**{**settings, **changes}))


def _code(provider: GeeProvider, seconds: float = 60.0) -> str:
    """``ready``, or the code of why not."""
    try:
        with under(Terms(time.monotonic() + seconds)):
            provider.check()
    except ProviderError as error:
        return error.code
    return "ready"


def light(service: Emulator) -> dict[str, Any]:
    """What importing and building a provider loads."""
    _provider(service)
    return {"loaded": [name for name in _HEAVY if name in sys.modules]}


def crowd(service: Emulator) -> dict[str, Any]:
    """Thirty-two threads that all find the client not initialised."""
    provider = _provider(service)
    with ThreadPoolExecutor(32) as threads:
        codes = list(threads.map(lambda _: _code(provider), range(32)))
    return {"codes": sorted(set(codes)), "requests": service.counters()["requests"]}


def accounts(service: Emulator) -> dict[str, Any]:
    """Accounts that cannot be used, then one that can, then another."""
    with TemporaryDirectory() as folder:
        nonsense = Path(folder) / "key.json"
        nonsense.write_text('{"type": "no key"}')
        codes = {
            "no project": _code(_provider(service, project=None)),
            "no file": _code(_provider(service, credentials=str(nonsense.with_name("missing.json")))),
            "no key in it": _code(_provider(service, credentials=str(nonsense))),
            "nobody logged in": _code(_provider(service, credentials="auto")),
        }
    asked = service.counters()["requests"]
    codes["good"] = _code(_provider(service))
    codes["good again"] = _code(_provider(service, workload_tag="another"))
    codes["another project"] = _code(_provider(service, project="other-project"))
    return {"codes": codes, "asked": asked, "where": _provider(service).check()}


def outage(service: Emulator) -> dict[str, Any]:
    """A service that fails for a while, then is silent, then works."""
    importlib.import_module("ee")  # loaded on first use, which on a slow machine takes the deadlines below
    service.set(faults=[{"kind": "discovery", "status": 503, "times": None}])
    down = _code(_provider(service), seconds=1.0)
    service.set(faults=[{"kind": "discovery", "delay": 30.0, "times": None}])
    silent = _code(_provider(service), seconds=1.0)
    service.set(faults=[{"kind": "discovery", "status": 503, "times": 1}])
    return {"codes": [down, silent, _code(_provider(service))]}


def expired(service: Emulator) -> dict[str, Any]:
    """Credentials that the service does not accept: told to all, asked once; another account is not affected."""
    service.set(faults=[{"kind": "algorithms", "status": 401, "times": None}])
    codes = [_code(_provider(service)) for _ in range(3)]
    asked = service.counters()["requests"]["algorithms"]
    service.set(faults=[])
    return {"codes": codes, "asked": asked, "other": _code(_provider(service, project="other-project"))}


def main() -> None:
    cases = {case.__name__: case for case in (light, crowd, accounts, outage, expired)}
    name, url = sys.argv[1:]
    sys.stdout.write(json.dumps(cases[name](Emulator(url))))


if __name__ == "__main__":
    main()
