"""Scenario ``reads``: what reading costs and how fast it goes, against the Earth Engine emulator at 300 ms.

The client is Google's own over real HTTP; the emulator runs in a process of its own and has its answers ready.
"""

from __future__ import annotations

import datetime as dt
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.geo import Grid, bounds_of
from rs_embed_core.providers.cache import CachedProvider, memory_shelf
from rs_embed_core.providers.disk import DiskShelf
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.providers.gee import GeeProvider, GeeSettings
from rs_embed_core.specs.spatial import PointBuffer
from tests.emulator.control import Emulator, emulator

type Results = dict[str, object]

_LATENCY_S = 0.3
_THREADS = (1, 8, 32, 64)
_RGB = ("B4", "B3", "B2")
_TEN = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
_SUMMER = Period(dt.date(2022, 6, 1), dt.date(2022, 9, 1))
_HITS = 50


def reads(*, repeats: int) -> Results:
    """The scenario."""
    with emulator("world") as server:
        settings = GeeSettings(project="bench", url=server.url, credentials="anonymous", at_once=64)
        return {
            **_rate(server, settings, repeats),
            **_cpu(server, settings),
            **_crowd(server, settings),
            **_series(server, settings),
            **_hits(settings),
        }


def _plans(count: int, bands: Sequence[str], buffer_m: float, *, lat: float) -> list[FetchPlan]:
    places = [PointBuffer(5 + 0.05 * i, lat, buffer_m) for i in range(count)]
    return [
        FetchPlan("COPERNICUS/S2_SR_HARMONIZED", tuple(bands), Grid.on_lattice(bounds_of(place), 10), (_SUMMER,))
        for place in places
    ]


def _all(fetch: Callable[[FetchPlan], Chip], plans: Sequence[FetchPlan], threads: int) -> tuple[float, float]:
    """Wall and CPU seconds of reading them all, so many at once."""
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fetch, plans):
            pass
    return time.perf_counter() - wall, time.process_time() - cpu


def _rate(server: Emulator, settings: GeeSettings, repeats: int) -> Results:
    """Reads per second over threads / latency, as far as the default quota lets them; the medians of rounds."""
    plans = [replace(plan, scenes=False) for plan in _plans(64, _RGB, 1280.0, lat=47.0)]
    _all(GeeProvider(settings).fetch, plans, 4)  # the emulator has its answers ready from here on
    server.set(latency_ms=1e3 * _LATENCY_S)
    rounds: dict[int, list[float]] = {threads: [] for threads in _THREADS}
    quota = Quota()
    for _ in range(repeats):
        for threads in _THREADS:
            chosen = plans[: min(64, 8 * threads)] * (3 if threads > 8 else 1)
            wall, _ = _all(GeeProvider(settings, Gate(quota, name="bench")).fetch, chosen, threads)
            rounds[threads].append(len(chosen) / wall)
    server.reset()
    ideal = {n: min(min(n, quota.at_once) / _LATENCY_S, quota.per_second) for n in _THREADS}
    rates = {n: statistics.median(values) for n, values in rounds.items()}
    return {
        "reads_over_ideal": {str(n): rates[n] / ideal[n] for n in _THREADS},
        "reads": {"per_s": {str(n): rounds[n] for n in _THREADS}, "ideal_per_s": {str(n): ideal[n] for n in _THREADS}},
    }


def _cpu(server: Emulator, settings: GeeSettings) -> Results:
    """CPU of the client per chip of 10 bands and 257 px, pixels and scene list."""
    plans = _plans(32, _TEN, 1280.0, lat=48.0)
    fetch = GeeProvider(settings).fetch
    _all(fetch, plans, 4)
    _, cpu = _all(fetch, plans, 8)
    server.reset()
    return {"read_cpu_ms_per_chip": 1e3 * cpu / len(plans)}


def _crowd(server: Emulator, settings: GeeSettings) -> Results:
    """64 places where the service takes 8 requests at once: wall over ideal, and how many it refused."""
    plans = _plans(64, _RGB, 325.0, lat=49.0)
    _all(GeeProvider(settings).fetch, plans, 4)
    server.reset()
    server.set(latency_ms=1e3 * _LATENCY_S, at_once=8)
    wall, _ = _all(GeeProvider(settings, Gate(Quota(8, 1000), name="bench")).fetch, plans, 32)
    seen = server.counters()
    server.reset()
    sent = seen["requests"]["pixels"] + seen["requests"]["value"]
    ideal = sent / 8 * _LATENCY_S
    return {
        "crowd_wall_over_ideal": wall / ideal,
        "crowd_rejected": seen["rejected"],
        "crowd": {"places": len(plans), "requests": sent, "wall_s": wall, "ideal_s": ideal},
    }


def _series(server: Emulator, settings: GeeSettings) -> Results:
    """Requests for a series of twelve frames of 12 bands."""
    (plan,) = _plans(1, _TEN, 1280.0, lat=50.0)
    year = Period(dt.date(2022, 1, 1), dt.date(2023, 1, 1))
    server.reset()
    GeeProvider(settings).fetch(replace(plan, frames=year.split(12)))
    asked = server.counters()["requests"]
    return {"series_requests": asked["pixels"] + asked["value"]}


def _hits(settings: GeeSettings) -> Results:
    """Milliseconds of a hit in memory and on disk, for a chip of 2.6 MB."""
    (plan,) = _plans(1, _TEN, 1280.0, lat=48.0)
    provider = GeeProvider(settings)
    with tempfile.TemporaryDirectory(prefix="rse-cache-") as folder:
        shelves = {"memory": memory_shelf(1e8), "disk": DiskShelf(Path(folder), 1e9)}
        out = {}
        for name, shelf in shelves.items():
            cached = CachedProvider(provider, {name: shelf}, no_imagery_s=0)
            cached.fetch(plan)
            out[name] = statistics.median(_timed(cached, plan) for _ in range(_HITS))
    return {"cache_hit_ms": out}


def _timed(cached: CachedProvider, plan: FetchPlan) -> float:
    began = time.perf_counter()
    cached.fetch(plan)
    return 1e3 * (time.perf_counter() - began)
