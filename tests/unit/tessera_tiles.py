"""Folders of made-up tessera tiles in geotessera's layout, and how the tests read them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.geo import Grid, bounds_of
from rs_embed_core.providers.tessera import TesseraProvider, TesseraSettings
from rs_embed_core.providers.tessera.tiles import TileKey
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from tests.parity.golden import golden_dir

SAMPLE = golden_dir("tessera") / "sample"
INSIDE = PointBuffer(0.15, 52.05, 300)
WEST_TILE = {"lon": 5.95, "lat": 50.05, "crs": "EPSG:32631"}
EAST_TILE = {"lon": 6.05, "lat": 50.05, "crs": "EPSG:32632"}
SEAM = PointBuffer(6.0, 50.05, 1000)  # half in zone 31, half in zone 32


@dataclass
class MadeUpTile:
    """A tile of which each value is its pixel's number, unless others are given."""

    lon: float
    lat: float
    crs: str
    transform: Affine
    values: np.ndarray = field(default_factory=lambda: numbered(40, 40, 3))
    scales: np.ndarray | None = None
    year: int = 2024

    @property
    def key(self) -> TileKey:
        return TileKey(self.year, self.lon, self.lat)

    def save(self, root: Path) -> None:
        scales = np.ones(self.values.shape[:2], np.float32) if self.scales is None else self.scales
        for name, array in ((self.key.quantized, self.values), (self.key.scales, scales)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(root / name, array)
        (root / self.key.mask).parent.mkdir(parents=True, exist_ok=True)
        height, width = self.values.shape[:2]
        profile = {"count": 1, "height": height, "width": width, "dtype": "uint8", "transform": self.transform}
        with rasterio.open(root / self.key.mask, "w", driver="GTiff", crs=CRS.from_string(self.crs), **profile) as file:
            file.write(np.ones((1, height, width), np.uint8))


def numbered(height: int, width: int, dim: int) -> np.ndarray:
    """Int8 ``[H, W, D]``: band 0 is the row, band 1 the column, the others 7."""
    values = np.full((height, width, dim), 7, np.int8)
    values[..., 0] = np.arange(height)[:, np.newaxis]
    values[..., 1] = np.arange(width)
    return values


def save_all(root: Path, tiles: Sequence[MadeUpTile]) -> Path:
    """A folder of tiles; the manifest lists them in this order."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [{"year": tile.year, "lon": tile.lon, "lat": tile.lat, "grid_size": 1, "scales_size": 1} for tile in tiles]
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")
    masks = [{"lon": tile.lon, "lat": tile.lat, "file_size": 1} for tile in tiles]
    pq.write_table(pa.Table.from_pylist(masks), root / "landmasks.parquet")
    for tile in tiles:
        tile.save(root)
    return root


def provider(root: Path) -> TesseraProvider:
    return TesseraProvider(TesseraSettings(root, offline=True))


def asked(spatial: Spatial, *, year: int = 2024, scale_m: float = 10, **changes: Any) -> FetchPlan:
    grid = changes.pop("grid", None) or Grid.on_lattice(bounds_of(spatial), scale_m)
    return FetchPlan("tessera", changes.pop("bands", ()), grid, (calendar(year),), **changes)


def calendar(year: int) -> Period:
    return Period(dt.date(year, 1, 1), dt.date(year + 1, 1, 1))


def read(root: Path, spatial: Spatial = INSIDE, **changes: Any):
    return provider(root).fetch(asked(spatial, **changes))


def region(spec: dict[str, Any]) -> Spatial:
    return BBox(**spec["bbox"]) if "bbox" in spec else PointBuffer(**spec["point"])


def around(lon: float, lat: float, crs: str, *, pixel_m: float = 200, pixels: int = 40) -> Affine:
    """The transform of a tile of so many pixels with that centre."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    half = pixel_m * pixels / 2
    return Affine(pixel_m, 0, round(x - half), 0, -pixel_m, round(y + half))


def tile(place: dict[str, Any], **changes: Any) -> MadeUpTile:
    return MadeUpTile(**{**place, "transform": around(place["lon"], place["lat"], place["crs"]), **changes})


def filled(value: int, dim: int = 3) -> np.ndarray:
    return np.full((40, 40, dim), value, np.int8)
