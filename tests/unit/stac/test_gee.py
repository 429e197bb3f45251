"""Two providers, one data set: the emulator's small catalogue as STAC files gives the chips that Earth Engine gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio import Affine

from rs_embed_core.chip import FetchPlan
from rs_embed_core.providers.stac import StacProvider, StacSettings
from tests.emulator.scenes import StoredScene
from tests.emulator.small import S2, small
from tests.unit.gee.emulated import provider as gee
from tests.unit.gee.plans import FOUR, SUMMER, WHOLE_YEAR, around
from tests.unit.stac.written import write_tif

BANDS = {"B4": "B04", "B11": "B11", "B1": "B01"}


def write_scene(root: Path, number: int, scene: StoredScene) -> dict[str, object]:
    """The item of a scene whose files are written; every other one is of a baseline with the offset."""
    offset = 1000 * (number % 2)
    assets = {}
    for band, name in BANDS.items():
        raster = scene.bands[band]
        values = raster.array + np.uint16(offset)
        if raster.mask is not None:
            values[~raster.mask] = 0
        path = root / f"{scene.index}_{name}.tif"
        write_tif(path, values, raster.crs, Affine(*raster.transform))
        assets[name] = {"href": path.name, "proj:transform": raster.transform, "proj:shape": values.shape}
    properties: dict[str, object] = {
        "datetime": scene.time_start.isoformat(),
        "proj:code": scene.bands["B4"].crs,
        "s2:processing_baseline": "04.00" if offset else "03.01",
    }
    if "CLOUDY_PIXEL_PERCENTAGE" in scene.own:
        properties["eo:cloud_cover"] = scene.own["CLOUDY_PIXEL_PERCENTAGE"]
    geometry = shapely.geometry.mapping(scene.footprint)
    return {"type": "Feature", "id": scene.index, "geometry": geometry, "properties": properties, "assets": assets}


@pytest.fixture(scope="module")
def stac(tmp_path_factory: pytest.TempPathFactory) -> StacProvider:
    root = tmp_path_factory.mktemp("small")
    features = [write_scene(root, *numbered) for numbered in enumerate(small().collections[S2].members)]
    (root / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return StacProvider(StacSettings(preset="planetary-computer", path=str(root / "items.json")))


@pytest.mark.parametrize("composite", ["median", "mosaic"])
@pytest.mark.parametrize("cloudy_pct", [30, 5, None])
@pytest.mark.parametrize(("frames", "scale_m"), [((SUMMER,), 10.0), (FOUR, 20.0), ((WHOLE_YEAR,), 4.77731)])
def test_the_same_chip(stac, frames, scale_m, cloudy_pct, composite):
    grid = around(scale_m=scale_m)
    plan = FetchPlan(S2, tuple(BANDS), grid, frames, composite=composite, cloudy_pct=cloudy_pct, fill_value=-1.0)
    ours, theirs = stac.fetch(plan), gee().fetch(plan)
    assert np.array_equal(ours.data, theirs.data)
    assert np.array_equal(*(np.True_ if chip.valid is None else chip.valid for chip in (ours, theirs)))
    assert ours.empty_frames == theirs.empty_frames
    assert ours.acquisitions == theirs.acquisitions
    assert (ours.data != -1.0).any()
