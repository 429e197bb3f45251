"""Stage fetch, STAC: ``Reader``, a grid's pixels from one file: a windowed read and the own index.

Datasets are opened, read and closed in one thread. GDAL sends the requests; it hides the status of those after the
first, so such a failure counts as one of the way.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.geo import Grid
from rs_embed_core.providers.calls import Asking, too_late
from rs_embed_core.providers.stac.faults import FileFailed, RequestFailed, shown
from rs_embed_core.providers.stac.http import is_remote
from rs_embed_core.providers.stac.index import Index, Pixels
from rs_embed_core.providers.stac.item import Asset, Transform
from rs_embed_core.providers.stac.signing import Signer

if TYPE_CHECKING:
    from rasterio import DatasetReader

logger = logging.getLogger(__name__)

_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "VSI_CACHE": "TRUE",
    "AWS_NO_SIGN_REQUEST": "YES",
    "GDAL_HTTP_MAX_RETRY": "0",  # `Asking` sends again, so that the gate and the tally see every attempt
}
_CONNECT_S, _REQUEST_S = 5.0, 20.0
_REQUESTS = 6  # that one read may need one after the other: they share the time that is left
_STATUS = re.compile(r"HTTP response code: (\d+)")


class Reader:
    """Reads files; threads may share one.

    Args:
        signer: signs remote hrefs; None where they are open.
    """

    def __init__(self, signer: Signer | None = None) -> None:
        self._signer = signer
        self._index = Index()

    def read(self, asset: Asset, grid: Grid, asking: Asking) -> NDArray[np.integer[Any]] | None:
        """The file's numbers ``[H * W]`` on a grid, 0 where it has none; None if it does not reach the grid.

        Raises:
            ProviderError: the file could not be read.
        """
        if asset.crs and asset.transform and asset.shape:
            expected = self._index.pixels(grid, asset.crs, asset.transform, asset.shape)
            if not expected.touched:
                return None  # without opening it
        return asking.ask(lambda left_s: self._attempt(asset, grid, asking, left_s))

    def _attempt(self, asset: Asset, grid: Grid, asking: Asking, left_s: float) -> NDArray[np.integer[Any]] | None:
        if left_s <= 0.0:
            raise too_late(f"reading {shown(asset.href)}")
        href = asset.href
        if self._signer and is_remote(href):
            href = self._signer.signed(href, left_s)
        try:
            return self._opened(_File(href, asset), grid, asking, left_s)
        except RequestFailed as error:
            if self._signer and error.status in (401, 403, None):  # None: the status was hidden from us
                self._signer.refused(href)
            raise

    def _opened(self, file: _File, grid: Grid, asking: Asking, left_s: float) -> NDArray[np.integer[Any]] | None:
        import rasterio
        from rasterio.errors import RasterioError

        request_s = min(_REQUEST_S, left_s / _REQUESTS)
        times = {
            "GDAL_HTTP_TIMEOUT": f"{request_s:.3f}",
            "GDAL_HTTP_CONNECTTIMEOUT": f"{min(_CONNECT_S, request_s):.3f}",
        }
        try:
            with rasterio.Env(**_GDAL, **times):
                with rasterio.open(file.href) as dataset:
                    level = self._level(file, dataset, grid)
                    if level is None:
                        return self._taken(dataset, grid, asking)
                with rasterio.open(file.href, overview_level=level) as overview:
                    return self._taken(overview, grid, asking)
        except RasterioError as error:
            raise file.failed(str(error)) from error

    def _level(self, file: _File, dataset: DatasetReader, grid: Grid) -> int | None:
        file.check(dataset)
        crs, (a, *_) = _crs_of(dataset), dataset.transform
        return self._index.overview(grid, crs, abs(a), dataset.overviews(1))

    def _taken(self, dataset: DatasetReader, grid: Grid, asking: Asking) -> NDArray[np.integer[Any]] | None:
        from rasterio.windows import Window

        pixels: Pixels = self._index.pixels(grid, _crs_of(dataset), _transform_of(dataset), dataset.shape)
        if not pixels.touched:
            return None
        top, bottom, left, right = pixels.window
        window: NDArray[np.integer[Any]] = dataset.read(1, window=Window(left, top, right - left, bottom - top))
        asking.tally.add("bytes", window.nbytes)
        if dataset.nodata:
            window[window == dataset.nodata] = 0
        return pixels.pick(window)


@dataclass(frozen=True)
class _File:
    """A file to open: its href, perhaps signed, and what the catalogue says of it."""

    href: str
    asset: Asset

    def check(self, dataset: DatasetReader) -> None:
        """Compare the header with what the catalogue says; the header is right.

        Raises:
            FileFailed: not one band of small integers, north up.
        """
        a, b, _, d, e, _ = _transform_of(dataset)
        dtype = np.dtype(dataset.dtypes[0])
        if dataset.crs is None or b or d or a <= 0 or e >= 0 or dtype.kind not in "ui" or dtype.itemsize > 2:
            raise FileFailed(f"{shown(self.href)} is no north-up grid of 8 or 16 bit integers with a CRS")
        said, found = (self.asset.transform, self.asset.shape), (_transform_of(dataset), tuple(dataset.shape))
        if None not in said and said != found:
            logger.warning("stac item does not agree with its file", extra={"href": shown(self.href)})

    def failed(self, text: str) -> Exception:
        """What GDAL's words mean."""
        if not is_remote(self.href):
            missing = "No such file" in text
            return FileFailed(f"{self.href} {'does not exist' if missing else 'is damaged'}")
        found = _STATUS.search(text)
        signed = self.href != self.asset.href
        if found:
            return RequestFailed(shown(self.href), f"HTTP status {found[1]}", status=int(found[1]), signed=signed)
        return RequestFailed(shown(self.href), "timed out" if "timed out" in text else "reading failed", signed=signed)


def _crs_of(dataset: DatasetReader) -> str:
    """``EPSG:32632`` where it has a number, which saves PROJ the search; else WKT."""
    code = dataset.crs.to_epsg()
    return f"EPSG:{code}" if code else str(dataset.crs.to_wkt())


def _transform_of(dataset: DatasetReader) -> Transform:
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    return a, b, c, d, e, f
