"""Stage fetch: the ``tessera`` provider, yearly embeddings of 10 m pixels, read through the package geotessera.

Facts: golden/tessera/spec.md. The tiles lie in UTM; each pixel of the grid asked for takes the tile pixel that its
centre falls into. Where tiles overlap, the first in the order of the registry wins.
"""

from __future__ import annotations

import datetime as dt

import numpy as np

from rs_embed_core.chip import Acquisition, Chip, FetchPlan, Period
from rs_embed_core.errors import NoImagery
from rs_embed_core.geo import WEB_MERCATOR, Grid, to_lonlat
from rs_embed_core.providers.base import require_grid
from rs_embed_core.providers.calls import terms, too_late
from rs_embed_core.providers.tessera.library import Library, TesseraSettings
from rs_embed_core.providers.tessera.mosaic import Mosaic
from rs_embed_core.providers.tessera.tiles import TileKey


class TesseraProvider:
    """Reads tiles from a local folder, or downloads those that are wanted. The registry is read with the first chip."""

    def __init__(self, settings: TesseraSettings | None = None) -> None:
        self._library = Library(settings or TesseraSettings())

    @property
    def name(self) -> str:
        """``tessera``."""
        return "tessera"

    def fetch(self, plan: FetchPlan) -> Chip:
        """The embeddings of the calendar year in which the plan's first frame starts; all bands where none are named.

        Water and other pixels without data are NaN. ``Chip.valid`` is False where no tile covers a pixel.

        Raises:
            NoImagery: no tile covers any pixel in that year.
            ProviderTimeout: the deadline passed.
            ProviderError: ``missing_extra``, ``unsupported_grid``, ``unknown_band``, ``mixed_tiles``, ``bad_tile``,
                ``tile_missing``, ``registry_unreadable`` or ``download_failed``.
        """
        year = plan.frames[0].start.year
        bounds = _footprint(plan.grid)
        keys = self._library.search(bounds, year)
        if not keys:
            raise _no_imagery(bounds, year)
        mosaic = Mosaic(plan)
        used = [key for key in keys if self._add(key, mosaic)]
        if not used:
            raise _no_imagery(bounds, year)
        bands, data, covered = mosaic.result()
        return Chip(
            data[np.newaxis],  # [1, C, H, W]
            plan.grid,
            bands,
            (Period(dt.date(year, 1, 1), dt.date(year + 1, 1, 1)),),
            provider=self.name,
            collection=plan.collection,
            valid=None if covered.all() else covered[np.newaxis],
            acquisitions=tuple(Acquisition(key.name, f"{year}-01-01", 0) for key in used),
            facts=(
                ("dataset_version", self._library.dataset),
                ("tiles", len(used)),
                ("coverage", float(covered.mean())),
                ("tile_crs", ", ".join(mosaic.tile_crs)),
                ("utm_zones", len(mosaic.tile_crs)),  # more than one: there is a seam
            ),
        )

    def _add(self, key: TileKey, mosaic: Mosaic) -> bool:
        """Lay a tile into the mosaic; whether it gave a pixel. One that cannot is not read."""
        if terms().left_s <= 0:
            raise too_late(f"reading {key.name}")
        frame = self._library.frame(key)
        mosaic.note(frame)
        return not mosaic.complete and mosaic.add(self._library.tile(key), frame)


def _footprint(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east and north of the grid in degrees: what is asked of the registry."""
    require_grid(grid, WEB_MERCATOR, "tessera")
    a, _, west, _, e, north = grid.transform
    return *to_lonlat(west, north + grid.height * e), *to_lonlat(west + grid.width * a, north)


def _no_imagery(bounds: tuple[float, float, float, float], year: int) -> NoImagery:
    west, south, east, north = bounds
    return NoImagery(
        f"no tessera tile of {year} covers {west:.5f} to {east:.5f} degrees east, {south:.5f} to {north:.5f} north.",
        hint="Ask for another year or place, or have the tiles in the folder and in its manifest.parquet.",
        context={"year": year, "bounds": list(bounds)},
    )
