from __future__ import annotations

import json
from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor

from rs_embed_core import (
    BBox,
    Embedding,
    InputPrepSpec,
    OutputSpec,
    PointBuffer,
    TemporalSpec,
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
from tests.unit.small_cards import PATCH, SIDE, averages_card, registered

TRANSFORM = (10.0, 0.0, 600_000.0, 0.0, -20.0, 5_300_000.0)
RECTANGLE = BBox(0, 0, 0.0115, 0.006)  # 128 by 67 pixels of 10 m, in a square of 129
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
SNAP = SnapToPatches((10 * PATCH,), "crop", 0.0, tolerance_px=8, largest_px=384, most_tokens=3000)
SNAPPING = (
    Shape(SIDE, PATCH, "snap"),
    Chain(FillMissing(0.0), SNAP, StretchUnsnapped(SIDE), FirstFrame()),
)
TILE = InputPrepSpec.tile()


def places(height: int, width: int) -> np.ndarray:
    """Pixels that hold their own place: column and row of their centre, [2, H, W]."""
    rows, columns = np.indices((height, width), np.float32) + np.float32(0.5)
    return np.stack([columns, rows])


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
        ours = own_field(100, 150, TILE)
    assert_in_place(ours, within_px=PATCH - 1)


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


# --- stitch, crop and merge against the fact sheet ---------------------------------------------------------


def axis(length: int) -> list[tuple[int, int, tuple[int, int], tuple[int, int]]]:
    """Start, end, owned pixels and kept cells of the tiles of an axis, as golden/dofa/spec.md has it."""
    starts = [0] if length <= SIDE else [*range(0, length - SIDE, SIDE), length - SIDE]
    ends = [min(start + SIDE, length) for start in starts]
    cuts = [0, *((e + s) // 2 for e, s in zip(ends, starts[1:], strict=False)), length]
    out, c, n = [], Fraction(0), SIDE // PATCH
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        share = Fraction(n, SIDE)
        f0 = min(max(floor((c - start) * share), 0), n - 1)
        last = i == len(starts) - 1
        f1 = ceil((cuts[i + 1] - start) * share) if last else floor((cuts[i + 1] - start) * share + Fraction(1, 2))
        f1 = min(max(f1, f0 + 1), n)
        c = start + f1 / share
        out.append((start, end, (cuts[i], cuts[i + 1]), (f0, f1)))
    return out


def averages(tile: np.ndarray) -> np.ndarray:
    return tile.astype(np.float64).reshape(len(tile), SIDE // PATCH, PATCH, -1, PATCH).mean(axis=(2, 4))


def cut(data: np.ndarray, row: tuple, column: tuple) -> np.ndarray:
    """A tile, its last row and column repeated to full size."""
    tile = data[:, row[0] : row[1], column[0] : column[1]]
    return np.pad(tile, [(0, 0), (0, SIDE - tile.shape[1]), (0, SIDE - tile.shape[2])], mode="edge")


def overlap(owned: tuple[int, int], length: int, window: tuple[float, float]) -> float:
    return max(0.0, min(owned[1], window[1] * length) - max(owned[0], window[0] * length))


@pytest.mark.parametrize(
    ("height", "width"), [(129, 129), (200, 150), (64, 300), (40, 100), (100, 40), (448, 330), (71, 71)]
)
def test_tiles_by_the_fact_sheet(height, width):
    data = np.random.default_rng(7).uniform(200, 4000, (2, height, width)).astype(np.float32)
    rows, columns = axis(height), axis(width)
    no_snap = InputPrepSpec("tile", tile_snap_frac=0.0)
    own = UserData(data, "ANY")
    with registered(averages_card()):
        field = get_embedding_from_data("mosaiks", own, output=OutputSpec.grid(), input_prep=no_snap).data
        mean = get_embedding_from_data("mosaiks", own, input_prep=no_snap).data
        most = get_embedding_from_data("mosaiks", own, output=OutputSpec.pooled("max"), input_prep=no_snap).data
    kept = [[averages(cut(data, r, c))[:, slice(*r[3]), slice(*c[3])] for c in columns] for r in rows]
    expected = np.concatenate([np.concatenate(line, axis=2) for line in kept], axis=1)
    np.testing.assert_allclose(field, expected, rtol=1e-6)
    vectors = np.array([cut(data, r, c).max(axis=(1, 2)) for r in rows for c in columns])
    areas = [(r[2][1] - r[2][0]) * (c[2][1] - c[2][0]) for r in rows for c in columns]
    assert sum(areas) == height * width
    np.testing.assert_allclose(mean, np.average(vectors, axis=0, weights=areas), rtol=1e-6)
    cells = np.array([averages(cut(data, r, c)).max(axis=(1, 2)) for r in rows for c in columns])
    np.testing.assert_allclose(most, cells.max(axis=0), rtol=1e-6)  # no own vector for max: over the cells


@pytest.mark.parametrize("spatial", [RECTANGLE, BBox(0, 0, 0.006, 0.0231), PointBuffer(0, 0, 1000)])
def test_an_roi_by_the_fact_sheet(spatial):
    ask = Ask("mosaiks", temporal=SUMMER, input_prep=InputPrepSpec("tile", tile_snap_frac=0.0))
    request = plan(ask.at(spatial))
    y0, y1, x0, x1 = request.roi
    side = request.fetch.grid.height
    assert request.fetch.grid.width == side
    data = np.random.default_rng(8).uniform(200, 4000, (2, side, side)).astype(np.float32)
    register_provider("own", ArrayProvider(data))
    how = {"spatial": spatial, "temporal": SUMMER, "backend": "own", "input_prep": ask.input_prep}
    with registered(averages_card()):
        field = get_embedding("mosaiks", **how, output=OutputSpec.grid()).data
        mean = get_embedding("mosaiks", **how)
        resized = get_embedding("mosaiks", **{**how, "input_prep": "resize"})
        cells = get_embedding("mosaiks", **{**how, "input_prep": "resize"}, output=OutputSpec.grid()).data
    tiles = axis(side)
    kept = [[averages(cut(data, r, c))[:, slice(*r[3]), slice(*c[3])] for c in tiles] for r in tiles]
    whole = np.concatenate([np.concatenate(line, axis=2) for line in kept], axis=1)
    n = whole.shape[1]
    expected = whole[:, floor(y0 * n) : ceil(y1 * n), floor(x0 * n) : ceil(x1 * n)]
    np.testing.assert_allclose(field, expected, rtol=1e-6)
    vectors = [cut(data, r, c).max(axis=(1, 2)) for r in tiles for c in tiles]
    areas = [overlap(r[2], side, (y0, y1)) * overlap(c[2], side, (x0, x1)) for r in tiles for c in tiles]
    np.testing.assert_allclose(mean.data, np.average(vectors, axis=0, weights=areas), rtol=1e-6)
    assert mean.meta["pooling"] == "mean"
    full = request.roi == (0.0, 1.0, 0.0, 1.0)
    assert resized.meta["pooling"] == ("mean" if full else "roi_grid_mean")
    if not full:  # the network's own vector is of the square; that of the ROI is the mean of its cells
        np.testing.assert_allclose(resized.data, cells.mean(axis=(1, 2)), rtol=1e-5)


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
