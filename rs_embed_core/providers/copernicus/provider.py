"""Stage fetch: the ``copernicus`` provider, Copernicus-Embed-025deg: one global map of 768 bands for 2021.

Facts: golden/copernicus/spec.md. Each read takes the cells that cover the region asked for, as they are in the file:
nothing is resampled, and ocean cells are 0.
"""

from __future__ import annotations

import datetime as dt
import threading

import numpy as np

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.errors import NoImagery, ProviderError
from rs_embed_core.geo import Grid
from rs_embed_core.providers.base import require_grid
from rs_embed_core.providers.calls import terms, too_late
from rs_embed_core.providers.copernicus.cells import EmbeddingMap
from rs_embed_core.providers.copernicus.source import REVISION, CopernicusSettings, locate
from rs_embed_core.specs.spatial import LONLAT

YEAR = Period(dt.date(2021, 1, 1), dt.date(2022, 1, 1))


class CopernicusProvider:
    """Reads windows of the map. The file is found, or downloaded, and opened with the first read."""

    def __init__(self, settings: CopernicusSettings | None = None) -> None:
        self._settings = settings or CopernicusSettings()
        self._turn = threading.Lock()
        self._map: EmbeddingMap | None = None

    @property
    def name(self) -> str:
        """``copernicus``."""
        return "copernicus"

    def fetch(self, plan: FetchPlan) -> Chip:
        """The cells that cover the plan's one pixel in EPSG:4326; all bands where none are named.

        Raises:
            InvalidRequest: the region is smaller than a cell.
            NoImagery: another year than 2021, or nowhere on the map.
            ProviderTimeout: the deadline passed while others read.
            ProviderError: ``file_missing``, ``file_incomplete``, ``file_unreadable``, ``unsupported_file``,
                ``unsupported_grid`` or ``unknown_band``.
        """
        year = plan.frames[0].start.year
        if year != YEAR.start.year:
            hint = "Its one map is of 2021: give TemporalSpec.year(2021)."
            raise NoImagery(f"copernicus has no map of {year}.", hint=hint)
        _check_grid(plan.grid)
        # One handle serves all threads in turn: GDAL's are not thread-safe, and each has a block cache of its own.
        if not self._turn.acquire(timeout=min(terms().left_s, threading.TIMEOUT_MAX)):
            raise too_late("waiting for the copernicus map")
        try:
            if self._map is None:
                self._map = EmbeddingMap(locate(self._settings))
            cells = self._map.place.cells(plan.grid)
            bands, data = self._map.read(plan.bands, cells)
        finally:
            self._turn.release()
        return Chip(
            data[np.newaxis],  # [1, C, H, W]
            self._map.place.grid(cells),
            bands,
            (YEAR,),
            provider=self.name,
            collection=plan.collection,
            facts=self._facts(self._map.path.name),
        )

    def _facts(self, file: str) -> tuple[tuple[str, str], ...]:
        """The file, and its revision where it is known: a local path may hold another."""
        known = (("file", file),)
        return known if self._settings.path is not None else (*known, ("revision", REVISION))


def _check_grid(grid: Grid) -> None:
    require_grid(grid, LONLAT, "copernicus")
    if (grid.height, grid.width) != (1, 1):
        msg = f"copernicus cannot be read on {grid.height} x {grid.width} pixels."
        hint = f"Ask for one pixel in {LONLAT} that spans the region."
        raise ProviderError(msg, code="unsupported_grid", hint=hint, retryable=False)
