"""The place that a network is told: of a point, a box, a tile, or of pixels that are nowhere."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core import BBox, InputPrepSpec, PointBuffer, UserData, get_embedding_from_data
from rs_embed_core.chip import Chip
from rs_embed_core.errors import InvalidInput
from rs_embed_core.geo import square, to_lonlat
from rs_embed_core.plan import plan
from rs_embed_core.prepare import prepare
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import Spatial

SQUARE = BBox(0.0, -0.5, 1.0, 0.5)


def _places(spatial: Spatial, height: int, width: int, prep: InputPrepSpec) -> np.ndarray:
    """Latitude and longitude of every sample ``[N, 2]``."""
    request = plan(Ask("prithvi", input_prep=prep, model_config=(("temporal_mode", "single"),)).at(spatial))
    read = request.fetch
    data = np.ones((1, 6, height, width), np.float32)
    chip = Chip(data, read.grid.with_shape(height, width), read.bands, read.frames, "test", read.collection)
    return np.array([sample.arrays["location_coords"] for sample in prepare(chip, request).samples])


@pytest.mark.parametrize("prep", [InputPrepSpec.resize(), InputPrepSpec.tile()])
def test_a_point_is_one_place_for_all_tiles(prep: InputPrepSpec) -> None:
    places = _places(PointBuffer(121.5, 31.2, 3360), 448, 448, prep)
    assert len(places) == (1 if prep.mode == "resize" else 4)
    np.testing.assert_array_equal(places, np.float32([[31.2, 121.5]] * len(places)))


def test_a_box_is_halfway_in_degrees() -> None:
    box = BBox(10.0, 60.0, 11.0, 60.5)  # nearly a square on the ground, so not one in degrees
    bounds = square(box)[0]
    low, high = to_lonlat(bounds.west, bounds.south), to_lonlat(bounds.east, bounds.north)
    expected = [(low[1] + high[1]) / 2, 10.5]
    np.testing.assert_allclose(_places(box, 224, 224, InputPrepSpec.resize()), [expected], rtol=1e-6)


def test_every_tile_of_a_box_has_its_own_place() -> None:
    """Row 0 is north; the last tiles are shifted back to pixels 76..300."""
    places = _places(SQUARE, 300, 448, InputPrepSpec.tile())
    north, south = 0.5 - 112 / 300, 0.5 - 188 / 300
    expected = [[north, 0.25], [north, 0.75], [south, 0.25], [south, 0.75]]
    np.testing.assert_allclose(places, expected, rtol=1e-5, atol=1e-6)


def test_the_tiles_of_a_rectangle_divide_the_box_that_was_asked_for() -> None:
    box = BBox(0.0, -0.1, 1.0, 0.1)  # the square that is read spans half a degree to each side
    places = _places(box, 448, 448, InputPrepSpec.tile())
    np.testing.assert_allclose(places[:, 0], [0.05, 0.05, -0.05, -0.05], rtol=1e-5)


@pytest.mark.parametrize("model", ["prithvi", "clay"])
def test_pixels_without_a_place_are_refused(model: str) -> None:
    bands = 6 if model == "prithvi" else 10
    data = UserData(np.full((bands, 32, 32), 1000.0), "COPERNICUS/S2_SR_HARMONIZED")
    with pytest.raises(InvalidInput, match="no place"):
        get_embedding_from_data(model, data)
