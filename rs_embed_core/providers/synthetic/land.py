"""Stage fetch, synthetic imagery: what covers the ground, the same at all times."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.providers.synthetic.climate import Zone, zone_at
from rs_embed_core.providers.synthetic.fields import Axis, Bits, Floats, deviation, mix, smooth


class Cover(IntEnum):
    """Classes of land cover: the rows of ``Land.rows``."""

    WATER = 0
    EVERGREEN = 1
    DECIDUOUS = 2
    CEREAL = 3
    SUMMER_CROP = 4
    LEY = 5
    IDLE = 6
    GRASS = 7
    BARE = 8
    BUILT = 9
    SNOW = 10


VIGOUR = len(Cover)  # rows after those of the classes
NOISE = slice(VIGOUR + 1, VIGOUR + 3)
ROWS = NOISE.stop
SHARE = 256  # a full share, as a whole number
SIGNED = 128  # strong vigour (two deviations), and the largest noise
_HEIGHT, _RIVER, _FOREST, _URBAN, _MOISTURE, _WARP = range(6)
_AMPLITUDES = np.array(  # [field, octave of 100 m .. 90 km]; each row sums to at most 15, see smooth
    [
        [0, 1, 4, 5, 3, 2],
        [0, 0, 0, 3, 12, 0],
        [2, 4, 4, 3, 2, 0],
        [2, 3, 3, 4, 3, 0],
        [3, 3, 3, 3, 3, 0],
        [0, 0, 0, 4, 7, 4],
    ],
    np.float32,
)
_DEVIATIONS = deviation(_AMPLITUDES)
_RAMPED = np.array([_HEIGHT, _RIVER, _URBAN, _FOREST, _MOISTURE, _HEIGHT, _MOISTURE])  # what _ramped returns
_TEXTURE_M = 10.0  # coarser pixels average texture away
_RAMPED_DEVIATIONS = _DEVIATIONS[_RAMPED, None, None]
_RIVER_WIDTH = 0.005  # deviations of the river field: 50 m or so
# rivers borrow bends from the field of the woods
_MEANDER = np.float32(0.008 * _DEVIATIONS[_RIVER] / _DEVIATIONS[_FOREST])

_CELL = 1024  # parcel coordinates are whole numbers, 1024 to a parcel: their sums are exact
_PARCEL_M = np.array([[340.0], [170.0]])  # along and across the strips of parcels, Mercator metres
_CELL_PER_M = _CELL / _PARCEL_M
_HEADINGS = np.array([[0.866, 0.5], [-0.5, 0.866]])  # cosine and sine of their mean directions
# parcels drift by this per deviation of the warp field, which also turns them
_DRIFT_M = np.array([[900.0], [1900.0]])
_DRIFT = (_DRIFT_M * _CELL_PER_M / _DEVIATIONS[_WARP]).astype(np.float32)[:, :, None]
_PARCELS_UP_TO_M = 120.0  # coarser pixels see the mean of many parcels
_HEDGE, _STREET = 85, 70  # widths in 1024ths of a parcel
# cumulative shares of parcels with cereal, summer crops, ley, idle ground; the rest is grass
_SOWN = (0.33, 0.58, 0.75, 0.85)
_SOWN_BITS = np.array([share * 2**32 for share in _SOWN]).astype(np.uint32)[:, None, None]
_SOWN_PARTS = np.diff((0.0, *_SOWN)).astype(np.float32)[:, None, None]
_CROPS = slice(Cover.CEREAL, Cover.IDLE + 1)


@dataclass(frozen=True, eq=False)
class Window:
    """Some rows and columns of a pixel lattice, in one zone.

    Attributes:
        rows, columns: what the noise fields need of them.
        row_numbers, column_numbers: ``[H]`` (southward) and ``[W]`` on the lattice.
        bits: ``[H, W]`` random bits of each pixel.
        scale_m: size of a pixel, (x, y).
    """

    rows: Axis
    columns: Axis
    row_numbers: NDArray[np.int64]
    column_numbers: NDArray[np.int64]
    bits: Bits
    scale_m: tuple[float, float]
    zone: Zone


@dataclass(frozen=True, eq=False)
class Land:
    """The ground of a window.

    Attributes:
        rows: ``[ROWS, H, W]``, whole numbers: shares of the classes in units of 1 / SHARE, which sum to about
            SHARE (parcels differ in brightness); vigour of plants (-SIGNED: poor, SIGNED: strong); and room
            for the noise of a frame, the only rows that change.
        dry: ``[H, W]`` share that is not water.
        height: ``[H, W]`` in deviations.
        bright: ``[H, W]`` texture, about 1.
    """

    rows: Floats
    dry: Floats
    height: Floats
    bright: Floats


def land(window: Window) -> Land:
    """The ground of a window."""
    fields = smooth(window.rows, window.columns, amplitudes=_AMPLITUDES)
    lakes, rivers, built, forest, evergreen, farmed, bare = _ramped(fields, window)
    parcels = _parcels(window, fields[_WARP]) if max(window.scale_m) <= _PARCELS_UP_TO_M else None
    texture = (window.bits.view(np.int32) >> 24).astype(np.float32)

    rows = np.empty((ROWS, *lakes.shape), np.float32)
    rows[Cover.SNOW] = 0
    rows[NOISE] = 0
    shares = rows[:VIGOUR]
    water = np.maximum(lakes, rivers, out=shares[Cover.WATER])
    dry = np.float32(1) - water
    left = dry.copy()
    if parcels is not None and built.any():
        built *= _gardens(parcels, texture)
    _take(left, built, shares[Cover.BUILT])
    _take(left, forest, shares[Cover.DECIDUOUS])
    _take(shares[Cover.DECIDUOUS], evergreen, shares[Cover.EVERGREEN])
    _take(left, farmed, shares[Cover.CEREAL])
    _take(left, bare, shares[Cover.BARE])
    shares[Cover.GRASS] = left
    _sow(parcels, shares)

    shares *= np.float32(SHARE)
    vigour = np.multiply(fields[_MOISTURE], np.float32(SIGNED / 2 / _DEVIATIONS[_MOISTURE]), out=rows[VIGOUR])
    vigour *= dry
    np.rint(rows, out=rows)
    height = fields[_HEIGHT] * np.float32(1.0 / _DEVIATIONS[_HEIGHT])
    forest *= dry
    rough = min(1.0, _TEXTURE_M / max(window.scale_m)) / 256
    forest *= np.float32(0.22 * rough)  # crowns and their shadows: woods are rougher than fields
    forest += np.float32(0.10 * rough)
    texture *= forest
    texture += np.float32(1)
    return Land(rows, dry, height, texture)


def _ramped(fields: Floats, window: Window) -> Floats:
    """Shares 0..1 ``[ramp, H, W]`` of what is left over by those before, in the order of ``_RAMPED``."""
    ramps: Floats = fields[_RAMPED]
    river = ramps[1]
    river += ramps[3] * _MEANDER
    np.abs(river, out=river)  # rivers run where their field crosses zero
    slopes, starts = _slopes(window.zone.latitude, max(window.scale_m))
    ramps *= slopes
    ramps += starts
    np.clip(ramps, 0, 1, out=ramps)
    return ramps


@lru_cache(maxsize=1024)
def _slopes(latitude: float, scale_m: float) -> tuple[Floats, Floats]:
    """Linear ramps ``[ramp, 1, 1]`` of fields, which ``_ramped`` cuts off at 0 and 1."""
    zone, blur = zone_at(latitude), 1e-4 * scale_m  # coarse pixels see softer edges
    bounds = (  # where a field's ramp is 0 and 1, in deviations
        (-1.45, -1.5 - blur),  # lakes fill hollows
        (_RIVER_WIDTH + 0.003 + blur, _RIVER_WIDTH),
        (zone.built, zone.built + 0.35),
        (zone.forest, zone.forest + 0.12 + blur),
        (zone.evergreen, zone.evergreen + 0.4),
        (zone.farmed + 0.1 + blur, zone.farmed),  # lowlands are farmed
        (0.3 - zone.bare, -0.3 - zone.bare),  # dry ground is bare
    )
    slopes = [[[1.0 / (one - zero)]] for zero, one in bounds]
    starts = [[[zero / (zero - one)]] for zero, one in bounds]
    return np.array(slopes, np.float32) / _RAMPED_DEVIATIONS, np.array(starts, np.float32)


def _take(left: Floats, fraction: Floats, share: Floats) -> None:
    """Move a fraction of what is left into a share, in place."""
    np.multiply(left, fraction, out=share)
    np.subtract(left, share, out=left)


@dataclass(frozen=True, eq=False)
class _Parcels:
    """Parcel coordinates ``[H, W]`` of pixels along and across strips, and random bits of the parcels."""

    along: NDArray[np.int32]
    across: NDArray[np.int32]
    bits: Bits


def _parcels(window: Window, warp: Floats) -> _Parcels:
    units = _CELL_PER_M * window.scale_m * _HEADINGS  # per pixel: [along and across, x and y]
    east = ((window.column_numbers + 0.5) * units[:, :1]).astype(np.int32)
    south = ((window.row_numbers + 0.5) * units[:, 1:]).astype(np.int32)
    drift = (warp * _DRIFT).astype(np.int32)
    drift += south[:, :, None]
    drift += east[:, None]
    along, across = drift
    strip = (across >> 10).view(np.uint32) * np.uint32(0x9E3779B1)
    along += (strip >> 18).view(np.int32)  # strips are shifted against each other
    along >>= (strip >> 31).view(np.int32)  # and every other one has parcels of double length
    strip += (along >> 10).view(np.uint32)
    bits = mix(strip)
    edge = np.minimum(across & (_CELL - 1), along & (_CELL - 1))
    edge -= _HEDGE
    edge >>= 31
    bits |= edge.view(np.uint32)  # all ones on a hedge, which makes it grass
    return _Parcels(along, across, bits)


def _sow(parcels: _Parcels | None, shares: Floats) -> None:
    """Divide the farmed share (given in the row of cereals) among crops, parcel by parcel, in place."""
    farmed = shares[Cover.CEREAL].copy()
    if parcels is None:
        np.multiply(farmed, _SOWN_PARTS, out=shares[_CROPS])
        shares[Cover.GRASS] += farmed * np.float32(1.0 - _SOWN[-1])
        return
    upto = (parcels.bits < _SOWN_BITS).astype(np.float32)
    upto *= farmed
    farmed -= upto[-1]
    shares[Cover.GRASS] += farmed
    light = (parcels.bits & np.uint32(0xFF)).astype(np.float32)
    light *= np.float32(0.3 / 255)
    light += np.float32(0.85)
    upto *= light
    shares[Cover.CEREAL] = upto[0]
    np.subtract(upto[1:], upto[:-1], out=shares[Cover.SUMMER_CROP : Cover.IDLE + 1])


def _gardens(parcels: _Parcels, texture: Floats) -> Floats:
    """Built part of each pixel of a town: streets, and houses with more or less green around them."""
    plot = mix(((parcels.along >> 7) * 0x3C6F + (parcels.across >> 8)).view(np.uint32))
    street = np.minimum(parcels.along & 511, parcels.across & 1023) < _STREET
    built = (plot >> 24).astype(np.float32)
    built *= np.float32(0.7 / 255)
    built += np.float32(0.25)
    built += texture * np.float32(0.2 / 256)
    built += street
    return np.clip(built, 0, 1, out=built)
