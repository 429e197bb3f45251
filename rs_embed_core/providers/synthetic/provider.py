"""Stage fetch: the ``synthetic`` provider, made-up imagery that is the same whoever reads it and how.

For tests, examples, the demo and benchmarks. The ground (lakes and rivers, woods, parcels of crops, grass,
bare soil, towns) comes from noise fields over EPSG:3857 metres; seasons, snow and sensors are drawn on top.
Skies are always clear and both radar orbits see the same: ``cloudy_pct``, ``orbit`` and the IW flags change
no pixel.

A pixel depends on its column and row on the lattice of its scale, the collection, the band, the period and
the composite, and on nothing else: overlapping windows agree bit for bit. Pixels that do not lie on the
lattice get the values of the nearest that do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import NoImagery
from rs_embed_core.geo import WEB_MERCATOR, Grid, to_lonlat
from rs_embed_core.providers.base import require_grid
from rs_embed_core.providers.proxies import combine, parts_of
from rs_embed_core.providers.synthetic.climate import belt_rows, zone_at
from rs_embed_core.providers.synthetic.fields import axes, pixel_bits
from rs_embed_core.providers.synthetic.land import Window, land
from rs_embed_core.providers.synthetic.passes import acquisitions
from rs_embed_core.providers.synthetic.render import frame_of, render, view_of
from rs_embed_core.providers.synthetic.sensors import sensor_of

_TURN = threading.Lock()  # drawing is NumPy under the interpreter's lock: contending for it doubles the CPU
_BLOCK_PIXELS = 4600  # drawn at once: they stay in the cache, and BLAS stays on the calling thread


@dataclass(frozen=True)
class SyntheticProvider:
    """Made-up imagery of any place.

    Attributes:
        delay_s: seconds to wait before each answer, to stand in for a remote provider's latency.
    """

    delay_s: float = 0.0

    @property
    def name(self) -> str:
        """``synthetic``."""
        return "synthetic"

    def fetch(self, plan: FetchPlan) -> Chip:
        """Draw one chip.

        Raises:
            NoImagery: no frame lies in the years of the sensor.
            ProviderError: ``unknown_collection``, ``unknown_band`` or ``unsupported_grid``.
        """
        if self.delay_s > 0:
            time.sleep(self.delay_s)
        parts = parts_of(plan)
        return combine(plan, [self._draw(part) for part in parts]) if parts else self._draw(plan)

    def _draw(self, plan: FetchPlan) -> Chip:
        """The chip of a sensor."""
        sensor, view = sensor_of(plan.collection), view_of(plan)
        seen = [index for index, period in enumerate(plan.frames) if sensor.saw(period)]
        if not seen:
            raise _no_imagery(plan)
        empty = [index for index in range(len(plan.frames)) if index not in seen]
        data = np.empty((len(plan.frames), len(plan.bands), plan.grid.height, plan.grid.width), np.float32)
        frames = [(frame_of(plan.collection, plan.frames[index]), data[index]) for index in seen]
        with _TURN:
            for block, window in _windows(plan.grid):
                ground = land(window)
                for frame, pixels in frames:
                    render(ground, window, view=view, frame=frame, out=pixels[:, block])
        return Chip(
            data,
            plan.grid,
            plan.bands,
            plan.frames,
            provider=self.name,
            collection=plan.collection,
            valid=_filled(data, empty, plan.fill_value),
            empty_frames=tuple(empty),
            acquisitions=acquisitions(plan),
            facts=_radar_facts(plan) if sensor.kind == "radar" else (),
        )


def _radar_facts(plan: FetchPlan) -> tuple[tuple[str, bool], ...]:
    return ("s1_iw_applied", plan.require_iw), ("s1_iw_relaxed", False)


def _filled(data: NDArray[np.float32], empty: list[int], fill_value: float) -> NDArray[np.bool_] | None:
    """Write the fill value into empty frames; the mask of the others' pixels, None where all are there."""
    if not empty:
        return None
    data[empty] = fill_value
    valid = np.ones((len(data), *data.shape[2:]), np.bool_)
    valid[empty] = False
    return valid


def _windows(grid: Grid) -> Iterator[tuple[slice, Window]]:
    """The grid in blocks of rows with one climate, not too large, from the north."""
    require_grid(grid, WEB_MERCATOR, "synthetic imagery")
    a, _, c, _, e, f = grid.transform
    column, row = round(c / a), round(f / e)
    columns, rows = axes((column, row), (grid.width, grid.height), scale_m=(a, -e))
    row_numbers, column_numbers = np.arange(row, row + grid.height), np.arange(column, column + grid.width)
    belt, most = belt_rows(-e), max(1, _BLOCK_PIXELS // grid.width)
    start = 0
    while start < grid.height:
        number = (row + start) // belt
        stop = min(grid.height, start + most, (number + 1) * belt - row)
        _, latitude = to_lonlat(0.0, (number + 0.5) * belt * e)
        block = slice(start, stop)
        numbers = row_numbers[block]
        bits = pixel_bits(numbers, column_numbers)
        yield (
            block,
            Window(rows.part(start, stop), columns, numbers, column_numbers, bits, (a, -e), zone_at(latitude)),
        )
        start = stop


def _no_imagery(plan: FetchPlan) -> NoImagery:
    sensor = sensor_of(plan.collection)
    windows = ", ".join(f"{period.start}..{period.end}" for period in plan.frames) or "no window"
    last = sensor.last or "2100-12-31"
    return NoImagery(
        f"no images found: {plan.collection} has none in {windows}.",
        hint=f"Ask for a window between {sensor.first} and {last} (the end is the first day outside it).",
        context={"collection": plan.collection, "windows": [period.to_dict() for period in plan.frames]},
    )
