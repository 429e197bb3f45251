"""Start an emulator and speak with its control endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # counters are JSON
from urllib.request import ProxyHandler, Request, build_opener

_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Emulator:
    """A running emulator, in its own process."""

    url: str

    def set(
        self, *, latency_ms: float | None = None, at_once: int | None = None, faults: list[dict[str, Any]] | None = None
    ) -> None:
        """Change what is named: time per computation, how many at once (0: any number), what goes wrong."""
        orders = {"latency_ms": latency_ms, "at_once": at_once, "faults": faults}
        self._tell({name: value for name, value in orders.items() if value is not None})

    def counters(self) -> dict[str, Any]:
        """What it has seen since the last reset; requests include those rejected and those that failed."""
        return self._tell({})

    def reset(self) -> None:
        """Counters to zero, no faults, no latency, no limit."""
        self._tell({"reset": True})

    def _tell(self, orders: dict[str, Any]) -> dict[str, Any]:
        data, headers = json.dumps(orders).encode(), {"Content-Type": "application/json"}
        request = Request(f"{self.url}/__ctl", data, headers)  # noqa: S310 - our own http address
        with build_opener(ProxyHandler({})).open(request, timeout=_PATIENCE_S) as reply:
            return json.load(reply)


@contextmanager
def emulator(catalogue: str = "world") -> Iterator[Emulator]:
    """An emulator of this catalogue while the block runs, on a free port."""
    command = [sys.executable, "-m", "tests.emulator", "--port", "0", "--catalogue", catalogue]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            if not url.startswith("http://"):
                raise RuntimeError(f"the emulator did not start: {url or 'it said nothing'}")
            yield Emulator(url)
        finally:
            process.terminate()
