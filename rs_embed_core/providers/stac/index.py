"""Stage fetch, STAC: which pixel of a file lies under each pixel of a grid, exactly.

The centres of the grid's pixels are projected into the file's CRS, each on its own, and fall into one pixel or
outside: what Earth Engine's nearest neighbour means. GDAL's warper approximates that and is off by a pixel in 0.3
to 0.4 % of places (stac.md, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.geo import Grid, projection
from rs_embed_core.providers.stac.item import Transform
from rs_embed_core.providers.stac.kept import Kept

if TYPE_CHECKING:
    from pyproj import Transformer

_GROUND_BYTES = 128 * 2**20
_PIXELS_BYTES = 128 * 2**20
_SAME = 1e-9  # an overview as coarse as the grid may differ from it by rounding


@dataclass(frozen=True, eq=False)
class Ground:
    """A grid's pixel centres in another CRS: ``x`` and ``y`` float64 ``[H * W]``, and the pixels' size there."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    pixel: float


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of a file under a grid.

    Attributes:
        window: first row, end row, first column, end column of the part of the file to read.
        places: which of the window's pixels, counted row by row, each pixel of the grid takes; ``[H * W]``.
        inside: False where the grid leaves the file; None where it does not.
    """

    window: tuple[int, int, int, int]
    places: NDArray[np.intp]
    inside: NDArray[np.bool_] | None

    @property
    def touched(self) -> bool:
        """Whether any pixel of the grid lies in the file."""
        return self.window[0] < self.window[1]

    def pick[D: np.generic](self, window: NDArray[D]) -> NDArray[D]:
        """The grid's pixels ``[H * W]`` from those of the window; 0 outside the file."""
        picked = window.ravel()[self.places]
        if self.inside is not None:
            picked[~self.inside] = 0
        return picked


class Index:
    """Pixels by grid and file, kept while there is room: all 10 m bands of a tile share theirs."""

    def __init__(self) -> None:
        self._ground: Kept[tuple[Grid, str], Ground] = Kept(_GROUND_BYTES, lambda it: it.x.nbytes + it.y.nbytes)
        self._pixels: Kept[tuple[Grid, str, Transform, tuple[int, int]], Pixels] = Kept(
            _PIXELS_BYTES, lambda it: it.places.nbytes + (0 if it.inside is None else it.inside.nbytes)
        )

    def pixels(self, grid: Grid, crs: str, transform: Transform, shape: tuple[int, int]) -> Pixels:
        """The pixels of a file with this CRS, transform (north up) and shape (rows, columns)."""
        return self._pixels.get(
            (grid, crs, transform, shape), lambda: _pixels(self._on_ground(grid, crs), transform, shape)
        )

    def overview(self, grid: Grid, crs: str, pixel: float, factors: Sequence[int]) -> int | None:
        """Which overview to read: the coarsest whose pixels are not larger than the grid's; None for the file itself.

        The grid's pixels are measured on the ground: 10 m of Mercator are 6.7 m at 48 degrees north.

        Args:
            grid: the pixels wanted.
            crs: of the file.
            pixel: size of the file's own pixels.
            factors: how much coarser each overview is, in ascending order.
        """
        room = self._on_ground(grid, crs).pixel * (1 + _SAME) / pixel
        fitting = [level for level, factor in enumerate(factors) if factor <= room]
        return fitting[-1] if fitting else None

    def _on_ground(self, grid: Grid, crs: str) -> Ground:
        return self._ground.get((grid, crs), lambda: _on_ground(grid, crs))


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(projection(source), projection(target), always_xy=True)


def _on_ground(grid: Grid, crs: str) -> Ground:
    a, b, c, d, e, f = grid.transform
    columns, rows = np.arange(grid.width) + 0.5, np.arange(grid.height)[:, None] + 0.5
    to_file = _transformer(grid.crs, crs)
    x, y = to_file.transform((c + a * columns + b * rows).ravel(), (f + d * columns + e * rows).ravel())
    # The middle of the grid, one pixel to the right of it and one below.
    column = grid.width / 2 + np.array([0.0, 1.0, 0.0])
    row = grid.height / 2 + np.array([0.0, 0.0, 1.0])
    near_x, near_y = to_file.transform(c + a * column + b * row, f + d * column + e * row)
    with np.errstate(invalid="ignore"):  # infinite where the projection does not reach
        steps = np.hypot(near_x[1:] - near_x[0], near_y[1:] - near_y[0])
    return Ground(x, y, float(steps.min()))


def _pixels(ground: Ground, transform: Transform, shape: tuple[int, int]) -> Pixels:
    a, _, c, _, e, f = transform
    columns, rows = np.floor((ground.x - c) / a), np.floor((ground.y - f) / e)
    # Compared as floats: places that the projection does not reach are infinite.
    inside = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0])
    if not inside.any():
        return Pixels((0, 0, 0, 0), np.zeros(inside.size, np.intp), inside)
    top, left = int(rows[inside].min()), int(columns[inside].min())
    bottom, right = int(rows[inside].max()) + 1, int(columns[inside].max()) + 1
    rows, columns = np.where(inside, rows - top, 0.0), np.where(inside, columns - left, 0.0)
    places = (rows * (right - left) + columns).astype(np.intp)
    return Pixels((top, bottom, left, right), places, None if inside.all() else inside)
