"""Plans for the ``small`` catalogue, and what plain NumPy makes of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any  # fields of a plan

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.geo import Grid, bounds_of
from rs_embed_core.specs.spatial import PointBuffer
from tests.emulator import reference
from tests.emulator.scenes import StoredScene
from tests.emulator.small import LAT, LON, S2, YEAR


def around(buffer_m: float = 400.0, scale_m: float = 10.0) -> Grid:
    """The grid around the place where the catalogue's two UTM zones meet."""
    return Grid.on_lattice(bounds_of(PointBuffer(LON, LAT, buffer_m)), scale_m)


MONTHS = tuple(Period(dt.date(YEAR, m, 1), dt.date(YEAR + m // 12, m % 12 + 1, 1)) for m in range(1, 13))
FOUR = MONTHS[5:9]  # August, the third, has no scene
WHOLE_YEAR = Period(dt.date(YEAR, 1, 1), dt.date(YEAR + 1, 1, 1))
SUMMER = Period(dt.date(YEAR, 6, 1), dt.date(YEAR, 8, 1))
PLAN = FetchPlan(S2, ("B4", "B11", "B1"), around(), (SUMMER,))


def plan(**changes: Any) -> FetchPlan:
    """``PLAN`` with other fields."""
    return replace(PLAN, **changes)


def members(wanted: FetchPlan, period: Period, keep: reference.Keep = lambda _: True) -> list[StoredScene]:
    """The scenes of a frame, in time order."""
    start, stop = period.start.isoformat(), period.end.isoformat()
    return reference.scenes(wanted.collection, start, stop, cloudy_pct=wanted.cloudy_pct, keep=keep)


def expected(wanted: FetchPlan, keep: reference.Keep = lambda _: True) -> NDArray[np.float32]:
    """The frames ``[T, C, H, W]`` in plain NumPy, NaN where nothing is; bands in the catalogue's spelling."""
    frames = [
        reference.composite(members(wanted, period, keep), wanted.bands, wanted.grid, wanted.composite)
        for period in wanted.frames
    ]
    return np.stack(frames).astype(np.float32)


def check(chip: Chip, wanted: NDArray[np.float32], fill_value: float = 0.0) -> None:
    """Assert that a chip has these pixels, bit for bit, and the mask that belongs to them."""
    missing = np.isnan(wanted)
    np.testing.assert_array_equal(chip.data, np.where(missing, np.float32(fill_value), wanted))
    valid = np.ones_like(missing[:, 0]) if chip.valid is None else chip.valid
    np.testing.assert_array_equal(valid, ~missing.all(axis=1))
