"""Stage fetch: tessera tiles, each in its UTM zone, onto one grid in EPSG:3857."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import FetchPlan
from rs_embed_core.errors import ProviderError
from rs_embed_core.geo import WEB_MERCATOR, projection
from rs_embed_core.providers.tessera.tiles import Tile, TileFrame

if TYPE_CHECKING:
    from pyproj import Transformer

type Points = tuple[NDArray[np.float64], NDArray[np.float64]]
"""X and y of points, ``[n]`` each."""


class Mosaic:
    """The grid's pixels, filled tile by tile; a pixel keeps the first value it gets.

    Args:
        plan: its grid, its bands (none: all of the tiles' own) and the fill of pixels that no tile covers.
    """

    def __init__(self, plan: FetchPlan) -> None:
        self._plan = plan
        xs, ys = (np.array(centres) for centres in plan.grid.centres)
        x, y = np.meshgrid(xs, ys)  # [H, W]
        self._centres: dict[str, Points] = {WEB_MERCATOR: (x.ravel(), y.ravel())}
        self._open = np.arange(x.size)  # pixels without a value so far
        self._dim = 0
        self._bands: tuple[str, ...] = ()
        self._data = np.empty((0, 0), np.float32)  # [H * W, C]; made when the first tile tells how many bands it has
        self._zones: set[str] = set()

    @property
    def complete(self) -> bool:
        """Whether every pixel has its value."""
        return self._open.size == 0

    @property
    def tile_crs(self) -> list[str]:
        """Projections of the tiles, sorted."""
        return sorted(self._zones)

    def note(self, frame: TileFrame) -> None:
        """Count a tile's projection among those of the region."""
        self._zones.add(frame.crs)

    def add(self, tile: Tile, frame: TileFrame) -> bool:
        """Give the pixels whose centres lie in the tile its values; whether there are any.

        Raises:
            ProviderError: ``mixed_tiles`` or ``unknown_band``.
        """
        self._check_bands(tile)
        x, y = self._projected(frame.crs)
        a, b, c, d, e, f = frame.to_pixels
        x, y = x[self._open], y[self._open]
        with np.errstate(invalid="ignore"):  # a point too far off for the projection is infinite, and in no tile
            columns, rows = np.floor(a * x + b * y + c), np.floor(d * x + e * y + f)
        height, width = tile.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        if not inside.any():
            return False
        values = tile.values(rows[inside].astype(np.intp), columns[inside].astype(np.intp))  # [n, D]
        wanted = [int(name[1:]) for name in self._bands]
        self._data[self._open[inside]] = values[:, wanted]
        self._open = self._open[~inside]
        return True

    def result(self) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.bool_]]:
        """Band names, values ``[C, H, W]`` and the pixels ``[H, W]`` that some tile covers.

        The bands of a pixel are neighbours in memory, as in the tiles and in the reference, whose float32 mean over
        the pixels depends on it: it adds pixel by pixel, and is off by up to 1e-4.
        """
        height, width = self._plan.grid.height, self._plan.grid.width
        covered = np.ones(height * width, np.bool_)
        covered[self._open] = False
        data = np.moveaxis(self._data.reshape(height, width, -1), -1, 0)
        return self._bands, data, covered.reshape(height, width)

    def _check_bands(self, tile: Tile) -> None:
        if self._dim == 0:
            own = tuple(f"T{index:03d}" for index in range(tile.dim))
            self._dim, self._bands = tile.dim, self._plan.bands or own
            if unknown := [name for name in self._bands if name not in own]:
                hint = f"The tiles have the bands T000 to {own[-1]}."
                msg = f"tessera has no band {unknown[0]!r}."
                raise ProviderError(msg, code="unknown_band", hint=hint, retryable=False)
            self._data = np.full((self._open.size, len(self._bands)), self._plan.fill_value, np.float32)
        elif tile.dim != self._dim:
            msg = f"the tiles of the region differ: {tile.name} has {tile.dim} bands, one before it {self._dim}."
            hint = "They are of different data sets; keep each in a folder of its own."
            raise ProviderError(msg, code="mixed_tiles", hint=hint, retryable=False)

    def _projected(self, crs: str) -> Points:
        """The pixel centres in a tile's projection."""
        if crs not in self._centres:
            self._centres[crs] = _from_mercator(crs).transform(*self._centres[WEB_MERCATOR])
        return self._centres[crs]


@lru_cache(maxsize=128)  # there are 120 UTM zones
def _from_mercator(crs: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(WEB_MERCATOR, projection(crs), always_xy=True)
