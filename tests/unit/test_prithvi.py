"""What the card of Prithvi says, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core import PointBuffer, TemporalSpec
from rs_embed_core.chip import Chip
from rs_embed_core.errors import InvalidInput, UnknownOption
from rs_embed_core.plan import Plan, plan, recipe
from rs_embed_core.prepare import prepare
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask

PLACE = PointBuffer(121.5, 31.2, 3360)
BANDS = ("B2", "B3", "B4", "B8A", "B11", "B12")
MEAN = (1087, 1342, 1433, 2734, 1958, 1363)
STD = (2248, 2179, 2178, 1850, 1242, 1049)


def _planned(start: str = "2022-06-01", end: str = "2022-07-01", **options: int | str) -> Plan:
    ask = Ask("prithvi", temporal=TemporalSpec.range(start, end), model_config=tuple(options.items()))
    return plan(ask.at(PLACE))


def _prepared(request: Plan, pixels: np.ndarray, valid: np.ndarray | None = None) -> Sample:
    """The sample of pixels ``[6, H, W]``; the frames differ in the last pixel of B11."""
    read = request.fetch
    data = np.broadcast_to(pixels.astype(np.float32), (len(read.frames), *pixels.shape)).copy()
    data[:, 4, -1, -1] += np.arange(len(read.frames))
    grid = read.grid.with_shape(*pixels.shape[1:])
    chip = Chip(data, grid, read.bands, read.frames, "test", read.collection, valid)
    return prepare(chip, request).samples[0]


@pytest.mark.parametrize(
    ("end", "options", "count"),
    [
        ("2022-06-02", {}, 1),
        ("2022-07-26", {}, 1),  # 55 days
        ("2022-07-27", {}, 2),  # 56 days
        ("2022-09-01", {}, 3),  # 92 days
        ("2023-06-01", {}, 4),
        ("2023-06-01", {"max_frames": 20}, 13),
        ("2023-06-01", {"n_frames": 2}, 2),
        ("2023-06-01", {"temporal_mode": "single"}, 1),
        ("2022-06-02", {"temporal_mode": "multi"}, 1),
        ("2022-09-01", {"frame_stride_days": 46}, 2),
    ],
)
def test_a_window_gives_a_frame_for_every_28_whole_days(end: str, options: dict[str, int | str], count: int) -> None:
    assert len(_planned(end=end, **options).fetch.frames) == count


def test_both_names_of_one_option_are_too_many() -> None:
    with pytest.raises(UnknownOption, match="both n_frames and max_frames"):
        recipe(Ask("prithvi", model_config=(("n_frames", 2), ("max_frames", 2))))
    with pytest.raises(UnknownOption, match="max_frames=0"):
        recipe(Ask("prithvi", model_config=(("n_frames", 0),)))


@pytest.mark.parametrize("name", ["100_tl", "100M-TL", "prithvi_eo_v2_100_tl"])
def test_a_variant_has_the_reference_s_spellings_too(name: str) -> None:
    assert recipe(Ask("prithvi", model_config=(("variant", name),))).selection.variant == "100_tl"


def test_the_read_is_at_30_m() -> None:
    read = _planned().fetch
    assert read.bands == BANDS
    assert read.grid.transform[0] == 30


def test_reflectances_go_in_and_dates_and_place_beside_them() -> None:
    pixels = np.full((6, 224, 224), 2500.0)
    pixels[1], pixels[2], pixels[3, 5, 5] = -50, 12_000, np.nan
    sample = _prepared(_planned(end="2022-09-01"), pixels)
    assert sample.image.shape == (3, 6, 224, 224)
    assert np.unique(sample.image[:, 0]).tolist() == [0.25]
    assert np.unique(sample.image[:, 1]).tolist() == [0]
    assert np.unique(sample.image[:, 2]).tolist() == [1]
    assert sample.image[0, 3, 5, 5] == 0
    assert sample.arrays["temporal_coords"].tolist() == [[2022, 167], [2022, 197], [2022, 228]]
    np.testing.assert_allclose(sample.arrays["location_coords"], [31.2, 121.5], rtol=1e-6)  # latitude first


def test_official_preprocessing_standardises_and_marks_what_is_missing() -> None:
    """As the authors' inference.py: ``where(missing, 0.0001, (x - mean) / std)``, without a clip."""
    pixels = np.full((6, 224, 224), 12_000.0)
    valid = np.ones((1, 224, 224), np.bool_)
    valid[0, 3, 4] = False
    sample = _prepared(_planned(preprocessing="official"), pixels, valid)
    expected = (12_000 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(sample.image[0, :, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(sample.image[0, :, 3, 4], [1e-4] * 6, rtol=1e-6)


@pytest.mark.parametrize(("multiple", "side"), [(16, 208), (14, 210)])
def test_pad_keeps_the_pixels_and_fills_up_to_whole_patches(multiple: int, side: int) -> None:
    pixels = np.full((6, 200, 200), 2500.0)
    image = _prepared(_planned(prep="pad", patch_mult=multiple), pixels).image
    assert image.shape == (1, 6, side, side)
    assert np.unique(image[..., :200, :200]).tolist() == [0.25]
    assert not image[..., 200:, :].any()
    assert not image[..., 200:].any()
    missing = _prepared(_planned(prep="pad", patch_mult=multiple, preprocessing="official"), pixels).image
    np.testing.assert_allclose(missing[..., 200:], 1e-4, rtol=1e-6)


def test_other_bands_are_refused() -> None:
    request = _planned()
    for bands in (("B2", "B3", "B4", "B8", "B11", "B12"), BANDS[::-1], BANDS[:5]):
        grid = request.fetch.grid.with_shape(16, 16)
        data = np.ones((1, len(bands), 16, 16), np.float32)
        chip = Chip(data, grid, bands, request.fetch.frames, "test", request.fetch.collection)
        with pytest.raises(InvalidInput, match="exactly B2, B3, B4, B8A, B11, B12"):
            prepare(chip, request)
