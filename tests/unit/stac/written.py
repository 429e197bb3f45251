"""A small STAC catalogue of made-up Sentinel-2 scenes on disk: two UTM zones, three pixel sizes, partial swaths.

The scenes keep their arrays, so that a test can compute what a read should give without any of our readers.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

from rs_embed_core.geo import WEB_MERCATOR, Grid, to_mercator

PLACE = (12.0, 48.1)  # on the border of zones 32 and 33
SIDE_M = 4800
PIXEL_M = {"B1": 60, "B2": 10, "B3": 10, "B8": 10, "B5": 20, "B11": 20, "SCL": 20}
NAMES = {
    "planetary-computer": {"B1": "B01", "B2": "B02", "B3": "B03", "B8": "B08", "B5": "B05", "B11": "B11", "SCL": "SCL"},
    "earth-search": {
        "B1": "coastal",
        "B2": "blue",
        "B3": "green",
        "B8": "nir",
        "B5": "rededge1",
        "B11": "swir16",
        "SCL": "scl",
    },
}
COLLECTIONS = {"planetary-computer": "sentinel-2-l2a", "earth-search": "sentinel-2-c1-l2a"}


@dataclass(frozen=True, eq=False)
class Scene:
    """One made-up scene.

    Attributes:
        seen: the part of the tile's width that the swath covers, from the west; the rest is 0.
        version: time of processing, in the product's name.
    """

    number: int
    zone: int
    time: str
    cloud: float | None
    baseline: str = "04.00"
    seen: tuple[float, float] = (0.0, 1.0)
    version: str = "20220801T000000"
    bands: dict[str, np.ndarray] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.number)
        for band, pixel_m in PIXEL_M.items():
            side = SIDE_M // pixel_m
            offset = 1000 if self.baseline >= "04.00" else 0
            high, low = (12, 0) if band == "SCL" else (offset + 4000, max(1, offset - 60))
            values = rng.integers(low, high, (side, side)).astype(np.uint8 if band == "SCL" else np.uint16)
            values[rng.random((side, side)) < 0.02] = 0
            across = (np.arange(side) + 0.5) / side
            values[:, (across < self.seen[0]) | (across > self.seen[1])] = 0
            self.bands[band] = values

    @property
    def id(self) -> str:
        return self.product.removesuffix(".SAFE")

    @property
    def product(self) -> str:
        sensed = self.time.replace("-", "").replace(":", "").removesuffix("Z")
        tile = {32: "T32UQU", 33: "T33UTP"}[self.zone]
        return f"S2B_MSIL2A_{sensed}_N{self.baseline.replace('.', '')}_R065_{tile}_{self.version}.SAFE"

    @property
    def crs(self) -> str:
        return f"EPSG:326{self.zone}"

    @property
    def corner(self) -> tuple[float, float]:
        """West and north, so that the tile has the place in its middle, on a multiple of 60 m."""
        x, y = Transformer.from_crs("EPSG:4326", self.crs, always_xy=True).transform(*PLACE)
        return math.floor((x - SIDE_M / 2) / 60) * 60.0, math.ceil((y + SIDE_M / 2) / 60) * 60.0

    def footprint(self) -> list[list[list[float]]]:
        west, north = self.corner
        x0, x1 = west + SIDE_M * self.seen[0], west + SIDE_M * self.seen[1]
        ring = [(x0, north), (x1, north), (x1, north - SIDE_M), (x0, north - SIDE_M), (x0, north)]
        to_degrees = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        return [[list(to_degrees.transform(*corner)) for corner in ring]]


SCENES = (
    Scene(1, 32, "2022-06-01T10:10:31Z", 5.0, baseline="03.01"),
    Scene(2, 33, "2022-06-01T10:10:31Z", 12.5, baseline="03.01", seen=(0.0, 0.55)),
    Scene(3, 32, "2022-06-06T10:10:31Z", 2.0),  # reprocessed below
    Scene(4, 32, "2022-06-06T10:10:31Z", 30.0, baseline="05.00", version="20230101T000000"),
    Scene(5, 32, "2022-06-11T10:10:31Z", 30.01),
    Scene(6, 33, "2022-06-16T10:10:31Z", 0.0, seen=(0.45, 1.0)),
    Scene(7, 32, "2022-06-30T23:59:59Z", 1.0, seen=(0.0, 0.6)),
    Scene(8, 32, "2022-07-01T00:00:00Z", 3.0),
    Scene(9, 33, "2022-07-11T10:10:31Z", None, baseline="02.14"),
    Scene(10, 32, "2022-07-21T10:10:31Z", 90.0),
    Scene(11, 33, "2022-09-01T10:10:31Z", 4.0, seen=(0.0, 0.05)),  # passes the place by
)
OLD_VERSION = 3


def around(place: tuple[float, float] = PLACE, pixels: int = 65, scale_m: float = 10.0, width: int = 0) -> Grid:
    """A grid on the lattice of its scale with a place in its middle."""
    x, y = to_mercator(*place)
    width = width or pixels
    column, row = round(x / scale_m - width / 2), round(-y / scale_m - pixels / 2)
    transform = (scale_m, 0.0, column * scale_m, 0.0, -scale_m, -row * scale_m)
    return Grid(WEB_MERCATOR, transform, pixels, width)


def write(root: Path, preset: str = "planetary-computer", scenes: tuple[Scene, ...] = SCENES) -> Path:
    """Write files, items, a collection with links to them, and one file with all items; the collection's path."""
    items = [_write_scene(root, scene, preset) for scene in scenes]
    for item in items:
        (root / f"{item['id']}.json").write_text(json.dumps(item))
    (root / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": COLLECTIONS[preset],
        "description": "Made-up scenes",
        "license": "CC0-1.0",
        "extent": {
            "spatial": {"bbox": [[11.9, 48.0, 12.1, 48.2]]},
            "temporal": {"interval": [["2022-01-01T00:00:00Z", None]]},
        },
        "links": [
            {"rel": "root", "href": "./collection.json"},
            *({"rel": "item", "href": f"./{item['id']}.json"} for item in items),
        ],
    }
    (root / "collection.json").write_text(json.dumps(collection))
    return root / "collection.json"


def _write_scene(root: Path, scene: Scene, preset: str) -> dict[str, Any]:
    folder = root / scene.id
    folder.mkdir(parents=True)
    assets: dict[str, Any] = {}
    for band, values in scene.bands.items():
        path, pixel_m = folder / f"{band}.tif", PIXEL_M[band]
        transform = from_origin(*scene.corner, pixel_m, pixel_m)
        write_tif(path, values, scene.crs, transform)
        assets[NAMES[preset][band]] = {
            "href": f"./{scene.id}/{band}.tif",
            "proj:transform": list(transform)[:6],
            "proj:shape": list(values.shape),
        }
    ring = scene.footprint()[0]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": scene.id,
        "collection": COLLECTIONS[preset],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(p[0] for p in ring), min(p[1] for p in ring), max(p[0] for p in ring), max(p[1] for p in ring)],
        "properties": {
            "datetime": scene.time,
            "proj:code": scene.crs,
            "s2:product_uri": scene.product,
            "s2:processing_baseline": scene.baseline,
            "s2:generation_time": scene.version,
            **({} if scene.cloud is None else {"eo:cloud_cover": scene.cloud}),
        },
        "assets": assets,
        "links": [],
    }


def write_tif(
    path: Path, values: np.ndarray, crs: str, transform: rasterio.Affine, overviews: tuple[int, ...] = ()
) -> None:
    """Write one band as public catalogues do: tiles, DEFLATE, a predictor, 0 for nothing."""
    height, width = values.shape
    options = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2, "nodata": 0}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=values.dtype, crs=crs,
        transform=transform, **options,
    ) as file:  # fmt: skip
        file.write(values, 1)
        if overviews:
            file.build_overviews(list(overviews), rasterio.enums.Resampling.average)
