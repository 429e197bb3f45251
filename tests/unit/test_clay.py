"""What the card of Clay says, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core import PointBuffer, SensorSpec, TemporalSpec
from rs_embed_core.chip import Chip
from rs_embed_core.errors import InvalidInput, UnknownOption
from rs_embed_core.plan import Plan, plan, recipe
from rs_embed_core.prepare import prepare
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask

S2 = "COPERNICUS/S2_SR_HARMONIZED"
PLACE = PointBuffer(121.5, 31.2, 1280)
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")


def _planned(sensor: SensorSpec | None = None, temporal: TemporalSpec | None = SUMMER) -> Plan:
    return plan(Ask("clay", temporal=temporal, sensor=sensor).at(PLACE))


def _prepared(request: Plan, pixels: np.ndarray) -> Sample:
    """The sample of pixels ``[C, H, W]``."""
    read = request.fetch
    grid = read.grid.with_shape(*pixels.shape[1:])
    chip = Chip(pixels[None].astype(np.float32), grid, read.bands, read.frames, "test", read.collection)
    return prepare(chip, request).samples[0]


def test_raw_numbers_are_standardised_without_a_clip() -> None:
    pixels = np.full((10, 256, 256), 12_000.0)
    pixels[1], pixels[2, 7, 7] = -50, np.nan
    image = _prepared(_planned(), pixels).image
    assert image.shape == (10, 256, 256)
    np.testing.assert_allclose(image[0], (12_000 - 1105) / 1809, rtol=1e-6)
    np.testing.assert_allclose(image[1], (-50 - 1355) / 1757, rtol=1e-6)
    np.testing.assert_allclose(image[2, 7, 7], (0 - 1552) / 1888, rtol=1e-6)


def test_statistics_and_wavelengths_follow_the_bands() -> None:
    request = _planned(SensorSpec(S2, ("B12", "B8A"), 20))
    sample = _prepared(request, np.full((2, 256, 256), 3000.0))
    np.testing.assert_allclose(sample.image[:, 0, 0], [(3000 - 1835) / 1379, (3000 - 2785) / 1648], rtol=1e-6)
    np.testing.assert_array_equal(sample.arrays["waves"], np.float32([2.19, 0.865]))
    assert sample.arrays["gsd"].tolist() == 20  # as the sensor asks


def test_time_and_place_of_the_published_example() -> None:
    """Numbers of golden/clay: the middle of that summer is 17 July, week 28."""
    arrays = _prepared(_planned(), np.full((10, 8, 8), 3000.0)).arrays
    np.testing.assert_allclose(arrays["time"], [-0.23931566, -0.97094184, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(arrays["latlon"], [0.518027, 0.8553643, 0.8526402, -0.52249855], rtol=1e-6)
    assert arrays["gsd"].tolist() == 10
    unsaid = _prepared(_planned(temporal=None), np.full((10, 8, 8), 3000.0)).arrays
    np.testing.assert_array_equal(unsaid["time"], arrays["time"])  # the default window is that summer


@pytest.mark.parametrize("pixels", [np.zeros((10, 8, 8)), np.full((10, 8, 8), 1.5)])
def test_what_looks_normalised_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="already normalised"):
        _prepared(_planned(), pixels)


def test_bands_outside_the_ten_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no band B1, B9"):
        _planned(SensorSpec(S2, ("B1", "B2", "B9"), 10))


def test_model_size_is_the_variant() -> None:
    def variant(**config: str) -> str:
        return recipe(Ask("clay", model_config=tuple(config.items()))).selection.variant

    assert variant() == "large"
    assert variant(model_size="base") == variant(variant="base") == "base"
    with pytest.raises(UnknownOption, match="'huge'"):
        variant(model_size="huge")
    with pytest.raises(UnknownOption, match="both model_size and variant"):
        variant(model_size="base", variant="base")
