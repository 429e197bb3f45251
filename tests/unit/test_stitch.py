"""Stitch, crop and merge, against the fact sheet."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest

from rs_embed_core import (
    BBox,
    InputPrepSpec,
    OutputSpec,
    PointBuffer,
    UserData,
    get_embedding,
    get_embedding_from_data,
    register_provider,
)
from rs_embed_core.plan import plan
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.specs.request import Ask
from tests.unit.own_places import RECTANGLE, SUMMER
from tests.unit.small_cards import PATCH, SIDE, averages_card, registered


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
