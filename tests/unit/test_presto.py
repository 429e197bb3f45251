"""What the card of Presto says, by hand."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from rs_embed_core import BBox, PointBuffer, TemporalSpec
from rs_embed_core.chip import Chip
from rs_embed_core.errors import RoiTooLarge
from rs_embed_core.plan import Plan, plan, recipe
from rs_embed_core.prepare import prepare
from rs_embed_core.prepared import Prepared
from rs_embed_core.specs.output import InputPrepSpec
from rs_embed_core.specs.request import Ask

PLACE = PointBuffer(121.5, 31.2, 160)
S2 = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def _planned(start: str = "2022-06-01", end: str = "2022-08-01", modality: str = "s2", **options: int) -> Plan:
    temporal = TemporalSpec.range(start, end)
    return plan(Ask("presto", temporal=temporal, modality=modality, model_config=tuple(options.items())).at(PLACE))


def _prepared(request: Plan, pixels: np.ndarray, valid: np.ndarray | None = None) -> Prepared:
    bands = recipe(request.ask).bands
    grid = request.fetch.grid.with_shape(*pixels.shape[2:])
    frames = request.fetch.frames
    return prepare(Chip(pixels.astype(np.float32), grid, bands, frames, "test", "C", valid), request)


def test_whole_months_give_a_frame_each_in_calendar_order() -> None:
    """Their middles lie in consecutive calendar months, as the network was trained."""
    for first in range(36):  # a leap year among them
        start = dt.date(2019 + first // 12, first % 12 + 1, 1)
        for count in range(1, 25):
            last = first + count
            end = dt.date(2019 + last // 12, last % 12 + 1, 1)
            frames = _planned(start.isoformat(), end.isoformat(), max_frames=24).fetch.frames
            assert [frame.middle.month for frame in frames] == [(first + i) % 12 + 1 for i in range(count)]


@pytest.mark.parametrize(
    ("end", "options", "count"),
    [
        ("2022-06-02", {}, 1),
        ("2022-07-02", {}, 1),  # 31 days
        ("2022-07-03", {}, 2),
        ("2023-06-01", {}, 12),
        ("2024-06-01", {}, 12),
        ("2024-06-01", {"max_frames": 24}, 24),
        ("2026-06-01", {"max_frames": 24}, 24),
        ("2023-06-01", {"max_frames": 1}, 1),
    ],
)
def test_a_window_gives_a_frame_for_every_month_begun(end: str, options: dict[str, int], count: int) -> None:
    assert len(_planned(end=end, **options).fetch.frames) == count


def test_frames_longer_than_a_month_are_remarked() -> None:
    for end, said in (("2023-06-01", False), ("2024-06-01", True)):
        request = _planned(end=end)
        pixels = np.random.default_rng(0).uniform(300, 4000, (12, 10, 2, 2))
        codes = [notice.code for notice in _prepared(request, pixels).info.notices]
        assert ("wide_gaps" in codes) == said


def test_each_modality_reads_its_collections() -> None:
    optical, radar = "COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S1_GRD"
    for modality, wanted in (("s2", [(optical, S2)]), ("s1", [(radar, ("VV", "VH"))])):
        request = _planned(modality=modality)
        assert [(read.collection, read.bands) for read in (request.fetch, *request.also)] == wanted
    request = _planned(modality="s1_s2")
    assert [(read.collection, read.bands) for read in (request.fetch, *request.also)] == [
        (optical, S2),
        (radar, ("VV", "VH")),
    ]
    assert not request.also[0].linear  # dB
    assert not _planned(modality="s1").fetch.linear


def test_a_rectangle_is_read_as_it_is() -> None:
    request = plan(Ask("presto").at(BBox(8.5, 47.3, 8.51, 47.302)))
    assert request.fetch.grid.width > 3 * request.fetch.grid.height


def test_values_are_scaled_and_keep_their_pixels() -> None:
    pixels = np.full((2, 12, 5, 7), 12_000.0)  # above the range of reflectances: nothing is clipped
    pixels[1, :10] = 2500
    pixels[:, 10], pixels[:, 11] = -10, -30
    arrays = _prepared(_planned(modality="s1_s2"), pixels).samples[0].arrays
    image = arrays["image"]
    assert image.shape == (2, 12, 5, 7)
    np.testing.assert_allclose(image[:, :10, 0, 0], [[1.2] * 10, [0.25] * 10], rtol=1e-6)
    np.testing.assert_allclose(image[:, 10:, 0, 0], [[0.6, -0.2]] * 2, rtol=1e-6)  # (dB + 25) / 25
    assert arrays["channels"].tolist() == [*range(2, 12), 0, 1]
    assert arrays["months"].tolist() == [5, 6]
    np.testing.assert_allclose(arrays["latlon"], [31.2, 121.5], rtol=1e-6)  # latitude first
    assert "missing" not in arrays


def test_what_is_missing_is_marked_band_by_band() -> None:
    pixels = np.full((2, 12, 3, 3), 2500.0)
    pixels[0, 10:, 0, 0] = np.nan  # no radar here in June
    valid = np.ones((2, 3, 3), np.bool_)
    valid[1, 2, 2] = False
    arrays = _prepared(_planned(modality="s1_s2"), pixels, valid).samples[0].arrays
    missing = arrays["missing"]
    assert missing[0, :, 0, 0].tolist() == [False] * 10 + [True] * 2
    assert missing[1, :, 2, 2].all()
    assert np.count_nonzero(missing) == 2 + 12
    assert not arrays["image"][missing].any()


def test_more_pixels_than_are_taken_as_they_are() -> None:
    request = _planned()
    with pytest.raises(RoiTooLarge, match="input_prep tile"):
        _prepared(request, np.ones((2, 10, 2, 513)))
    temporal = TemporalSpec.range("2022-06-01", "2022-08-01")
    tiled = plan(Ask("presto", temporal=temporal, input_prep=InputPrepSpec.tile()).at(PLACE))
    assert {sample.image.shape for sample in _prepared(tiled, np.ones((2, 10, 2, 513))).samples} == {(2, 10, 128, 128)}
