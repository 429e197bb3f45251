"""Grids as Cloud-Optimized GeoTIFF."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio

from rs_embed_core.errors import InvalidInput
from rs_embed_core.export.cog import write_cog
from tests.unit.own_pixels import TRANSFORM, embed, pixels


def test_a_grid_keeps_its_place_and_its_provenance(tmp_path):
    grid = embed(pixels(10), grid=True, crs="EPSG:32632", transform=TRANSFORM)
    with rasterio.open(write_cog(tmp_path / "new" / "grid.tif", grid)) as file:
        assert file.crs.to_epsg() == 32632
        assert list(file.transform)[:6] == grid.meta["transform"]
        np.testing.assert_array_equal(file.read(), grid.data)
        assert json.loads(file.tags()["RS_EMBED_META"])["model"] == "mosaiks"


@pytest.mark.parametrize("grid", [True, False])
def test_what_has_no_place_or_no_cells_is_refused(tmp_path, grid):
    with pytest.raises(InvalidInput, match="the CRS"):
        write_cog(tmp_path / "none.tif", embed(pixels(10), grid=grid))
    assert not (tmp_path / "none.tif").exists()
