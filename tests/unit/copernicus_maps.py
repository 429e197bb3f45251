"""Made-up files of the copernicus map, and how the tests read them."""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.degrees import degree_grid
from rs_embed_core.geo import Grid
from rs_embed_core.providers.copernicus import CopernicusProvider, CopernicusSettings
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from tests.golden import recipe
from tests.parity.golden import golden_dir

YEAR = Period(dt.date(2021, 1, 1), dt.date(2022, 1, 1))
SAMPLE = golden_dir("copernicus") / "sample"
INLAND = BBox(3.0, 33.0, 5.3, 34.4)
NORTH_WEST = Affine(0.25, 0, -180.125, 0, -0.25, 90.125)


def read(path: Path | None, spatial: Spatial = INLAND, **changes: Any):
    return provider(path).fetch(asked(spatial, **changes))


def provider(path: Path | None, **settings: Any) -> CopernicusProvider:
    return CopernicusProvider(CopernicusSettings(path, **{"minimum_bytes": 0, **settings}))


def asked(spatial: Spatial, *, bands: tuple[str, ...] = (), year: Period = YEAR, grid: Grid | None = None) -> FetchPlan:
    return FetchPlan("torchgeo/copernicus_embed", bands, grid or degree_grid(spatial), (year,))


def region(spec: dict[str, Any]) -> Spatial:
    return BBox(**spec["bbox"]) if "bbox" in spec else PointBuffer(**spec["point"])


def save(path: Path, values: np.ndarray, *, interleave: str = "band", transform: Affine | None = None, **tags) -> Path:
    bands, height, width = values.shape
    profile = {"count": bands, "height": height, "width": width, "dtype": values.dtype, "interleave": interleave}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", transform=transform, compress="deflate", **profile) as file:
            file.update_tags(**tags)
            file.write(values)
    return path


def made_up(bands: int, seed: int) -> np.ndarray:
    """The values that the cases without a file of their own describe."""
    values = np.zeros((bands, 721, 1440), np.float32)
    values[:, 160:256, 720:832] = recipe.patch((bands, 96, 112), seed=seed, low=0, high=4001) * 0.001 - 2
    return values
