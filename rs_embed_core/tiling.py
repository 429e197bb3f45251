"""Stages prepare and assemble: how a large image is cut into tiles, and how their results become one.

Facts: golden/dofa/spec.md, "Request geometry, resizing and tiling". A tile owns the pixels between the
midpoints of its overlaps; cells of its token grid are kept accordingly, each seam snapped to one cell edge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

SNAP_FRACTION = 0.1
_FULL = 1e-6

type Floats = NDArray[np.float32]


def snap(length: int, tile: int, fraction: float = SNAP_FRACTION) -> int:
    """The length after scaling away an overhang of at most ``fraction`` of a tile beyond a multiple of it."""
    overhang = length % tile
    if length > tile and 0 < overhang <= round(fraction * tile):
        return length - overhang
    return length


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis.

    Attributes:
        length: pixels, after snapping.
        tile: side of a tile; shorter axes are padded to it.
        starts, ends: pixel range of each tile without padding; the last is shifted back to end at ``length``.
    """

    length: int
    tile: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, length: int, tile: int, fraction: float = SNAP_FRACTION) -> Axis:
        """Cover ``length`` pixels with tiles."""
        snapped = snap(length, tile, fraction)
        count = max(1, math.ceil(snapped / tile))
        starts = tuple(min(i * tile, max(0, snapped - tile)) for i in range(count))
        return cls(snapped, tile, starts, tuple(min(start + tile, snapped) for start in starts))

    @cached_property
    def owned(self) -> tuple[tuple[int, int], ...]:
        """The pixels that each tile owns; they partition the axis."""
        cuts = [
            0,
            *((end + start) // 2 for end, start in zip(self.ends, self.starts[1:], strict=False)),
            self.length,
        ]
        return tuple(itertools.pairwise(cuts))

    def cells(self, count: int) -> tuple[tuple[int, int], ...]:
        """The range of ``count`` token cells that is kept of each tile."""
        kept: list[tuple[int, int]] = []
        position = 0  # pixels times ``count``: whole numbers, where a rounding error would keep a cell twice
        for start, (_, own_end) in zip(self.starts, self.owned, strict=True):
            first = min(max((position - start * count) // self.tile, 0), count - 1)
            end = (own_end - start) * count
            last = -(-end // self.tile) if own_end == self.length else (2 * end + self.tile) // (2 * self.tile)
            last = min(max(last, first + 1), count)
            kept.append((first, last))
            position = start * count + last * self.tile
        return tuple(kept)

    def reach(self, count: int) -> float:
        """The pixel where the last kept cell ends: beyond ``length`` where the only tile is padded."""
        return self.starts[-1] + self.cells(count)[-1][1] * self.tile / count


@dataclass(frozen=True)
class TileLayout:
    """The tiles of an image, numbered row by row from the north-west."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, height: int, width: int, tile: int, fraction: float = SNAP_FRACTION) -> TileLayout:
        """Cover ``height`` x ``width`` pixels."""
        return cls(Axis.of(height, tile, fraction), Axis.of(width, tile, fraction))

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)

    def _place(self, index: int) -> tuple[int, int]:
        return divmod(index, len(self.columns.starts))

    def tile_box(self, index: int) -> tuple[int, int, int, int]:
        """Pixels (y0, y1, x0, x1) of a tile, without padding."""
        row, column = self._place(index)
        rows, columns = self.rows, self.columns
        return rows.starts[row], rows.ends[row], columns.starts[column], columns.ends[column]

    def kept(self, index: int, cells_h: int, cells_w: int) -> tuple[int, int, int, int]:
        """Token cells (r0, r1, c0, c1) that are kept of a tile with ``cells_h`` x ``cells_w`` of them."""
        row, column = self._place(index)
        return *_cells(self.rows, cells_h)[row], *_cells(self.columns, cells_w)[column]

    def owned_area(self, index: int, inset: tuple[float, float, float, float] | None = None) -> float:
        """Pixels that a tile owns, inside an inset (y0, y1, x0, x1) of fractions of the image if given."""
        row, column = self._place(index)
        y0, y1, x0, x1 = (0.0, 1.0, 0.0, 1.0) if inset is None else inset
        height, width = self.rows.length, self.columns.length
        top, bottom = self.rows.owned[row]
        left, right = self.columns.owned[column]
        tall = min(bottom, y1 * height) - max(top, y0 * height)
        wide = min(right, x1 * width) - max(left, x0 * width)
        return max(0.0, tall) * max(0.0, wide)


_cells = lru_cache(maxsize=256)(Axis.cells)


def stitch(pieces: Sequence[Floats], layout: TileLayout) -> Floats:
    """The whole grid ``[D, H, W]`` from the kept cells ``[D, h, w]`` of every tile, in order."""
    if len(pieces) != layout.count:
        raise ValueError(f"{len(pieces)} pieces for a layout of {layout.count} tiles")
    width = len(layout.columns.starts)
    rows = [np.concatenate(pieces[i : i + width], axis=2) for i in range(0, layout.count, width)]
    return np.concatenate(rows, axis=1)


def merge_mean(vectors: Sequence[Floats], areas: Sequence[float]) -> Floats:
    """The mean of the vectors of the tiles that have some area, weighted by it."""
    # chosen before the sum, not by a weight of 0: 0 * NaN is NaN
    pairs = [(vector, area) for vector, area in zip(vectors, areas, strict=True) if area > 0]
    weights = np.array([area for _, area in pairs], np.float64)
    stacked = np.stack([vector for vector, _ in pairs])  # [N, D]
    return (weights @ stacked.astype(np.float64) / weights.sum()).astype(np.float32)


def merge_max(vectors: Sequence[Floats], areas: Sequence[float]) -> Floats:
    """The element-wise maximum over the vectors of the tiles that have some area."""
    return np.stack([vector for vector, area in zip(vectors, areas, strict=True) if area > 0]).max(axis=0)


def crop_cells(height: int, width: int, inset: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Cells (r0, r1, c0, c1) that an inset of fractions (y0, y1, x0, x1) touches: outward, at least one."""
    y0, y1, x0, x1 = inset
    if max(y0, x0) <= _FULL and min(y1, x1) >= 1 - _FULL:
        return 0, height, 0, width
    r0 = min(max(math.floor(y0 * height), 0), height - 1)
    c0 = min(max(math.floor(x0 * width), 0), width - 1)
    r1 = min(max(math.ceil(y1 * height), r0 + 1), height)
    c1 = min(max(math.ceil(x1 * width), c0 + 1), width)
    return r0, r1, c0, c1
