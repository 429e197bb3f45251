"""``make bench``: throughput, overlap, bulk cost, reads and start-up in one run, as one JSON object.

Every number is a ratio or a cost measured in this run, medians of repeats that are interleaved with what they are
compared with. See load_tests/README.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from load_tests import machine, recipe_weights
from load_tests.processes import PeakMemory, cpu_seconds
from load_tests.reads import reads
from rs_embed_core import PointBuffer, TemporalSpec
from serve_app.client import EmbeddingClient
from serve_app.serving import Serving, free_port, serving
from serve_app.settings import ServiceSettings, load_settings

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
BATCH = 8  # of dofa on the CPU: the encoder's own choice there
_DELAY_MS = 300
_STARTS = 5
type Results = dict[str, object]


def places(count: int, buffer_m: float, *, lat: float = 47.0) -> list[PointBuffer]:
    """ROIs side by side, a hundred to a row, none seen before by another scenario at another latitude."""
    return [PointBuffer(5.0 + 0.03 * (i % 100), lat + 0.03 * (i // 100), buffer_m) for i in range(count)]


def settings(root: Path, models: list[dict[str, object]], **parts: object) -> ServiceSettings:
    """A local service on a free port."""
    flags = {
        "models": models,
        "checkpoints": {"root": str(root), "offline": True},
        "http": {"port": free_port()},
        **parts,
    }
    return load_settings(flags=flags)


@contextmanager
def clients(service: Serving) -> Iterator[dict[str, EmbeddingClient]]:
    """The same client over HTTP and over the handle."""
    with EmbeddingClient(service.url) as http, EmbeddingClient.from_handle(service.settings.name) as handle:
        yield {"http": http, "handle": handle}


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- served against a plain loop -------------------------------------------------------------------------


def throughput(root: Path, *, rois: int, repeats: int) -> Results:
    """Served ROIs/s against the same batches in a plain loop of the same network, same threads, compute-bound."""
    recipe_weights.write("dofa", "base", root)
    spatials = places(rois, 1115.0)
    walls: dict[str, list[float]] = {"loop": [], "http": [], "handle": []}
    with serving(settings(root, [{"model": "dofa"}])) as service, clients(service) as by:
        for client in by.values():
            client.get_embeddings_batch("dofa", spatials=spatials[:BATCH], temporal=SUMMER)
        for _ in range(repeats):
            walls["loop"].append(_loop(root, rois))
            for name, client in by.items():
                walls[name].append(
                    timed(lambda client=client: client.get_embeddings_batch("dofa", spatials=spatials, temporal=SUMMER))
                )
    median = {name: statistics.median(values) for name, values in walls.items()}
    return {
        "served_over_loop_http": median["loop"] / median["http"],
        "served_over_loop_handle": median["loop"] / median["handle"],
        "throughput": {
            "rois": rois,
            "rois_per_s": {name: rois / wall for name, wall in median.items()},
            "walls_s": walls,
        },
    }


def _loop(root: Path, rois: int) -> float:
    """Wall seconds of the forwards alone, in a process of its own while the service is idle."""
    command = [
        sys.executable,
        "-m",
        "load_tests.plain_loop",
        "dofa",
        "base",
        str(root),
        str(rois),
        str(BATCH),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["wall_s"])


# --- fetch and compute at the same time ------------------------------------------------------------------


def overlap(root: Path, *, rois: int, repeats: int) -> Results:
    """Wall against the longer of ideal fetch and ideal compute, with a provider that takes 300 ms."""
    actors, concurrency = 2, 16
    ideal_fetch = rois / (actors * concurrency) * _DELAY_MS / 1e3
    parts = {
        "fetch": {"actors": actors, "concurrency": concurrency},
        "providers": {"synthetic_delay_ms": _DELAY_MS},
    }
    walls, computes = [], []
    with serving(settings(root, [{"model": "mosaiks"}], **parts)) as service, clients(service) as by:
        client = by["http"]
        client.get_embeddings_batch("mosaiks", spatials=places(8, 315.0), temporal=SUMMER)
        for i in range(repeats):
            before = _forward_cpu_s(client)
            spatials = places(rois, 315.0, lat=10.0 + i)
            walls.append(timed(lambda s=spatials: client.get_embeddings_batch("mosaiks", spatials=s, temporal=SUMMER)))
            computes.append(_forward_cpu_s(client) - before)
    wall, compute = statistics.median(walls), statistics.median(computes)
    return {
        "overlap_wall_over_ideal": wall / max(ideal_fetch, compute),
        "overlap": {
            "rois": rois,
            "delay_ms": _DELAY_MS,
            "reads_at_once": actors * concurrency,
            "ideal_fetch_s": ideal_fetch,
            "compute_cpu_s": computes,
            "walls_s": walls,
        },
    }


def _forward_cpu_s(client: EmbeddingClient) -> float:
    """CPU seconds that all encoder replicas have spent in forward."""
    models = client.ready()["models"]
    return sum(float(state.get("forward_cpu_s", 0.0)) for state in models.values())  # type: ignore[union-attr]


# --- bulk ------------------------------------------------------------------------------------------------


def bulk(root: Path, *, rois: int) -> Results:
    """CPU outside forward, memory of the router and the first row, at 10,000 mosaiks ROIs of 64 px."""
    with serving(settings(root, [{"model": "mosaiks"}])) as service, clients(service) as by:
        client = by["http"]
        router = _router_pid(service)
        client.get_embeddings_batch("mosaiks", spatials=places(64, 315.0, lat=-20.0), temporal=SUMMER)
        with PeakMemory(router) as small:
            _drain(client, places(100, 315.0, lat=-10.0))
        cpu, forward = cpu_seconds(), _forward_cpu_s(client)
        with PeakMemory(router) as large:
            first, wall, rows = _drain(client, places(rois, 315.0))
        spent = {role: seconds - cpu.get(role, 0.0) for role, seconds in cpu_seconds().items()}
        forward = _forward_cpu_s(client) - forward
    return {
        "bulk_cpu_ms_per_roi_outside_forward": 1e3 * (sum(spent.values()) - forward) / rois,
        "ingress_rss_growth_mb_100_to_10000": large.peak_mb - small.peak_mb,
        "first_row_fraction_of_wall": first / wall,
        "bulk": {
            "rois": rois,
            "rows": rows,
            "wall_s": wall,
            "first_row_s": first,
            "rois_per_s": rois / wall,
            "cpu_s_by_process": spent,
            "forward_cpu_s": forward,
            "router_rss_mb": {"start": small.start_mb, "at_100": small.peak_mb, "at_all": large.peak_mb},
        },
    }


def _drain(client: EmbeddingClient, spatials: list[PointBuffer]) -> tuple[float, float, int]:
    """Take every row of a stream as it comes: seconds to the first row, to the last, and rows seen."""
    started = time.perf_counter()
    first, rows = 0.0, 0
    for item in client.stream_embeddings("mosaiks", spatials=spatials, temporal=SUMMER, progress=False):
        if item.error is not None:
            raise item.error
        first = first or time.perf_counter() - started
        rows += 1
    return first, time.perf_counter() - started, rows


def _router_pid(service: Serving) -> int:
    from ray import serve  # noqa: PLC0415 - the service has set Ray's environment by now

    processes = serve.get_app_handle(service.settings.name).processes.remote().result()
    return int(processes["router"][0])


# --- start-up --------------------------------------------------------------------------------------------


def start() -> Results:
    """Seconds of a fresh process that lists the models and describes one; torch and ray must stay unloaded."""
    code = (
        "import sys, time; t = time.perf_counter(); import rs_embed_core as r; r.list_models(); "
        "r.describe_model('dofa'); print(time.perf_counter() - t, 'torch' in sys.modules, 'ray' in sys.modules)"
    )
    inside, whole = [], []
    for _ in range(_STARTS):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        whole.append(time.perf_counter() - began)
        seconds, torch, ray = done.stdout.split()
        if torch == "True" or ray == "True":
            raise AssertionError("listing models loaded torch or ray")
        inside.append(float(seconds))
    return {
        "list_and_describe_models_s": statistics.median(whole),
        "start": {"whole_process_s": whole, "import_and_calls_s": inside},
    }


def main() -> None:
    """Run the scenarios and write the JSON."""
    logging.getLogger("ray").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file to write; the JSON is printed in any case")
    parser.add_argument("--only", choices=["start", "throughput", "overlap", "bulk", "reads"], help="one scenario")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of what is compared")
    parser.add_argument("--rois", type=int, default=10_000, help="ROIs of the bulk scenario")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rse-bench-") as folder:
        root = Path(folder)
        scenarios: dict[str, Callable[[], Results]] = {
            "start": start,
            "throughput": lambda: throughput(root, rois=128, repeats=given.repeats),
            "overlap": lambda: overlap(root, rois=256, repeats=given.repeats),
            "bulk": lambda: bulk(root, rois=given.rois),
            "reads": lambda: reads(repeats=given.repeats),
        }
        results: Results = {"machine": machine.facts()}
        for name, scenario in scenarios.items():
            if given.only in (None, name):
                results |= scenario()
    text = json.dumps(results, indent=2)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
