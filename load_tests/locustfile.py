"""Load scenarios for a running service. First one: smoke, which verifies every streamed row.

    .venv/bin/locust -f load_tests/locustfile.py --headless -u 4 -r 2 -t 30s --host http://127.0.0.1:8000

Locust counts a request as failed when a row is missing, comes twice, is a problem, has another length or holds a
value that is not finite, or when the stream's summary is missing. Exit code 1 if any request failed.
"""

from __future__ import annotations

import io
import random

import numpy as np
from locust import HttpUser, between, task

from serve_app.wire.codecs import ARROW, read_arrow

ROIS = 32
_TIMEOUT_S = 120


class Smoke(HttpUser):
    """Asks for small batches of places all over the world, and now and then for one vector as JSON."""

    wait_time = between(0.1, 0.5)

    @task(4)
    def batch(self) -> None:
        """A batch of ROIs as an Arrow stream."""
        body = {
            "model": "mosaiks",
            "spatials": [_place() for _ in range(ROIS)],
            "temporal": {"start": "2022-06-01", "end": "2022-09-01"},
            "timeout_s": _TIMEOUT_S,
        }
        with self.client.post(
            "/v1/embeddings", json=body, headers={"Accept": ARROW}, name="batch of 32", catch_response=True
        ) as response:
            if response.status_code == 200 and (complaint := _complaint(response.content)):
                response.failure(complaint)

    @task(1)
    def single(self) -> None:
        """One ROI as JSON."""
        body = {"model": "mosaiks", "spatial": _place()}
        with self.client.post("/v1/embeddings", json=body, name="single", catch_response=True) as response:
            if response.status_code == 200 and not np.isfinite(response.json()["embedding"]).all():
                response.failure("a value is not finite")


def _place() -> dict[str, float]:
    return {"lon": random.uniform(-170, 170), "lat": random.uniform(-60, 70), "buffer_m": 320.0}  # noqa: S311 - load


def _complaint(body: bytes) -> str:
    """What is wrong with a stream; empty if every row is there once and good."""
    seen: list[int] = []
    lengths = set()
    for rows in read_arrow(io.BytesIO(body)):
        for row in rows:
            if row.data is None:
                return f"row {row.index} is a problem: {row.error}"
            if not np.isfinite(row.data).all():
                return f"row {row.index} has values that are not finite"
            seen.append(row.index)
            lengths.add(row.data.shape)
    if sorted(seen) != list(range(ROIS)):
        return f"{len(seen)} rows, {len(set(seen))} different, of {ROIS}"
    return "" if len(lengths) == 1 else f"lengths differ: {lengths}"
