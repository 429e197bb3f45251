"""Stage fetch: the cells of the ``copernicus`` map: where they lie and what they hold."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rs_embed_core.errors import InvalidRequest, NoImagery, ProviderError
from rs_embed_core.geo import Grid
from rs_embed_core.providers.copernicus.source import DOWNLOAD
from rs_embed_core.specs.spatial import LONLAT

_NORTH_UP = (721, 1440)
_SHAPES = (_NORTH_UP, (1440, 721))  # what the reference accepts; rows are latitudes in both
_LEFT, _TOP, _STEP = -180.0, 90.125, 0.25  # of 721 x 1440 cells without tags
_TAGS = "The file needs the tags ModelPixelScale and ModelTiepoint."

type Slices = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns, half open."""


@dataclass(frozen=True)
class Place:
    """The map's north-west corner and the size of a cell, in degrees; rows and columns."""

    left: float
    top: float
    dx: float
    dy: float
    height: int
    width: int

    def cells(self, region: Grid) -> Slices:
        """The cells that cover a pixel in degrees, in float64 as in the reference: rounding decides at a cell's edge.

        Raises:
            InvalidRequest: the region is smaller than a cell.
            NoImagery: nowhere on the map.
        """
        dx, _, west, _, dy, north = region.transform
        if dx < self.dx or -dy < self.dy:
            msg = f"the region is {dx:.6g} x {-dy:.6g} degrees, less than a cell of the map."
            raise InvalidRequest(msg, hint=f"Ask for at least {self.dx:g} x {self.dy:g} degrees.")
        right, bottom = self.left + self.width * self.dx, self.top - self.height * self.dy
        east, south = min(west + dx, right), max(north + dy, bottom)
        west, north = max(west, self.left), min(north, self.top)
        if west >= east or south >= north:
            hint = f"It spans {self.left:g} to {right:g} degrees east and {bottom:g} to {self.top:g} degrees north."
            raise NoImagery("the region lies outside the copernicus map.", hint=hint)
        first_row, first_column = (self.top - north) / self.dy, (west - self.left) / self.dx
        last_row, last_column = (self.top - south) / self.dy, (east - self.left) / self.dx
        return (
            (min(self.height - 1, math.floor(first_row)), min(self.height, math.ceil(last_row))),
            (min(self.width - 1, math.floor(first_column)), min(self.width, math.ceil(last_column))),
        )

    def grid(self, cells: Slices) -> Grid:
        """The cells as a grid."""
        (top, bottom), (left, right) = cells
        transform = (self.dx, 0.0, self.left + left * self.dx, 0.0, -self.dy, self.top - top * self.dy)
        return Grid(LONLAT, transform, bottom - top, right - left)


class _Raster(Protocol):
    """What is used of a rasterio dataset, which has no types of its own."""

    count: int
    height: int
    width: int
    subdatasets: Sequence[str]
    transform: Sequence[float]

    def tags(self) -> Mapping[str, str]: ...

    def read(self, indexes: list[int], *, window: object, out_dtype: DTypeLike) -> NDArray[np.float32]: ...


class EmbeddingMap:
    """The open file. Not thread-safe; its owner lets one thread at a time read.

    Raises:
        ProviderError: ``file_unreadable`` or ``unsupported_file``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _opened(path)
        shape = (self._file.height, self._file.width)
        if shape not in _SHAPES or self._file.subdatasets:
            pages = max(1, len(self._file.subdatasets))
            msg = f"{path} holds {pages} image(s) of {self._file.count} bands, {shape[0]} rows and {shape[1]} columns."
            raise _unsupported(msg, hint="The map is one image of 721 rows and 1440 columns.")
        self.place = _place(path, self._file)

    def read(self, wanted: tuple[str, ...], cells: Slices) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Names and values ``[C, H, W]`` of the bands wanted, of all where none are.

        Raises:
            ProviderError: ``unknown_band`` or ``file_unreadable``.
        """
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        known = {f"C{index:03d}": index + 1 for index in range(self._file.count)}
        names = wanted or tuple(known)
        if unknown := [name for name in names if name not in known]:
            hint = f"{self.path.name} has the bands C000 to {list(known)[-1]}."
            msg = f"copernicus has no band {unknown[0]!r}."
            raise ProviderError(msg, code="unknown_band", hint=hint, retryable=False)
        indexes, window = [known[name] for name in names], Window.from_slices(*cells)
        try:
            return names, self._file.read(indexes, window=window, out_dtype=np.float32)
        except RasterioError as error:
            raise _unreadable(self.path) from error


def _opened(path: Path) -> _Raster:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    # The file's own tags count, no other files. A map without tags has a known place, so that warning says nothing;
    # the filter is changed once in a process, when the map is opened.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            raster: _Raster = rasterio.open(path, driver="GTiff", GEOREF_SOURCES="INTERNAL")
        except RasterioError as error:
            raise _unreadable(path) from error
    return raster


def _place(path: Path, file: _Raster) -> Place:
    height, width = file.height, file.width
    a, b, left, d, e, top = file.transform[:6]
    if (a, b, left, d, e, top) == (1, 0, 0, 0, 1, 0):  # what rasterio says where there are no tags
        if (height, width) != _NORTH_UP:
            raise _unsupported(f"{path} does not say where its {height} x {width} cells lie.", hint=_TAGS)
        return Place(_LEFT, _TOP, _STEP, _STEP, height, width)
    if b or d or a <= 0 or e >= 0:
        raise _unsupported(f"{path} is not north-up: its transform is {(a, b, left, d, e, top)}.", hint=_TAGS)
    if file.tags().get("AREA_OR_POINT") == "Point":  # GDAL then moves the corner by half a cell, the reference does not
        left, top = left + a / 2, top + e / 2
    return Place(left, top, a, -e, height, width)


def _unsupported(msg: str, *, hint: str) -> ProviderError:
    return ProviderError(msg, code="unsupported_file", hint=hint, retryable=False)


def _unreadable(path: Path) -> ProviderError:
    msg = f"{path} is not a readable GeoTIFF."
    return ProviderError(msg, code="file_unreadable", hint=f"{DOWNLOAD}, again.", retryable=False)
