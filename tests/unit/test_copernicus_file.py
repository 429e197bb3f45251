from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from rs_embed_core.errors import NoImagery, ProviderError
from rs_embed_core.providers.copernicus import CopernicusProvider, CopernicusSettings
from rs_embed_core.specs.spatial import BBox
from tests.unit.copernicus_maps import INLAND, NORTH_WEST, SAMPLE, asked, provider, read, save


@pytest.fixture(scope="module")
def three_bands() -> np.ndarray:
    return np.arange(3 * 721 * 1440, dtype=np.float32).reshape(3, 721, 1440)


def refused(path: Path) -> str:
    with pytest.raises(ProviderError) as caught:
        read(path)
    assert not caught.value.retryable
    assert caught.value.hint
    return caught.value.code


# --- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_both_array_orders(tmp_path, three_bands, interleave):
    path = save(tmp_path / "map.tif", three_bands, interleave=interleave)
    chip = read(path, BBox(-180, 89.5, -179.5, 90))  # rows 0..3: the first cell ends at 89.875
    assert np.array_equal(chip.data[0], three_bands[:, 0:3, 0:2])


def test_more_rows_than_columns_where_the_tags_say_so(tmp_path, three_bands):
    values = three_bands.reshape(3, 1440, 721)
    path = save(tmp_path / "map.tif", values, transform=Affine(0.125, 0, 0, 0, -0.125, 90))
    chip = read(path, BBox(0.125, 89.625, 0.5, 89.875))
    assert np.array_equal(chip.data[0], values[:, 1:3, 1:4])


def test_more_rows_than_columns_have_no_known_place(tmp_path, three_bands):
    path = save(tmp_path / "map.tif", three_bands.reshape(3, 1440, 721))
    assert refused(path) == "unsupported_file"


def test_tags_that_name_points_are_taken_as_they_stand(tmp_path, three_bands):
    place = Affine(0.25, 0, -180.125, 0, -0.25, 90.125)
    path = save(tmp_path / "map.tif", three_bands, transform=place, AREA_OR_POINT="Point")
    written = Affine(0.25, 0, -180.0, 0, -0.25, 90.0)  # GDAL writes the centre of the first cell
    with rasterio.Env(GTIFF_POINT_GEO_IGNORE=True), rasterio.open(path) as file:
        assert file.transform == written
    chip = read(path, BBox(-180, 89.5, -179.5, 90))
    assert np.array_equal(chip.data[0], three_bands[:, 0:2, 0:2])


def test_other_files_that_place_the_map_are_left_alone(tmp_path, three_bands):
    path = save(tmp_path / "map.tif", three_bands)
    (tmp_path / "map.tfw").write_text("1\n0\n0\n-1\n0.5\n89.5\n")
    chip = read(path, BBox(-180, 89.5, -179.5, 90))
    assert np.array_equal(chip.data[0], three_bands[:, 0:3, 0:2])


@pytest.mark.parametrize("shape", [(3, 72, 144), (3, 721, 1441), (721, 1440, 3)])
def test_another_shape_is_refused(tmp_path, shape):
    assert refused(save(tmp_path / "map.tif", np.zeros(shape, np.float32))) == "unsupported_file"


def test_outside_a_map_of_a_part_of_the_world(tmp_path, three_bands):
    path = save(tmp_path / "map.tif", three_bands, transform=Affine(0.01, 0, 10, 0, -0.01, 50))
    with pytest.raises(NoImagery, match=r"10 to 24\.4 degrees east"):
        read(path, BBox(3, 33, 5, 34))


def test_bands_as_pages_are_refused(tmp_path):
    path = tmp_path / "map.tif"
    for append in ("NO", "YES"):
        profile = {"count": 1, "height": 721, "width": 1440, "dtype": np.float32, "APPEND_SUBDATASET": append}
        with rasterio.open(path, "w", driver="GTiff", transform=NORTH_WEST, **profile) as file:
            file.write(np.zeros((1, 721, 1440), np.float32))
    assert refused(path) == "unsupported_file"


@pytest.mark.parametrize("transform", [Affine(0.25, 0.1, -180, 0, -0.25, 90), Affine(0.25, 0, -180, 0, 0.25, -90)])
def test_a_map_that_is_not_north_up_is_refused(tmp_path, three_bands, transform):
    assert refused(save(tmp_path / "map.tif", three_bands, transform=transform)) == "unsupported_file"


def test_a_file_that_is_no_tiff(tmp_path):
    path = tmp_path / "embed_map_310k.tif"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert refused(path) == "file_unreadable"


def test_a_truncated_file(tmp_path):
    path = tmp_path / "embed_map_310k.tif"
    path.write_bytes((SAMPLE / "embed_map_310k.tif").read_bytes()[:-100_000])
    assert refused(path) == "file_unreadable"


def test_missing_values_keep_their_place(tmp_path, three_bands):
    values = three_bands.copy()
    values[1, 1, 1] = np.nan
    chip = read(save(tmp_path / "map.tif", values), BBox(-180, 89.5, -179.5, 90))
    assert np.argwhere(np.isnan(chip.data[0])).tolist() == [[1, 1, 1]]


# --- where the file is -------------------------------------------------------------------------------------


def test_the_first_map_of_a_folder_is_read(tmp_path, three_bands):
    save(tmp_path / "embed_map_b.tif", three_bands)
    save(tmp_path / "embed_map_a.tif", three_bands + 1)
    (tmp_path / "another.tif").touch()
    assert dict(read(tmp_path).facts)["file"] == "embed_map_a.tif"


def test_a_small_file_is_an_incomplete_download():
    with pytest.raises(ProviderError, match="734003200") as caught:
        CopernicusProvider(CopernicusSettings(SAMPLE)).fetch(asked(INLAND))
    assert caught.value.code == "file_incomplete"
    assert not caught.value.retryable


@pytest.mark.parametrize("path", ["empty", "nowhere", "nowhere/map.tif"])
def test_no_file(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProviderError) as caught:
        read(tmp_path / path)
    assert_says_how_to_get_it(caught.value)


def test_a_file_may_come_after_the_first_try(tmp_path, three_bands):
    source = provider(tmp_path)
    with pytest.raises(ProviderError):
        source.fetch(asked(INLAND))
    save(tmp_path / "embed_map_310k.tif", three_bands)
    assert source.fetch(asked(INLAND)).bands == ("C000", "C001", "C002")


def test_building_the_provider_loads_no_sdk():
    code = (
        "import sys; from rs_embed_core.providers.copernicus import CopernicusProvider; CopernicusProvider();"
        "print(sorted({'huggingface_hub', 'rasterio', 'pyproj'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_OFFLINE = """
import datetime as dt, json
from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.degrees import degree_grid
from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.copernicus import CopernicusProvider, CopernicusSettings
from rs_embed_core.specs.spatial import BBox
plan = FetchPlan("c", (), degree_grid(BBox(3.0, 33.0, 5.3, 34.4)), (Period(dt.date(2021, 1, 1), dt.date(2022, 1, 1)),))
try:
    chip = CopernicusProvider(CopernicusSettings(offline=True, minimum_bytes=0)).fetch(plan)
except ProviderError as error:
    print(json.dumps({"code": error.code, "text": str(error), "retryable": error.retryable}))
else:
    print(json.dumps({"bands": chip.bands, "facts": chip.facts}))
"""


def offline(cache: Path) -> dict[str, Any]:
    """What a fresh process answers whose cache of the Hub is ``cache``."""
    environment = {"HF_HUB_CACHE": str(cache), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", _OFFLINE], env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_offline_without_the_file(tmp_path):
    answer = offline(tmp_path)
    assert (answer["code"], answer["retryable"]) == ("file_missing", False)
    assert "torchgeo/copernicus_embed" in answer["text"]


def test_offline_with_the_file_in_the_cache_of_the_hub(tmp_path):
    revision = "435b4a7bdce6f6fdbf4272f9d6e54f2604f35fdb"
    folder = tmp_path / "datasets--torchgeo--copernicus_embed" / "snapshots" / revision
    folder.mkdir(parents=True)
    (folder / "embed_map_310k.tif").symlink_to(SAMPLE / "embed_map_310k.tif")
    answer = offline(tmp_path)
    assert len(answer["bands"]) == 5
    assert dict(answer["facts"]) == {"file": "embed_map_310k.tif", "revision": revision}


def assert_says_how_to_get_it(error: ProviderError) -> None:
    assert error.code == "file_missing"
    assert error.context == {
        "repo": "torchgeo/copernicus_embed",
        "file": "embed_map_310k.tif",
        "revision": "435b4a7bdce6f6fdbf4272f9d6e54f2604f35fdb",
    }
    for word in ("torchgeo/copernicus_embed", "embed_map_310k.tif", "435b4a7"):
        assert word in str(error)
