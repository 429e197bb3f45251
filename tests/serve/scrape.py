"""What Prometheus would see of the running service."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

import httpx2
import ray

_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(\{.*\})? (\S+)$", re.MULTILINE)


def scrape() -> str:
    """The metrics page of the one node."""
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return httpx2.get(address, timeout=30).text


def exposed(text: str) -> set[str]:
    """Names of the samples of a page, as PromQL asks for them."""
    return {found[1] for found in _SAMPLE.finditer(text)}


def value(text: str, name: str, **labels: str) -> float:
    """Sum of the samples of a name whose labels are these."""
    wanted = [f'{key}="{text}"' for key, text in labels.items()]
    return sum(
        float(found[3])
        for found in _SAMPLE.finditer(text)
        if found[1] == name and all(label in (found[2] or "") for label in wanted)
    )


def at_rest(name: str, *, quiet_s: float = 16, **labels: str) -> float:
    """The value when it has not changed for longer than processes take to report."""
    before, now = -1.0, value(scrape(), name, **labels)
    while before != now:
        time.sleep(quiet_s)
        before, now = now, value(scrape(), name, **labels)
    return now


def scrape_until(missing: Callable[[str], Iterable[str]], *, within_s: float = 60) -> str:
    """A page on which nothing is missing any more; processes report every few seconds."""
    deadline = time.monotonic() + within_s
    while lacks := sorted(missing(text := scrape())):
        assert time.monotonic() < deadline, f"never exposed: {lacks}"
        time.sleep(1)
    return text
