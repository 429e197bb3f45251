"""One small place that every live test reads: fields near Zurich, with summers that have clear days."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any  # fields of a plan

import numpy as np
from numpy.typing import NDArray

from rs_embed_core import PointBuffer
from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.geo import Grid, bounds_of

PLACE = PointBuffer(lon=8.54, lat=47.45, buffer_m=160)
JULY = Period(dt.date(2022, 7, 1), dt.date(2022, 8, 1))
PLAN = FetchPlan("COPERNICUS/S2_SR_HARMONIZED", ("B4", "B8"), Grid.on_lattice(bounds_of(PLACE), 10.0), (JULY,))


def plan(**changes: Any) -> FetchPlan:
    """``PLAN`` with other fields."""
    return replace(PLAN, **changes)


def pixels(chip: Chip) -> NDArray[np.float32]:
    """The values ``[C, n]`` of the pixels that a chip has in its first frame."""
    values: NDArray[np.float32] = chip.data[0].reshape(len(chip.bands), -1)
    return values if chip.valid is None else values[:, chip.valid[0].ravel()]


def count(chip: Chip, name: str) -> int:
    """A number among the facts of a chip."""
    return int(dict(chip.facts)[name])


def check(chip: Chip, asked: FetchPlan) -> None:
    """Assert what is true of every read of fields in summer, whatever the service has."""
    assert chip.data.shape == (len(asked.frames), len(asked.bands), asked.grid.height, asked.grid.width)
    assert chip.empty_frames == ()
    for seen in chip.acquisitions:
        period = asked.frames[seen.frame]
        assert period.start <= dt.datetime.fromisoformat(seen.time).date() < period.end
    assert {seen.frame for seen in chip.acquisitions} == set(range(len(asked.frames)))


def check_fields(chip: Chip) -> None:
    """Assert that red and near infrared are those of fields, as reflectance x 10000 without the offset."""
    red, infrared = np.median(pixels(chip), axis=1)
    assert 100 < red < infrared < 8000
