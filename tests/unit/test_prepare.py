from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core import BBox, FetchSpec, InputPrepSpec, OutputSpec, PointBuffer, SensorSpec, TemporalSpec
from rs_embed_core.chip import Chip
from rs_embed_core.errors import InvalidInput, NoImagery, RoiTooLarge
from rs_embed_core.plan import Plan, plan
from rs_embed_core.prepare import SYNTHETIC_NOTICE, prepare
from rs_embed_core.prepared import Prepared
from rs_embed_core.providers import get_provider
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.sample import collate, group_by_signature
from rs_embed_core.specs.request import Ask

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
RECTANGLE = BBox(11.5, 48.1, 11.6, 48.11)  # 11 km by 1.7 km


def planned(model: str = "mosaiks", spatial: object = None, **ask: object) -> Plan:
    spatial = spatial or PointBuffer(0, 0, 320)  # on the lattice: 64 x 64
    return plan(Ask(model, **{"temporal": SUMMER, **ask}).at(spatial))


def pixels(request: Plan, seed: int = 0) -> np.ndarray:
    grid = request.fetch.grid
    values = np.random.default_rng(seed).integers(200, 4000, (len(request.fetch.bands), grid.height, grid.width))
    return values.astype(np.float32)


def chip(request: Plan, data: np.ndarray | None = None, valid: np.ndarray | None = None) -> Chip:
    read = request.fetch
    data = pixels(request) if data is None else data
    steps = np.arange(len(read.frames), dtype=np.float32)[:, None, None, None]  # no frame repeats another
    data = np.broadcast_to(data, (len(read.frames), *data.shape[-3:])) + steps
    return Chip(data, read.grid, read.bands, read.frames, "test", read.collection, valid)


def codes(prepared: Prepared) -> list[str]:
    """What was said, besides that the default preprocessing is rs-embed's."""
    return [notice.code for notice in prepared.info.notices if notice.code != "preprocessing"]


# --- holes -------------------------------------------------------------------------------------------------


def test_imagery_without_holes_needs_no_word():
    request = planned()
    data = pixels(request)
    ready = prepare(chip(request, data), request)
    assert codes(ready) == []
    np.testing.assert_allclose(ready.samples[0].image, data * 1e-4, rtol=1e-6)
    everywhere = np.ones((1, 64, 64), np.bool_)
    assert codes(prepare(chip(request, data, everywhere), request)) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_missing(bad):
    request = planned()
    data = pixels(request)
    data[3, 5, 6] = data[4, 5, 6] = data[0, 7, 7] = bad
    ready = prepare(chip(request, data), request)
    assert codes(ready) == ["missing_pixels"]
    assert ready.info.notices[0].text.startswith("2 of 4096 pixels")
    image = ready.samples[0].image
    assert image[3, 5, 6] == image[4, 5, 6] == image[0, 7, 7] == 0
    data[[3, 4, 0], [5, 5, 7], [6, 6, 7]] = 0
    np.testing.assert_array_equal(image, prepare(chip(request, data), request).samples[0].image)


def test_masked_pixels_get_the_fill_of_the_model():
    request = planned()
    valid = np.ones((1, 64, 64), np.bool_)
    valid[0, 10:20] = False
    data = pixels(request)
    data[:, 10:20] = -9999
    ready = prepare(chip(request, data, valid), request)
    assert ready.info.notices[0].text.startswith("640 of 4096 pixels")
    assert (ready.samples[0].image[:, 10:20] == 0).all()
    assert (ready.samples[0].image[:, 20:] > 0).all()


@pytest.mark.parametrize(
    ("imagery", "fill"),
    [
        ({}, 0),
        ({"fetch": FetchSpec(scale_m=10)}, 0),
        ({"fetch": FetchSpec(fill_value=3000)}, 0.3),
        ({"fetch": FetchSpec(fill_value=0)}, 0),
        ({"sensor": SensorSpec("S2", ("B4", "B3", "B2"), fill_value=3000)}, 0.3),
    ],
)
def test_missing_pixels_hold_what_the_caller_asked_for(imagery, fill):
    request = planned(**imagery)
    data, valid = pixels(request), np.ones((1, 64, 64), np.bool_)
    valid[0, 10:20] = False
    data[:, 30, 30] = np.nan
    ready = prepare(chip(request, data, valid), request)
    image = ready.samples[0].image
    np.testing.assert_allclose(image[:, 10:20], fill, rtol=1e-6)
    np.testing.assert_allclose(image[:, 30, 30], fill, rtol=1e-6)
    np.testing.assert_allclose(image[:, 40:], data[:, 40:] * 1e-4, rtol=1e-6)
    assert ("fill_value 3000" in ready.info.notices[0].text) == (fill == 0.3)
    assert ("value=3000.0" in ready.info.prep.chain) == (fill == 0.3)


@pytest.mark.parametrize(
    ("model", "modality", "fill"), [("dofa", None, 1), ("mosaiks", None, -1), ("terrafm", "s1", -1), ("thor", "s1", -1)]
)
def test_a_fill_that_was_asked_for_is_not_what_the_pixels_are_judged_by(model, modality, fill):
    spec = InputPrepSpec.tile(tile_size=64)
    how = {"modality": modality, "fetch": FetchSpec(fill_value=fill), "input_prep": spec}
    request = planned(model, PointBuffer(0, 0, 640), **how)
    valid = np.ones((1, 128, 128), np.bool_)
    valid[..., :64] = False
    assert len(prepare(chip(request, None, valid), request).samples) == 4


@pytest.mark.parametrize("how", ["nan", "mask", "both"])
def test_nothing_but_holes_is_no_imagery(how):
    request = planned()
    data, valid = pixels(request), np.ones((1, 64, 64), np.bool_)
    if how != "mask":
        data[:, :40] = np.nan
    if how == "nan":
        data[:] = np.nan
    if how != "nan":
        valid[:, 0 if how == "mask" else 40 :] = False
    with pytest.raises(NoImagery, match="all 4096 pixels") as caught:
        prepare(chip(request, data, valid), request)
    assert "cloudy_pct" in str(caught.value)


def test_a_hole_does_not_spread_when_tiles_are_snapped():
    # 268 pixels are scaled to 256; without care one NaN would reach every output of its block
    request = planned(spatial=PointBuffer(0, 0, 1340), input_prep=InputPrepSpec.tile(tile_size=128))
    assert request.fetch.grid.height == 268
    data = pixels(request)
    whole = prepare(chip(request, data), request)
    data[:, 100, 100] = np.nan
    torn = prepare(chip(request, data), request)
    assert codes(torn) == ["missing_pixels"]
    changed = [(a.image != b.image).any(axis=0) for a, b in zip(whole.samples, torn.samples, strict=True)]
    assert [int(part.sum()) for part in changed[1:]] == [0, 0, 0]
    assert 1 <= changed[0].sum() <= 9


def test_simulated_imagery_is_said_to_be():
    request = planned()
    ready = prepare(get_provider("synthetic").fetch(request.fetch), request)
    assert ready.info.notices == (SYNTHETIC_NOTICE,)


# --- what does not fit -------------------------------------------------------------------------------------


def test_bands_that_the_network_cannot_take_are_refused():
    request = planned("remoteclip")
    good = chip(request)
    wrong = Chip(good.data, good.grid, ("B2", "B3", "B4"), good.frames, "test", good.collection)
    with pytest.raises(InvalidInput, match="exactly"):
        prepare(wrong, request)


@pytest.mark.parametrize(("model", "limit"), [("mosaiks", 1), ("galileo", 24)])
def test_more_frames_than_the_network_takes_are_refused(model, limit):
    request = planned(model)
    series = np.stack([pixels(request)] * (limit + 1))
    with pytest.raises(InvalidInput, match=f"at most {limit}"):
        prepare(ArrayProvider(series).fetch(request.fetch), request)
    assert prepare(ArrayProvider(series[:limit]).fetch(request.fetch), request).info.frames.used == limit


def test_reflectances_are_refused_by_a_model_that_wants_numbers():
    request = planned("dofa")
    with pytest.raises(InvalidInput, match="raw sensor values"):
        prepare(chip(request, pixels(request) / 10_000), request)


# --- how a chip is cut -------------------------------------------------------------------------------------


def mode(spec: InputPrepSpec, side_m: float = 640) -> tuple[str, int]:
    """How a square chip of 64 px tiles is prepared, and in how many samples."""
    request = planned("galileo", PointBuffer(0, 0, side_m / 2), input_prep=spec)
    ready = prepare(chip(request), request)
    assert ready.info.prep.requested == spec.mode
    assert ready.info.prep.tiles == len(ready.samples) == len(ready.info.tiles)
    return ready.info.prep.resolved, len(ready.samples)


def test_resize_tile_and_auto():
    assert mode(InputPrepSpec.resize(), 5120) == ("resize", 1)
    assert mode(InputPrepSpec.tile(), 640) == ("tile", 1)
    assert mode(InputPrepSpec.tile(), 1280) == ("tile", 4)
    assert mode(InputPrepSpec.auto(), 640) == ("resize", 1)  # one tile is no reason to tile
    assert mode(InputPrepSpec.auto(), 700) == ("resize", 1)  # 70 px snap to 64
    assert mode(InputPrepSpec.auto(), 1280) == ("tile", 4)
    assert mode(InputPrepSpec.auto(max_tiles=3), 1280) == ("resize", 1)
    assert mode(InputPrepSpec.auto(tile_size=128), 1280) == ("resize", 1)
    assert mode(InputPrepSpec.tile(tile_size=32), 1280) == ("tile", 16)


def test_many_tiles_are_remarked_and_too_many_refused():
    spec = InputPrepSpec("tile", tile_size=16, max_tiles=15, max_tiles_hard=16)
    request = planned("galileo", input_prep=spec)
    assert codes(prepare(chip(request), request)) == ["many_tiles"]
    spec = InputPrepSpec("tile", tile_size=16, max_tiles=15, max_tiles_hard=15)
    request = planned("galileo", input_prep=spec)
    with pytest.raises(RoiTooLarge, match="16 tiles of 16 pixels") as caught:
        prepare(chip(request), request)
    assert caught.value.context == {"tiles": 16, "limit": 15}


def test_tiles_are_cut_where_the_layout_says():
    request = planned(spatial=PointBuffer(0, 0, 1280), input_prep=InputPrepSpec.tile(tile_size=100))
    ready = prepare(chip(request, data := pixels(request)), request)
    assert ready.info.layout is not None
    assert len(ready.samples) == 9  # 256 px: tiles from 0, 100 and 156
    for sample, (y0, x0) in zip(ready.samples, [(y, x) for y in (0, 100, 156) for x in (0, 100, 156)], strict=True):
        np.testing.assert_allclose(sample.image, data[:, y0 : y0 + 100, x0 : x0 + 100] * 1e-4, rtol=1e-6)
    assert len(group_by_signature(ready.samples)) == 1


def test_a_tile_that_reaches_past_the_chip_repeats_its_edge():
    sensor = SensorSpec("ANY", ("X",))
    request = planned(sensor=sensor, input_prep=InputPrepSpec.tile(tile_size=64), spatial=BBox(0, 0, 0.0115, 1e-4))
    own = ArrayProvider(np.arange(3 * 128, dtype=np.float32).reshape(1, 3, 128)).fetch(request.fetch)
    ready = prepare(own, request)
    image = ready.samples[1].image * 1e4
    assert image.shape == (1, 64, 64)
    np.testing.assert_allclose(image[0, 2:], np.broadcast_to(image[0, 2], (62, 64)))
    np.testing.assert_allclose(image[0, 1], np.arange(192, 256), rtol=1e-6)


def test_a_vector_needs_only_the_tiles_that_own_some_of_the_roi():
    tile = InputPrepSpec.tile(tile_size=256)
    vector = planned(spatial=RECTANGLE, input_prep=tile)
    field = planned(spatial=RECTANGLE, input_prep=tile, output=OutputSpec.grid())
    assert vector.roi[2:] == (0.0, 1.0)
    vectors, cells = prepare(chip(vector), vector), prepare(chip(field), field)
    layout = cells.info.layout
    assert cells.info.tiles == tuple(range(layout.count))
    owners = tuple(i for i in range(layout.count) if layout.owned_area(i, vector.roi) > 0)
    assert 0 < len(owners) < layout.count
    assert vectors.info.tiles == owners
    assert vectors.info.prep.tiles == len(owners)
    first = cells.samples[owners[0]]
    np.testing.assert_array_equal(vectors.samples[0].image, first.image)
    assert [sample.view.tile[1] for sample in cells.samples] == list(cells.info.tiles)


def test_what_a_view_asks_for():
    square, rectangle = PointBuffer(0, 0, 320), BBox(0, 0, 0.01, 0.005)
    for model, spatial, head, inset in (
        ("galileo", square, True, None),
        ("galileo", rectangle, False, (0.25, 0.75, 0.0, 1.0)),
        ("remoteclip", rectangle, True, (0.25, 0.75, 0.0, 1.0)),
    ):
        request = planned(model, spatial, output=OutputSpec.pooled("max"))
        ready = prepare(chip(request), request)
        view = ready.samples[0].view
        assert (view.output, view.pooling, view.head, view.tile) == ("pooled", "max", head, None)
        assert view.inset == (None if inset is None else pytest.approx(inset, abs=1e-5))
        assert codes(ready) == (["square_pooled"] if model == "remoteclip" else [])


def test_side_inputs_and_params_reach_the_network():
    request = planned("galileo", model_config=(("n_frames", 2), ("patch_size", 4)))
    sample = prepare(chip(request), request).samples[0]
    assert sample.arrays["months"].tolist() == [5, 7]  # 24 June, 9 August
    assert dict(sample.params) == {"patch_size": 4, "exit_norm": True}
    assert collate([sample]).arrays["months"].shape == (1, 2)


def test_samples_of_other_bands_do_not_share_a_forward():
    """DOFA makes one kernel per batch, from the wavelengths of its bands."""
    asks = [planned("dofa", sensor=SensorSpec("COPERNICUS/S2", bands)) for bands in (("B4", "B3"), ("B8", "B11"))]
    red, infrared = (prepare(chip(ask), ask).samples[0] for ask in asks)
    assert red.image.shape == infrared.image.shape
    assert len(group_by_signature([red, infrared, red])) == 2
    assert collate([red]).signature != collate([infrared]).signature
    assert collate([red, red]).take(1, 2).signature == red.signature
    with pytest.raises(ValueError, match="equal signature"):
        collate([red, infrared])


def test_what_is_reported():
    request = planned("galileo", PointBuffer(0, 0, 350), input_prep=InputPrepSpec.tile())
    info = prepare(chip(request), request).info
    assert info.prep.chain.startswith("FillMissing(value=0.0) -> Clip(low=0, high=10000)")
    assert (info.prep.input_hw, info.prep.tile_size, info.prep.tiles) == ((70, 70), 64, 1)
    assert (info.grid.height, info.grid.width) == (64, 64)  # the pixels after snapping
    assert info.grid.transform[0] == pytest.approx(700 / 64)
    assert info.bands == request.fetch.bands
    assert info.prepare_ms > 0
