from __future__ import annotations

import json

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor

from rs_embed_core import (
    Embedding,
    InputPrepSpec,
    OutputSpec,
    UserData,
    get_embedding,
    get_embedding_from_data,
    register_provider,
)
from rs_embed_core.inputs import Shape
from rs_embed_core.plan import plan
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import CentreCrop, Resize
from rs_embed_core.preprocessing.snap import SnapToPatches, StretchUnsnapped
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import FillMissing
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.specs.request import Ask
from tests.unit.own_places import RECTANGLE, SUMMER, places
from tests.unit.small_cards import PATCH, SIDE, averages_card, registered

TRANSFORM = (10.0, 0.0, 600_000.0, 0.0, -20.0, 5_300_000.0)
SNAP = SnapToPatches((10 * PATCH,), "crop", 0.0, tolerance_px=8, largest_px=384, most_tokens=3000)
SNAPPING = (
    Shape(SIDE, PATCH, "snap"),
    Chain(FillMissing(0.0), SNAP, StretchUnsnapped(SIDE), FirstFrame()),
)
TILE = InputPrepSpec.tile()


def own_field(height: int, width: int, input_prep: InputPrepSpec | str = "resize") -> Embedding:
    data = UserData(places(height, width), "ANY", crs="EPSG:32632", transform=TRANSFORM)
    return get_embedding_from_data("mosaiks", data, output=OutputSpec.grid(), input_prep=input_prep, device="cpu")


def assert_in_place(
    ours: Embedding,
    rows: slice = slice(None),
    columns: slice = slice(None),
    *,
    transform: tuple[float, ...] = TRANSFORM,
    within_px: float = 1e-3,
) -> None:
    """The coordinates of every cell are those of the pixels that it was made of."""
    field = ours.data[:, rows, columns]
    a, _, c, _, e, f = transform
    seen_x = np.broadcast_to((field.x.to_numpy() - c) / a, field.shape[1:])
    seen_y = np.broadcast_to((field.y.to_numpy()[:, None] - f) / e, field.shape[1:])
    np.testing.assert_allclose(seen_x, field.to_numpy()[0], atol=within_px, rtol=0)
    np.testing.assert_allclose(seen_y, field.to_numpy()[1], atol=within_px, rtol=0)


# --- georeference ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "prep", "cells"),
    [
        (100, 100, "resize", (8, 8)),
        (64, 64, "resize", (8, 8)),
        (128, 192, TILE, (16, 24)),
        (134, 128, TILE, (16, 16)),  # 134 snaps to 128
        (96, 64, InputPrepSpec.tile(tile_size=32), (24, 16)),  # 4 pixels a cell: tiles are scaled up
    ],
)
def test_cells_lie_on_the_pixels_they_were_made_of(height, width, prep, cells):
    with registered(averages_card()):
        ours = own_field(height, width, prep)
    assert ours.data.shape == (2, *cells)
    inner = slice(1, -1) if prep == InputPrepSpec.tile(tile_size=32) else slice(None)
    # scaled up, pixels at the edge of a tile are clamped
    assert_in_place(ours, inner, inner, within_px=0.3 if inner.stop else 1e-3)


def test_the_padding_of_a_rectangle_has_its_place_too():
    with registered(averages_card()):
        ours = own_field(60, 100)  # 20 rows above and below, 12.5 rows a cell
        assert ours.data.shape == (2, 8, 8)
        assert_in_place(ours, slice(2, 6))
        assert ours.data.y.to_numpy()[0] == pytest.approx(5_300_000 - 20 * (-20 + 6.25))
        odd = own_field(100, 61)  # 19 columns to the left, 20 to the right
        assert_in_place(odd, columns=slice(2, 6))


@pytest.mark.parametrize(
    ("shape", "chain", "size", "cells"),
    [
        (Shape(SIDE, PATCH, "stretch"), Chain(FillMissing(0.0), Resize(SIDE), FirstFrame()), (80, 160), (8, 8)),
        (Shape(SIDE, PATCH, "crop"), Chain(FillMissing(0.0), CentreCrop(SIDE), FirstFrame()), (64, 90), (8, 8)),
        (Shape(SIDE, PATCH, "native"), Chain(FillMissing(0.0), FirstFrame()), (40, 72), (5, 9)),
        (*SNAPPING, (84, 90), (10, 10)),  # 84 of 90 columns, of which 80
        (*SNAPPING, (91, 91), (11, 11)),
        (*SNAPPING, (80, 160), (8, 8)),  # too far from square: stretched
    ],
)
def test_every_way_to_fit_a_rectangle_is_georeferenced(shape, chain, size, cells):
    with registered(averages_card(shape, chain)):
        ours = own_field(*size)
    assert ours.data.shape == (2, *cells)
    assert_in_place(ours)


def test_the_padding_of_a_snapped_square_has_its_place_too():
    with registered(averages_card(*SNAPPING)):
        ours = own_field(78, 83)  # columns 2 to 80, then one more row and column on every side
    assert ours.data.shape == (2, 10, 10)
    assert_in_place(ours, slice(1, -1), slice(1, -1))
    assert ours.meta["transform"] == [80, 0, 600_000 + 10, 0, -160, 5_300_000 + 20]


def test_tiles_are_not_snapped():
    with registered(averages_card(*SNAPPING)):
        alone, many = own_field(60, 60, TILE), own_field(128, 192, TILE)
    assert (alone.data.shape, many.data.shape) == ((2, 8, 8), (2, 16, 24))
    assert_in_place(alone, slice(1, -1), slice(1, -1))  # scaled up, pixels at the edge are clamped
    assert_in_place(many)


def test_the_window_of_an_roi_in_a_snapped_square():
    grid = plan(Ask("mosaiks", temporal=SUMMER).at(RECTANGLE)).fetch.grid
    assert (grid.height, grid.width) == (129, 129)  # 128 are kept
    register_provider("places", ArrayProvider(places(129, 129)))
    how = {"spatial": RECTANGLE, "backend": "places", "device": "cpu"}
    with registered(averages_card(*SNAPPING)):
        ours = get_embedding("mosaiks", **how, output=OutputSpec.grid())
        vector = get_embedding("mosaiks", **how)
    assert_in_place(ours, transform=grid.transform)
    _, bottom, _, top = ours.data.rio.bounds()
    assert bottom <= 1
    assert 667 <= top < 667 + 80
    np.testing.assert_allclose(vector.data, ours.data.mean(axis=(1, 2)), rtol=1e-5)


def test_a_tile_longer_than_the_image_reaches_past_it():
    with registered(averages_card()):
        ours = own_field(36, 192, TILE)  # 5 cells of 8 pixels: 4 rows of the last are repeated
    assert ours.data.shape == (2, 5, 24)
    assert_in_place(ours, slice(0, 4))
    assert ours.meta["transform"] == [80, 0, 600_000, 0, -160, 5_300_000]


def test_one_snapped_tile_is_padded_from_its_snapped_size():
    with registered(averages_card()):
        ours = own_field(66, 30, TILE)  # 66 rows snap to 64; 17 columns are added on each side
    assert ours.data.shape == (2, 8, 8)
    assert_in_place(ours, slice(1, -1), slice(3, 5))
    assert ours.data.x.to_numpy()[0] == pytest.approx(600_000 + 10 * (4 - 17))
    assert ours.data.y.to_numpy()[0] == pytest.approx(5_300_000 - 20 * 66 / 16)


def test_a_shifted_last_tile_is_out_of_step_by_less_than_a_cell():
    with registered(averages_card()):
        ours, whole = own_field(100, 150, TILE), own_field(96, 152, TILE)
    assert_in_place(ours, within_px=PATCH - 1)
    assert [notice["code"] for notice in ours.meta["notices"]] == ["default_window", "tile_seams"]
    assert_in_place(whole)  # the last tiles are shifted back by 32 and 40 pixels: whole cells
    assert "tile_seams" not in [notice["code"] for notice in whole.meta["notices"]]


@pytest.mark.parametrize("prep", ["resize", TILE])
def test_the_window_of_an_roi_lies_where_the_roi_is(prep):
    request = plan(Ask("mosaiks", temporal=SUMMER).at(RECTANGLE))
    grid = request.fetch.grid
    register_provider("places", ArrayProvider(places(grid.height, grid.width)))
    with registered(averages_card()):
        ours = get_embedding(
            "mosaiks", spatial=RECTANGLE, backend="places", device="cpu", output=OutputSpec.grid(), input_prep=prep
        )
    assert ours.data.sizes["y"] < ours.data.sizes["x"]
    assert_in_place(ours, transform=grid.transform, within_px=0.05)  # 129 px are scaled to 128 or 64
    _, bottom, _, top = ours.data.rio.bounds()
    assert bottom <= 1
    assert 667 <= top < 667 + 200  # the ROI's 0.006 degrees, outward by less than a cell


def test_other_tools_read_the_place():
    with registered(averages_card()):
        ours = own_field(64, 64)
    assert ours.data.dims == ("d", "y", "x")
    assert ours.data.rio.crs.to_epsg() == 32632
    assert list(ours.data.rio.transform())[:6] == pytest.approx(ours.meta["transform"])
    assert ours.data.dtype == np.float32
    assert (np.diff(ours.data.y) < 0).all()
    assert (np.diff(ours.data.x) > 0).all()


def test_pixels_of_no_place_have_no_coordinates():
    with registered(averages_card()):
        ours = get_embedding_from_data("mosaiks", UserData(places(64, 64), "ANY"), output=OutputSpec.grid())
    assert ours.data.dims == ("d", "y", "x")
    assert not ours.data.coords
    assert ours.meta["crs"] == ""


# --- what is said of it ------------------------------------------------------------------------------------


def test_the_meta_is_json_and_says_what_was_done():
    register_provider("own", ArrayProvider(places(129, 129)))
    with registered(averages_card()):
        ours = get_embedding("mosaiks", spatial=RECTANGLE, backend="own", output=OutputSpec.grid(), input_prep=TILE)
        native = get_embedding(
            "mosaiks",
            spatial=RECTANGLE,
            backend="own",
            output=OutputSpec.grid(grid_orientation="native"),
            input_prep=TILE,
        )
    assert native.data.identical(ours.data)  # what models see is north-up
    assert native.meta["grid_orientation"] == "north_up"
    meta = json.loads(json.dumps(ours.meta))
    assert meta["grid_hw"] == list(ours.data.shape[1:])
    assert (meta["crs"], meta["grid_orientation"], meta["output_mode"]) == ("EPSG:3857", "north_up", "grid")
    assert meta["temporal"] == {"mode": "range", "start": "2022-06-01", "end": "2022-09-01"}
    assert meta["roi"] == RECTANGLE.to_dict()
    assert (meta["backend"], meta["source"], meta["sensor"]["scale_m"]) == ("array", "ANY", 10)
    assert (meta["image_size"], meta["pooling"], meta["checkpoint"]) == (SIDE, None, None)
    prep = meta["input_prep"]
    assert (prep["requested_mode"], prep["resolved_mode"], prep["tile_count"], prep["tile_size"]) == (
        "tile",
        "tile",
        4,
        64,
    )
    assert meta["timings_ms"].keys() == {"fetch", "prepare", "forward"}
    assert meta["versions"]["torch"]
