from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from rs_embed_core.errors import NoImagery, ProviderError
from rs_embed_core.geo import WEB_MERCATOR, Grid
from rs_embed_core.providers.tessera import TesseraProvider, TesseraSettings
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from tests.unit.tessera_tiles import (
    EAST_TILE,
    INSIDE,
    SAMPLE,
    SEAM,
    WEST_TILE,
    MadeUpTile,
    around,
    asked,
    numbered,
    read,
    save_all,
    tile,
)

# --- nothing there -----------------------------------------------------------------------------------------


def test_no_tiles_of_that_year():
    with pytest.raises(NoImagery, match="2023") as caught:
        read(SAMPLE, year=2023)
    assert caught.value.context["year"] == 2023


def test_no_tiles_in_that_place():
    with pytest.raises(NoImagery, match=r"9\.99"):
        read(SAMPLE, PointBuffer(10, 52.05, 300))


def test_tiles_that_answer_and_do_not_overlap(tmp_path):
    save_all(tmp_path, [tile(WEST_TILE, transform=around(5.5, 50.05, "EPSG:32631"))])
    with pytest.raises(NoImagery):
        read(tmp_path, PointBuffer(5.95, 50.05, 500))


# --- what cannot be served ---------------------------------------------------------------------------------


def refused(root: Path, spatial: Spatial = INSIDE, **changes: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        read(root, spatial, **changes)
    assert caught.value.hint
    assert not caught.value.retryable
    return caught.value


def test_an_unknown_band():
    error = refused(SAMPLE, bands=("T127", "T128"))
    assert error.code == "unknown_band"
    assert "T127" in error.hint


@pytest.mark.parametrize(
    "grid",
    [
        Grid("EPSG:4326", (0.1, 0.0, 0.1, 0.0, -0.1, 52.1), 1, 1),
        Grid(WEB_MERCATOR, (10.0, 0.0, 16390.0, 0.0, 10.0, 6809480.0), 5, 5),
        Grid(WEB_MERCATOR, (10.0, 1.0, 16390.0, 0.0, -10.0, 6809480.0), 5, 5),
    ],
)
def test_a_grid_that_is_not_north_up_in_mercator(grid):
    assert refused(SAMPLE, grid=grid).code == "unsupported_grid"


def test_tiles_of_different_widths(tmp_path):
    save_all(tmp_path, [tile(WEST_TILE), tile(EAST_TILE, values=numbered(40, 40, 4))])
    error = refused(tmp_path, BBox(5.92, 50.04, 6.09, 50.06))
    assert error.code == "mixed_tiles"
    assert "4 bands, one before it 3" in error.message


@pytest.mark.parametrize("shape", [(40, 40, 3, 1), (40, 39), (40, 40, 2), (40,)])
def test_scales_of_another_shape(tmp_path, shape):
    save_all(tmp_path, [tile(WEST_TILE, scales=np.ones(shape, np.float32))])
    assert refused(tmp_path, SEAM).code == "bad_tile"


def damaged(root: Path, name: Path, content: bytes) -> Path:
    shutil.copytree(SAMPLE, root, dirs_exist_ok=True)
    (root / name).write_bytes(content)
    return root


@pytest.mark.parametrize("part", ["mask", "quantized", "scales"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_files_that_cannot_be_read(tmp_path, part, content):
    key = MadeUpTile(0.15, 52.05, "", Affine.identity()).key
    root = damaged(tmp_path, getattr(key, part), content)
    assert refused(root).code == "bad_tile"


def test_a_land_mask_without_a_projection(tmp_path):
    made = tile(WEST_TILE)
    save_all(tmp_path, [made])
    profile = {"count": 1, "height": 4, "width": 4, "dtype": "uint8", "transform": made.transform}
    with rasterio.open(tmp_path / made.key.mask, "w", driver="GTiff", **profile):
        pass
    assert refused(tmp_path, PointBuffer(5.95, 50.05, 100)).code == "bad_tile"


@pytest.mark.parametrize("part", ["mask", "quantized", "scales"])
def test_a_file_that_is_not_there_offline(tmp_path, part):
    key = MadeUpTile(0.15, 52.05, "", Affine.identity()).key
    shutil.copytree(SAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / getattr(key, part)).unlink()
    error = refused(tmp_path)
    assert error.code == "tile_missing"
    assert getattr(key, part).name in error.message


@pytest.mark.parametrize("missing", ["manifest.parquet", "landmasks.parquet"])
def test_a_folder_without_its_registry(tmp_path, missing):
    shutil.copytree(SAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / missing).unlink()
    error = refused(tmp_path)
    assert error.code == "registry_unreadable"
    assert missing in error.message


def test_a_damaged_manifest(tmp_path):
    root = damaged(tmp_path, Path("manifest.parquet"), b"PAR1")
    assert refused(root).code == "registry_unreadable"


def test_a_folder_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(ProviderError, match="is no folder"):
        TesseraProvider(TesseraSettings(tmp_path / "typo")).fetch(asked(INSIDE))
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(("version", "variant"), [("v1", None), ("v1.1", "dclimate"), ("v2", None)])
def test_the_tiles_of_another_data_set(version, variant):
    settings = TesseraSettings(SAMPLE, dataset_version=version, dataset_variant=variant, offline=True)
    with pytest.raises(ProviderError) as caught:
        TesseraProvider(settings).fetch(asked(INSIDE))
    assert caught.value.code == "registry_unreadable"
    assert not caught.value.retryable


def test_a_folder_that_is_said_to_hold_another_data_set(tmp_path):
    save_all(tmp_path, [tile(WEST_TILE)])  # this manifest does not say which
    (tmp_path / "tessera_metadata.json").write_text('{"dataset_version": "1.0", "dataset_variant": "vultr"}')
    assert refused(tmp_path, SEAM).code == "registry_unreadable"
