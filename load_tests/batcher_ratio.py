"""The service's batcher against ``@serve.batch``, as a share of a plain loop: docs/adr/0002 quotes the numbers.

One fake device (a sleep of 4 ms and 0.5 ms per sample that lets go of the interpreter's lock) behind two
deployments that differ in their batcher only. A third one calls them, as the router does, with chunks of
samples and 128 samples under way. The two alternate, each beside a plain loop
of its own, so that a busy machine slows all of them.

Usage: python -m load_tests.batcher_ratio [--out FILE.json] [--rounds 5] [--samples 2048]
Ray is started and stopped, unless RAY_ADDRESS names one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # before Ray is imported; 2.60 turns tokens on by itself
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application, Deployment

from load_tests import machine
from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.sample import Batch, View
from rs_embed_core.tokens import Tokens
from serve_app.deployments.batcher import Batcher

APPLICATION = "batcher-ratio"
BASE_MS, SAMPLE_MS = 4.0, 0.5  # ray_serve_notes.md: about 1,600 samples/s in batches of 32
MAX_BATCH = 32
UNDER_WAY = 128
CHUNKS = (8, 16, 32)
WAIT_S = 0.01  # Serve's own default
VECTOR = np.zeros(768, np.float32)

type Vectors = NDArray[np.float32]
type Json = dict[str, Any]  # Any: a report is open-ended


def forward(samples: int) -> Vectors:
    """One forward of the fake device."""
    time.sleep((BASE_MS + SAMPLE_MS * samples) / 1e3)
    return np.broadcast_to(VECTOR, (samples, len(VECTOR)))


def plain_loop(samples: int) -> float:
    """Seconds of full batches in a loop."""
    started = time.perf_counter()
    for _ in range(samples // MAX_BATCH):
        forward(MAX_BATCH)
    return time.perf_counter() - started


class ServeBatch:
    """Batches by ``@serve.batch``."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S, batch_size_fn=lambda b: sum(map(len, b)))
    async def _run(self, chunks: list[Batch]) -> list[Vectors]:
        sizes = [len(chunk) for chunk in chunks]
        vectors = await asyncio.get_running_loop().run_in_executor(self._thread, forward, sum(sizes))
        return np.split(vectors, np.cumsum(sizes)[:-1])

    async def encode(self, chunk: Batch) -> Vectors:
        """The vectors of a chunk."""
        vectors: Vectors = await self._run(chunk)
        return vectors


class OwnBatch:
    """Batches by ``serve_app.deployments.batcher.Batcher``."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._batcher: Batcher[None] = Batcher(self._forward, max_batch=MAX_BATCH)
        self._info = EncoderInfo("fake", "float32", None, ())

    async def _forward(self, batch: Batch, _: None) -> tuple[list[Tokens], EncoderInfo]:
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._thread, forward, len(batch))
        return [Tokens(row, (1, 1)) for row in vectors], self._info

    async def encode(self, chunk: Batch) -> Vectors:
        """The vectors of a chunk."""
        done = await self._batcher.submit(chunk, None)
        return np.stack([outcome.data for outcome in done.outcomes if isinstance(outcome, Tokens)])

    async def plain_loop(self, samples: int) -> float:
        """Seconds of full batches one after the other in the same thread, with nothing around them."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, plain_loop, samples)


class Caller:
    """Calls a deployment with chunks, so many at a time; it stands for the router."""

    def __init__(self, own: Any, theirs: Any) -> None:  # noqa: ANN401 - handles have no static type
        self._replicas = {"own": own, "serve.batch": theirs}

    async def plain_loop(self, samples: int) -> float:
        """Seconds of the plain loop."""
        seconds: float = await self._replicas["own"].plain_loop.remote(samples)
        return seconds

    async def measure(self, batcher: str, chunk: int, samples: int) -> float:
        """Seconds for all samples in chunks."""
        work = Batch({"image": np.zeros((chunk, 16), np.float32)}, (), (View(),) * chunk)
        room = asyncio.Semaphore(UNDER_WAY // chunk)

        async def one() -> None:
            async with room:
                answer: Awaitable[Vectors] = self._replicas[batcher].encode.remote(work)
                if len(await answer) != chunk:
                    raise RuntimeError(f"{batcher} lost samples of a chunk of {chunk}.")

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(samples // chunk)))
        return time.perf_counter() - started


def deployed(replica: type, *arguments: Application) -> Application:
    """One replica that reserves no CPU and takes every call."""
    deployment = serve.deployment(replica)
    if not isinstance(deployment, Deployment):  # the decorator's other form returns a decorator
        raise TypeError(f"{replica} is not a deployment")
    options = deployment.options(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=4 * UNDER_WAY)
    return options.bind(*arguments)


@contextmanager
def caller() -> Iterator[Any]:  # Any: a handle has no static type
    """A handle of the caller while the application runs."""
    address = os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False)
    else:
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
        serve.start(proxy_location="Disabled")
    try:
        graph = deployed(Caller, deployed(OwnBatch), deployed(ServeBatch))
        yield serve.run(graph, name=APPLICATION, route_prefix=None)
    finally:
        serve.delete(APPLICATION)
        if not address:
            serve.shutdown()  # type: ignore[no-untyped-call]  # Ray's
        ray.shutdown()


def measure(rounds: int, samples: int) -> list[Json]:
    """Every round: seconds of each batcher at each size of chunk, and of a plain loop just before."""
    cells = [(batcher, chunk) for chunk in CHUNKS for batcher in ("own", "serve.batch")]
    found = []
    with caller() as handle:
        for batcher, chunk in cells:  # the first call of a connection is slow
            handle.measure.remote(batcher, chunk, 2 * UNDER_WAY).result()
        for number in range(rounds):
            for batcher, chunk in cells if number % 2 == 0 else cells[::-1]:
                plain = handle.plain_loop.remote(samples).result()
                seconds = handle.measure.remote(batcher, chunk, samples).result()
                ratio = plain / seconds
                row = {"round": number, "batcher": batcher, "chunk": chunk, "plain_s": plain}
                found.append(row | {"seconds": seconds, "ratio": ratio})
                print(f"round {number}  chunk {chunk:>2}  {batcher:<11}  {ratio:.2f} of the plain loop")
    return found


def summary(raw: Sequence[Json]) -> list[Json]:
    """Medians over the rounds, one line per size of chunk."""
    lines = []
    for chunk in CHUNKS:
        ratios = {
            name: statistics.median(row["ratio"] for row in raw if (row["chunk"], row["batcher"]) == (chunk, name))
            for name in ("own", "serve.batch")
        }
        gain = ratios["own"] / ratios["serve.batch"]
        lines.append(
            {"chunk": chunk, **{k: round(v, 3) for k, v in ratios.items()}, "own / serve.batch": round(gain, 3)}
        )
    return lines


def report(raw: Sequence[Json], samples: int) -> Json:
    """The numbers and all that they depend on."""
    return {
        "scenario": "batcher_ratio",
        **machine.facts(),
        "device": {"base_ms": BASE_MS, "sample_ms": SAMPLE_MS, "max_batch": MAX_BATCH},
        "samples": samples,
        "samples_under_way": UNDER_WAY,
        "serve_batch_wait_s": WAIT_S,
        "median": summary(raw),
        "raw": list(raw),
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the report there")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--samples", type=int, default=2048, help="in each measurement; default: %(default)s")
    args = parser.parse_args()
    found = report(measure(args.rounds, args.samples), args.samples)
    for line in found["median"]:
        print(json.dumps(line))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        print(f"{args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
