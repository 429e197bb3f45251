from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core import (
    OutputSpec,
    TemporalSpec,
    UserData,
    configure,
    get_embedding,
    get_embedding_from_data,
    get_embeddings_batch_from_data,
    list_models_for_data,
    register_provider,
)
from rs_embed_core.errors import InvalidInput, InvalidRequest, NoImagery
from rs_embed_core.providers import provider_names
from rs_embed_core.providers.array import ArrayProvider
from tests.parity.golden import load_case
from tests.parity.published import publish
from tests.unit.own_pixels import BANDS, PLACE, S2, SUMMER, TRANSFORM, assert_same, embed, pixels
from tests.unit.small_cards import registered

FOUR_BINS = TemporalSpec.range("2022-05-01", "2022-08-29")  # of 30 days: galileo's frames and equal parts are the same

# --- arrays ------------------------------------------------------------------------------------------------


def test_own_pixels_give_what_the_same_imagery_gives():
    data = pixels(height=64)
    register_provider("same", ArrayProvider(data))
    fetched = get_embedding("mosaiks", spatial=PLACE, temporal=SUMMER, backend="same", output=OutputSpec.grid())
    ours = embed(data, spatial=PLACE, temporal=SUMMER, grid=True)
    assert_same(ours, fetched)
    np.testing.assert_allclose(ours.data.x, fetched.data.x)
    np.testing.assert_allclose(ours.data.y, fetched.data.y)
    for key in ("source", "roi", "temporal", "crs", "image_size", "input_prep"):
        assert ours.meta[key] == fetched.meta[key], key
    assert ours.meta["transform"] == pytest.approx(fetched.meta["transform"])
    assert ours.meta["sensor"]["scale_m"] == pytest.approx(10)
    assert ours.meta["backend"] == "array"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float64, ">u2"])
def test_any_real_numbers_are_taken(dtype):
    data = pixels() % 200
    assert_same(embed(data.astype(dtype)), embed(data.astype(np.float32)))


def test_a_view_of_an_array_is_taken():
    data = np.moveaxis(pixels(10), 0, -1)  # rasterio's other layout, channels last in memory
    assert_same(embed(np.moveaxis(data, -1, 0)), embed(pixels(10)))


def test_a_list_of_numbers_is_taken():
    assert_same(embed(pixels(10, height=8, width=8).tolist()), embed(pixels(10, height=8, width=8)))


def test_one_frame_is_a_chip():
    assert_same(embed(pixels(1, 10)), embed(pixels(1, 10)[0]))
    assert embed(pixels(1, 10)).meta["frames"] == {"requested": 1, "used": 1, "distinct": 1, "empty": 0}


def test_a_series_is_refused_by_a_model_of_one_frame():
    with pytest.raises(InvalidInput, match="at most 1"):
        embed(pixels(3, 10))


def test_a_series_keeps_its_frames_and_one_image_is_repeated(tmp_path):
    card = publish(load_case("galileo", "nano"), tmp_path)
    configure(checkpoints_root=tmp_path, offline=True)
    with registered(card):
        series = embed(pixels(3, 10), model="galileo", temporal=SUMMER)
        single = embed(pixels(10), model="galileo", temporal=FOUR_BINS)
        repeated = embed(np.stack([pixels(10)] * 4), model="galileo", temporal=FOUR_BINS)
        with pytest.raises(InvalidInput, match="at most 24"):
            embed(np.stack([pixels(10)] * 25), model="galileo", temporal=SUMMER)
    configure(offline=False)
    assert series.meta["frames"] == {"requested": 3, "used": 3, "distinct": 3, "empty": 0}
    assert single.meta["frames"] == {"requested": 4, "used": 4, "distinct": 1, "empty": 0}
    assert_same(single, repeated)
    assert (series.data != single.data).any()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (pixels(9), "9 bands"),
        (pixels(1, 3), "3 bands"),
        (pixels(10)[0], r"shape \(48, 64\)"),
        (pixels(1, 1, 10), r"shape \(1, 1, 10, 48, 64\)"),
        (np.empty((10, 0, 64)), r"shape \(10, 0, 64\)"),
        (pixels(10).astype(np.complex64), "complex64"),
        (pixels(10) > 500, "bool"),
        (pixels(10).astype(str), "dtype"),
    ],
)
def test_pixels_that_the_model_cannot_take_are_refused(data, says):
    with pytest.raises(InvalidInput, match=says) as caught:
        embed(data)
    assert "B8A" in caught.value.hint


def test_bands_are_the_model_s_own_or_said():
    data = pixels(3)
    with pytest.raises(InvalidInput, match="exactly B4, B3, B2"):
        embed(data, model="remoteclip", bands=("B2", "B3", "B4"))
    with pytest.raises(InvalidInput, match="no band B99"):
        embed(data, model="dofa", bands=("B2", "B3", "B99"))
    assert embed(data, bands=["R", "G", "N"]).meta["sensor"]["bands"] == ["R", "G", "N"]
    assert embed(pixels(10)).meta["sensor"]["bands"] == list(BANDS)


def test_holes_are_filled_and_said():
    data = pixels(10).astype(np.float32)
    data[:, 3, 4] = np.nan
    ours = embed(data)
    assert "1 of 3072 pixels" in ours.meta["notices"][-1]["text"]
    assert np.isfinite(ours.data).all()
    data[:] = np.nan
    with pytest.raises(NoImagery, match="finite") as caught:
        embed(data)
    assert "cloudy_pct" not in caught.value.hint  # no other window would help


def test_what_a_masked_array_masks_is_missing():
    plain = pixels(10)
    mask = np.zeros(plain.shape, bool)
    mask[:, 3, 4] = True
    ours = embed(np.ma.MaskedArray(np.where(mask, 65535, plain).astype(np.uint16), mask))
    assert_same(ours, embed(np.where(mask, np.nan, plain)))
    assert "1 of 3072 pixels" in ours.meta["notices"][-1]["text"]
    assert_same(embed(np.ma.MaskedArray(plain)), embed(plain))


@pytest.mark.parametrize(
    ("low", "high", "config"),
    [(-25, 0, {"value_low": -25, "value_span": 25}), (0, 0.3, {"value_span": 0.3}), (0, 255, {"value_span": 255})],
    ids=["decibels", "power", "bytes"],
)
def test_mosaiks_takes_other_sensors_by_their_range(low, high, config):
    one, other = np.random.default_rng(3).uniform(0, 1, (2, 2, 32, 32)).astype(np.float32)

    def of(image, **how):
        return get_embedding_from_data("mosaiks", UserData(image, "MY/SENSOR", bands=("a", "b")), device="cpu", **how)

    ours = of(low + one * (high - low), model_config=config)
    np.testing.assert_allclose(ours.data, of(one * 10_000).data, atol=1e-5)  # as bright as reflectances of 0 to 1
    assert np.abs(ours.data - of(low + other * (high - low), model_config=config).data).max() > 1e-3
    if high < 1:
        with pytest.raises(InvalidInput, match="are below 1: no raw numbers"):
            of(low + one * (high - low))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"collection": ""}, "what the pixels are"),
        ({"crs": "EPSG:32632"}, "both or neither"),
        ({"transform": TRANSFORM}, "both or neither"),
        ({"crs": "EPSG:32632", "transform": (1, 2, 3)}, "six numbers"),
        ({"crs": "EPSG:32632", "transform": 5}, "six numbers"),
        ({"crs": "EPSG:32632", "transform": "abcdef"}, "six numbers"),
        ({"crs": "EPSG:32632", "transform": ("a",) * 6}, "six numbers"),
        ({"crs": "EPSG:32632", "transform": b"abcdef"}, "six numbers"),
        ({"crs": "EPSG:32632", "transform": (*TRANSFORM, 0, 0, 2)}, "six numbers"),
        ({"crs": "EPSG:32632", "transform": (10, 0, float("nan"), 0, -10, 0)}, "six numbers"),
        ({"crs": 32632, "transform": TRANSFORM}, "crs is 32632"),
        ({"crs": "EPSG:32632", "transform": (10, 0, 0, 0, 10, 0)}, "Row 0 is north"),
        ({"crs": "EPSG:32632", "transform": (-10, 0, 0, 0, -10, 0)}, "column 0 is west"),
        ({"crs": "EPSG:32632", "transform": (10, 1, 0, 1, -10, 0)}, "warp"),
        ({"crs": "EPSG:99999", "transform": TRANSFORM}, "EPSG:99999"),
        ({"bands": "B4"}, "at least one name"),
        ({"bands": 5}, "bands is 5"),
        ({"bands": (1, 2)}, "at least one name"),
        ({"bands": ("B4", "B4")}, "once"),
        ({"scale_m": 0}, "scale_m is 0"),
        ({"scale_m": "10"}, "metres"),
        ({"spatial": "Berlin"}, "BBox or PointBuffer"),
        ({"temporal": 2022}, "TemporalSpec"),
    ],
)
def test_data_that_make_no_sense_are_refused(more, says):
    with pytest.raises(InvalidRequest, match=says):
        embed(UserData(**{"data": pixels(10), "collection": S2, **more}))


@pytest.mark.parametrize("more", [{"model": 5}, {"device": None}, {"data": pixels(10)}])
def test_arguments_of_another_kind_are_refused(more):
    with pytest.raises(InvalidRequest) as caught:
        get_embedding_from_data(**{"model": "mosaiks", "data": UserData(pixels(10), S2), "device": "cpu", **more})
    assert caught.value.hint


@pytest.mark.parametrize("provider", [5, None, ArrayProvider, "synthetic"])
def test_what_is_no_provider_is_not_registered(provider):
    with pytest.raises(InvalidRequest, match="provider is"):
        register_provider("none", provider)
    assert "none" not in provider_names()
    for name in (None, ""):
        with pytest.raises(InvalidRequest, match="name is"):
            register_provider(name, ArrayProvider(pixels(10)))


def test_several_arrays_of_several_shapes():
    arrays = [pixels(10, height=40), pixels(10), pixels(10, height=40) + 1]
    together = get_embeddings_batch_from_data("mosaiks", [UserData(array, S2) for array in arrays], device="cpu")
    for ours, array in zip(together, arrays, strict=True):
        expected = embed(array).data
        np.testing.assert_allclose(ours.data, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# --- which models ------------------------------------------------------------------------------------------


def test_models_that_take_the_pixels():
    assert {"dofa", "galileo", "mosaiks", "remoteclip"} <= set(list_models_for_data(S2))
    assert {"galileo", "mosaiks"} <= set(list_models_for_data(S2, BANDS))
    assert "dofa" not in list_models_for_data(S2, BANDS)  # it knows no B8A
    three = list_models_for_data(S2, ["B4", "B3", "B2"])
    assert {"dofa", "mosaiks", "remoteclip"} <= set(three)
    assert "galileo" not in three
    assert "remoteclip" not in list_models_for_data(S2, ["B2", "B3", "B4"])
    assert list_models_for_data("MY/DRONE", ["R"]) == ["mosaiks"]
    assert list_models_for_data("MY/DRONE") == list_models_for_data("MY/DRONE", ["665nm"]) == ["mosaiks", "panopticon"]
