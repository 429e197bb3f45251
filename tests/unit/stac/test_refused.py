"""What cannot be read, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rs_embed_core.chip import FetchPlan
from rs_embed_core.errors import NoImagery, ProviderError
from rs_embed_core.geo import Grid
from rs_embed_core.providers.stac import StacProvider, StacSettings
from tests.unit.stac.rule import JUNE, S2, expected, read
from tests.unit.stac.written import SCENES, around, write


@pytest.mark.parametrize(
    ("collection", "words"),
    [
        ("COPERNICUS/S1_GRD_FLOAT", "terrain"),
        ("COPERNICUS/S2_HARMONIZED", "gee"),
        ("LANDSAT/LC08/C02/T1_L2", S2),
        ("MODIS/061/MOD09GA", S2),
    ],
)
def test_other_collections_are_refused(provider, collection, words):
    with pytest.raises(ProviderError, match=collection) as caught:
        provider.fetch(FetchPlan(collection, ("B2",), around(), (JUNE,)))
    assert caught.value.code == "unsupported_collection"
    assert words in caught.value.hint
    assert not caught.value.retryable


def test_unknown_bands_are_refused(provider):
    with pytest.raises(ProviderError, match="B10") as caught:
        read(provider, around(), bands=("B2", "B10"))
    assert (caught.value.code, caught.value.retryable) == ("unknown_band", False)


@pytest.mark.parametrize("place", [(13.5, 48.1), (-170.0, -48.1), (12.0, 85.0)])
def test_no_imagery_elsewhere(provider, place):
    with pytest.raises(NoImagery, match="sentinel-2-l2a") as caught:
        read(provider, around(place))
    assert not caught.value.retryable


def test_other_grids_are_refused(provider):
    utm = Grid("EPSG:32632", (10.0, 0.0, 720_000.0, 0.0, -10.0, 5_335_000.0), 9, 9)
    with pytest.raises(ProviderError, match="EPSG:32632") as caught:
        read(provider, utm)
    assert (caught.value.code, caught.value.retryable) == ("unsupported_grid", False)


def test_the_last_pixel_may_cross_the_antimeridian(provider):
    edge = Grid("EPSG:3857", (10.0, 0.0, 20_037_500.0, 0.0, -10.0, 0.0), 1, 1)
    with pytest.raises(NoImagery):
        read(provider, edge)


def test_a_catalogue_of_another_collection(catalogue):
    other = StacProvider(StacSettings(path=str(catalogue)))
    with pytest.raises(ProviderError, match="sentinel-2-c1-l2a") as caught:
        read(other, around())
    assert caught.value.code == "unknown_collection"
    assert "sentinel-2-l2a" in caught.value.hint


def test_missing_and_damaged_files(tmp_path):
    catalogue = write(tmp_path, scenes=SCENES[:1])
    provider = StacProvider(StacSettings(preset="planetary-computer", path=str(catalogue)))
    (tmp_path / SCENES[0].id / "B2.tif").unlink()
    with pytest.raises(ProviderError, match=r"B2\.tif does not exist") as caught:
        read(provider, around())
    assert (caught.value.code, caught.value.retryable) == ("bad_file", False)
    file = tmp_path / SCENES[0].id / "B3.tif"
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(ProviderError, match=r"B3\.tif is damaged"):
        read(provider, around(), bands=("B3",))


def _edited(tmp_path: Path, **properties: object) -> StacProvider:
    """A catalogue of one scene whose properties were changed; None takes one away."""
    write(tmp_path, scenes=SCENES[:1])
    items = json.loads((tmp_path / "items.json").read_text())
    for name, value in properties.items():
        items["features"][0]["properties"][name.replace("__", ":")] = value
    (tmp_path / "items.json").write_text(json.dumps(items))
    return StacProvider(StacSettings(preset="planetary-computer", path=str(tmp_path / "items.json")))


@pytest.mark.parametrize(
    "properties", [{"datetime": "yesterday"}, {"s2__processing_baseline": None}, {"eo__cloud_cover": "much"}]
)
def test_items_that_cannot_be_read(tmp_path, properties):
    with pytest.raises(ProviderError, match="STAC item") as caught:
        read(_edited(tmp_path, **properties), around())
    assert (caught.value.code, caught.value.retryable) == ("bad_item", False)


def _moved(tmp_path: Path, metres: float) -> StacProvider:
    """A catalogue of one scene that says that every file lies further east than it does."""
    write(tmp_path, scenes=SCENES[:1])
    items = json.loads((tmp_path / "items.json").read_text())
    for asset in items["features"][0]["assets"].values():
        asset["proj:transform"][2] += metres
    (tmp_path / "items.json").write_text(json.dumps(items))
    return StacProvider(StacSettings(preset="planetary-computer", path=str(tmp_path / "items.json")))


def test_the_header_has_the_last_word(tmp_path):
    provider = _moved(tmp_path, 60.0)
    assert np.array_equal(read(provider, around()).data[0], expected(list(SCENES[:1]), around())[0])


def test_a_file_that_does_not_reach_is_not_opened(tmp_path):
    chip = read(_moved(tmp_path, 6_000.0), around())
    assert not chip.valid.any()
    assert chip.empty_frames == ()  # there is a scene; it shows nothing here
    assert dict(chip.facts)["requests"] == 1  # the catalogue


def test_a_catalogue_that_is_none(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2]")
    for path, words in ((tmp_path / "x.json", "not a JSON object"), (tmp_path / "y.json", "No such file")):
        provider = StacProvider(StacSettings(path=str(path)))
        with pytest.raises(ProviderError, match=words) as caught:
            read(provider, around())
        assert caught.value.code == "bad_file"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "nasa"}, "earth-search"),
        ({"url": "https://a.example", "path": "b.json"}, "static"),
        ({"collection": "sentinel-2-l2a"}, "flag"),
        ({"at_once": 0}, "at least 1"),
        ({"max_scenes": 0}, "at least 1"),
        ({"timeout_s": 0.0}, "above 0"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ProviderError, match="stac settings") as caught:
        StacSettings(**settings)
    assert (caught.value.code, caught.value.retryable) == ("invalid_settings", False)
    assert words in caught.value.hint
