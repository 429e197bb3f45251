"""Bring your own pixels: ``UserData``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.errors import InvalidInput, InvalidRequest
from rs_embed_core.specs.pixels import Affine, Pixels, read_array
from rs_embed_core.specs.plain import make_plain
from rs_embed_core.specs.sensor import band_names, check_scale
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from rs_embed_core.specs.temporal import TemporalSpec

if TYPE_CHECKING:
    import xarray as xr

_COEFFICIENTS = 6
_SPECS: Mapping[str, tuple[type, ...]] = {
    "spatial": (BBox, PointBuffer, type(None)),
    "temporal": (TemporalSpec, type(None)),
}


@dataclass(frozen=True, eq=False)
class UserData:
    """Raw sensor values of one place, and what they are.

    Attributes:
        data: ``[C, H, W]`` or ``[T, C, H, W]``, row 0 north; NaN and what a masked array masks are missing. An
            ``xarray.DataArray`` may have its dims in any order and may bring its bands (a ``band`` coordinate), CRS
            and transform (rioxarray), nodata value (``_FillValue``) and the day of each frame (a ``time`` coordinate).
        collection: the sensor, in Earth Engine spelling.
        spatial: the place, if there is no ``crs`` and ``transform``.
        bands: names of the C axis; None takes the model's own.
        temporal: the window that the frames divide equally; None takes the days of a ``DataArray``.
        scale_m: pixel size in metres.
        crs, transform: georeference of the pixels; ``transform`` is (a, b, c, d, e, f) as in rasterio,
            whose ``Affine`` is taken too.

    Raises:
        InvalidRequest: a value of the wrong type, or a transform that is not north-up.
    """

    data: NDArray[np.generic] | xr.DataArray
    collection: str
    spatial: Spatial | None = None
    bands: tuple[str, ...] | None = None
    temporal: TemporalSpec | None = None
    scale_m: float | None = None
    crs: str | None = None
    transform: Affine | None = None

    def __post_init__(self) -> None:
        make_plain(self)
        if not isinstance(self.collection, str) or not self.collection:
            msg = f"collection is {self.collection!r}."
            raise InvalidRequest(msg, hint='Say what the pixels are: "COPERNICUS/S2_SR_HARMONIZED".')
        if (self.crs is None) != (self.transform is None):
            msg = "only one of crs and transform is given."
            raise InvalidRequest(msg, hint="Give both or neither.")
        if self.crs is not None and not isinstance(self.crs, str):
            raise InvalidRequest(f"crs is {self.crs!r}.", hint='crs is text: a name such as "EPSG:32632", or WKT.')
        if self.transform is not None:
            object.__setattr__(self, "transform", _checked_transform(self.transform))
        if self.bands is not None:
            object.__setattr__(self, "bands", band_names(self.bands))
        if self.scale_m is not None:
            check_scale(self.scale_m)
        for name, kinds in _SPECS.items():
            if not isinstance(vars(self)[name], kinds):
                known = " or ".join(kind.__name__ for kind in kinds[:-1])
                raise InvalidRequest(f"{name} is {vars(self)[name]!r}.", hint=f"{name} is a {known}.")

    @classmethod
    def from_raster(
        cls,
        path: str | Path,
        collection: str,
        *,
        bands: tuple[str, ...] | None = None,
        temporal: TemporalSpec | None = None,
    ) -> UserData:
        """The pixels of a raster file that GDAL reads, with its CRS, transform and band descriptions.

        What the file says is missing (its nodata value or mask) becomes NaN.

        Raises:
            InvalidInput: GDAL cannot read it.
            InvalidRequest: its transform is not north-up.
        """
        import rasterio  # noqa: PLC0415 - GDAL is slow to load, and only this needs it
        from rasterio.errors import RasterioError  # noqa: PLC0415 - likewise

        try:
            with rasterio.open(path) as file:
                pixels, described, transform = file.read(masked=True), file.descriptions, file.transform
                crs = None if file.crs is None else file.crs.to_string()
        except RasterioError as error:
            raise InvalidInput(
                f"{path} cannot be read: {error}.", hint="Give a raster file that GDAL reads."
            ) from error
        data = pixels.astype(np.float32).filled(np.nan) if np.ma.is_masked(pixels) else pixels.data
        return cls(
            data,
            collection,
            bands=bands or (described if all(described) else None),
            temporal=temporal,
            crs=crs,
            transform=None if crs is None else tuple(transform)[:_COEFFICIENTS],
        )

    def resolved(self) -> Pixels:
        """The values as a NumPy array, with what an ``xarray.DataArray`` knew; what is said here wins.

        Raises:
            InvalidInput: a ``DataArray`` of other dims, of uneven coordinates, or of times that are no dates or not
                in order.
        """
        if isinstance(self.data, np.ndarray) or not hasattr(self.data, "dims"):
            return Pixels(np.asanyarray(self.data), self.bands, self.crs, self.transform)  # a mask stays one
        found = read_array(self.data, dated=self.temporal is None)
        georeference = (found.crs, found.transform) if self.crs is None else (self.crs, self.transform)
        return Pixels(found.values, self.bands or found.bands, *georeference, found.dates)


def _checked_transform(transform: object) -> Affine:
    numbers: tuple[object, ...] = ()
    if isinstance(transform, Iterable) and not isinstance(transform, str | bytes | Mapping | AbstractSet):
        numbers = tuple(transform)
    if numbers[_COEFFICIENTS:] == (0, 0, 1):  # rasterio's own has the row that is the same in all
        numbers = numbers[:_COEFFICIENTS]
    six = [float(n) for n in numbers if isinstance(n, Real)]
    if not len(numbers) == len(six) == _COEFFICIENTS or not all(map(math.isfinite, six)):
        hint = "Give six numbers (a, b, c, d, e, f): x = a*col + b*row + c, y = d*col + e*row + f."
        raise InvalidRequest(f"transform is {transform!r}.", hint=hint)
    a, b, c, d, e, f = six
    if not (a > 0 > e and b == d == 0):
        hint = "Row 0 is north and column 0 is west: a > 0, e < 0, b = d = 0. Flip or warp the pixels."
        raise InvalidRequest(f"transform is {(a, b, c, d, e, f)}.", hint=hint)
    return a, b, c, d, e, f
