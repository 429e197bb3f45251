"""A caller's own pixels, and what they give."""

from __future__ import annotations

import numpy as np
import xarray as xr

from rs_embed_core import Embedding, OutputSpec, PointBuffer, TemporalSpec, UserData, get_embedding_from_data

S2 = "COPERNICUS/S2_SR_HARMONIZED"
BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
TRANSFORM = (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_300_000.0)
PLACE = PointBuffer(0, 0, 320)  # on the lattice: 64 x 64 pixels of 10 m
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")


def pixels(*lead: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(5).integers(200, 4000, (*(lead or (10,)), height, width)).astype(np.uint16)


def embed(
    data: np.ndarray | xr.DataArray | UserData, *, grid: bool = False, model: str = "mosaiks", **more
) -> Embedding:
    own = data if isinstance(data, UserData) else UserData(data, S2, **more)
    output = OutputSpec.grid() if grid else OutputSpec.pooled()
    return get_embedding_from_data(model, own, output=output, device="cpu")


def assert_same(one: Embedding, other: Embedding) -> None:
    np.testing.assert_array_equal(one.data, other.data)
