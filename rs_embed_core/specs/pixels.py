"""What the caller's own pixels say of themselves: ``Pixels``, read from an array or an ``xarray.DataArray``."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.errors import InvalidInput

if TYPE_CHECKING:
    import xarray as xr

type Affine = tuple[float, float, float, float, float, float]
_BAND_DIMS = ("band", "bands", "channel", "c")
_TIME_DIMS = ("time", "t")
_FLAT_DIMS = (["y", "x"], ["lat", "lon"], ["latitude", "longitude"])
_NODATA = ("_FillValue", "missing_value", "fill_value", "nodata")  # rioxarray's order
_UNEVEN_PX = 0.25  # float32 degrees of 10 m pixels are off by up to 0.17


@dataclass(frozen=True, eq=False)
class Pixels:
    """An array, and what came with it.

    Attributes:
        values: as they were given, except that what a ``DataArray`` calls missing is NaN.
        dates: the day of each frame in time order; empty where there are none.
    """

    values: NDArray[np.generic]
    bands: tuple[str, ...] | None = None
    crs: str | None = None
    transform: Affine | None = None
    dates: tuple[dt.date, ...] = ()


def read_array(array: xr.DataArray, *, dated: bool) -> Pixels:
    """The pixels as ``[C, H, W]`` or ``[T, C, H, W]`` with row 0 north and column 0 west.

    Args:
        array: dims in any order, names in any case.
        dated: whether its times matter.

    Raises:
        InvalidInput: dims that are not band, y, x and perhaps time, unevenly spaced coordinates, or times that are no
            dates or not in order.
    """
    names = {str(dim).lower(): str(dim) for dim in array.dims}
    band = next((names[name] for name in _BAND_DIMS if name in names), None)
    time = next((names[name] for name in _TIME_DIMS if name in names), None)
    flat = [str(dim) for dim in array.dims if dim not in (band, time)]
    if band is None or [dim.lower() for dim in flat] not in _FLAT_DIMS:
        msg = f"the DataArray has the dims {array.dims}."
        raise InvalidInput(msg, hint="Use (band, y, x) or (time, band, y, x), y before x.")
    array = _north_up(array.transpose(*([] if time is None else [time]), band, *flat), *flat)
    named = band in array.coords and array[band].dtype.kind in "UO"
    crs, transform = _reference(array, *flat)
    return Pixels(
        _without_nodata(array),
        tuple(map(str, array[band].values)) if named else None,
        crs,
        transform,
        _dates(array, time) if dated else (),
    )


def _north_up(array: xr.DataArray, y: str, x: str) -> xr.DataArray:
    if array.sizes[y] > 1 and y in array.coords and float(array[y][0]) < float(array[y][-1]):
        array = array.isel({y: slice(None, None, -1)})
    if array.sizes[x] > 1 and x in array.coords and float(array[x][0]) > float(array[x][-1]):
        array = array.isel({x: slice(None, None, -1)})
    return array


def _without_nodata(array: xr.DataArray) -> NDArray[np.generic]:
    """The values; float32 with NaN where one is the array's own word for a missing one."""
    values: NDArray[np.generic] = array.values
    nodata = next((array.attrs[name] for name in _NODATA if array.attrs.get(name) is not None), None)
    if nodata is None or values.dtype.kind not in "fiu":
        return values
    try:
        number = float(np.asarray(nodata).item())  # files have a list of one, or text
    except ValueError as error:
        msg = f"the DataArray calls {nodata!r} missing, which is no number."
        raise InvalidInput(msg, hint="Set its _FillValue to a number, or take it away.") from error
    with np.errstate(over="ignore"):  # -1.8e308, of a file whose values have become float32
        missing = values == number  # a Python number: compared in the precision of the values
    return np.where(missing, np.float32(np.nan), values.astype(np.float32)) if missing.any() else values


def _reference(array: xr.DataArray, y: str, x: str) -> tuple[str | None, Affine | None]:
    """CRS (as rioxarray finds it) and transform of evenly spaced coordinates."""
    if x not in array.coords or y not in array.coords or min(array.sizes[x], array.sizes[y]) < 2:
        return None, None
    import rioxarray  # noqa: F401, PLC0415 - registers the accessor

    crs = array.rio.crs
    if crs is None:
        return None, None
    west, dx = _spacing(array, x)
    north, dy = _spacing(array, y)
    return crs.to_string(), (dx, 0.0, west, 0.0, dy, north)


def _spacing(array: xr.DataArray, dim: str) -> tuple[float, float]:
    """Outer edge of the first pixel, and the step from one to the next."""
    centres = array[dim].values.astype(np.float64)
    step = (centres[-1] - centres[0]) / (len(centres) - 1)  # all of them: two neighbours in float32 say little
    expected = centres[0] + step * np.arange(len(centres))
    if not np.abs(centres - expected).max() < _UNEVEN_PX * abs(step):  # NaN is not below it either
        msg = f"the coordinates {dim} of the DataArray are not evenly spaced."
        raise InvalidInput(msg, hint="Give pixels of one size: resample it, or round less (float64 coordinates).")
    return float(centres[0] - step / 2), float(step)


def _dates(array: xr.DataArray, time: str | None) -> tuple[dt.date, ...]:
    """The day of each frame; none where there are no times. A single image may have one beside its axes."""
    beside = (str(name) for name in array.coords if str(name).lower() in _TIME_DIMS)
    name = time if time in array.coords else next(beside, None)
    if name is None or array[name].dims not in ((), (time,)):
        return ()
    times = np.atleast_1d(array[name].values)
    if array[name].ndim == 0 and times.dtype.kind != "M":  # beside the axes "t" may be anything
        return ()
    texts = [str(time)[:10] for time in (times.astype("datetime64[D]") if times.dtype.kind == "M" else times).tolist()]
    try:
        days = tuple(map(dt.date.fromisoformat, texts))
    except ValueError as error:
        msg = f"the times of the DataArray are {', '.join(texts[:4])}: no dates."
        raise InvalidInput(msg, hint="Give datetime64 times; or say temporal, which wins over them.") from error
    if list(days) != sorted(days):
        msg = f"the times of the DataArray are not in order: {', '.join(texts[:4])}."
        raise InvalidInput(msg, hint=f'Sort it: array.sortby("{name}").')
    return days * (array.sizes[time] if time is not None and array[name].ndim == 0 else 1)
