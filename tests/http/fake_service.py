"""A small real ``Service``: a vector is an ROI's centre and size. It fails and stalls on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
from pydantic_core import to_json

from rs_embed_core.errors import JSONValue, RSEmbedError
from rs_embed_core.geo import bounds_of
from rs_embed_core.specs.spatial import spatial_from_dict
from serve_app.wire.rows import Job, Row


@dataclass
class FakeService:
    """Answers ``chunk`` ROIs at a time, the last first unless the job is ordered.

    Attributes:
        early: raised before the first row.
        late: raised after the first list of rows.
        stall: waits for ever after so many lists.
    """

    chunk: int = 2
    early: Exception | None = None
    late: Exception | None = None
    stall: int | None = None
    state: dict[str, JSONValue] = field(default_factory=lambda: {"ready": True, "models": {}})
    jobs: list[Job] = field(default_factory=list)
    closed: int = 0
    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, job: Job) -> AsyncIterator[list[Row]]:
        self.jobs.append(job)
        try:
            if self.early is not None:
                raise self.early
            rows = [self._row(job, i) for i in range(len(job.spatials))]
            rows = rows if job.ordered else rows[::-1]
            for sent, start in enumerate(range(0, len(rows), self.chunk)):
                if self.stall == sent:
                    self.stalled.set()
                    await asyncio.Event().wait()
                if sent and self.late is not None:
                    raise self.late
                yield rows[start : start + self.chunk]
        finally:
            self.closed += 1

    def _row(self, job: Job, index: int) -> Row:
        try:
            bounds = bounds_of(spatial_from_dict(job.spatials[index]))
        except RSEmbedError as error:
            return Row(index, error=error)
        meta = to_json(
            {"model": job.ask.model, "variant": "base", "crs": "EPSG:3857", "transform": [1, 0, 0, 0, -1, 0]}
        )
        data = np.array([*bounds.centre, bounds.width], np.float32)
        if job.ask.output.mode == "grid":
            data = np.broadcast_to(data[:, None, None], (3, 2, 2 + index))
        return Row(index, data, meta.decode())

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        return [
            {"id": "dofa", "aliases": ["dofa_base"], "serving": {"base": {"status": "ready"}}},
            {"id": "mosaiks", "aliases": [], "serving": {}},
        ]

    async def ready(self) -> dict[str, JSONValue]:
        return self.state
