"""Stage fetch, synthetic imagery: the ground of a window as a sensor sees it in one frame."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.providers._synthetic_climate import air_temperature, between, day_of
from rs_embed_core.providers._synthetic_fields import Bits, Floats, mix
from rs_embed_core.providers._synthetic_land import Cover, Land, Window
from rs_embed_core.providers._synthetic_passes import passes
from rs_embed_core.providers._synthetic_sensors import Sensor, bands_of, sensor_of
from rs_embed_core.providers._synthetic_spectra import (
    COLUMNS,
    KELVIN_UNITS,
    PATTERN_A,
    POWER_UNITS,
    SHARE,
    SIGNED,
    VIGOUR,
    Look,
    optical_look,
    radar_look,
    thermal_look,
)

_FREEZING_K = 273.15
_LOOKS = 4.4  # equivalent number of looks of a Sentinel-1 IW GRD scene at high resolution (ESA)
_SNOW_AT_C, _SNOW_RANGE_C, _SNOW_LIFT_C = 0.0, 9.0, 2.5  # none there, full that much colder; colder with height
_CANOPY, _TWIGS = np.float32(0.65), np.float32(0.35)  # parts of the snow that woods hide
_FLICKER = 0.05  # brightness of a pixel from frame to frame, peak to peak
_GRAINS = np.array([8, 16], np.uint32)[:, None, None]
_HIGHEST = 4.0  # deviations of the height field


@dataclass(frozen=True, eq=False)
class Frame:
    """What is the same for every pixel of one frame.

    Attributes:
        day: of the year.
        seed: makes a pixel's bits into those of this frame.
        haze: brightness of the frame, about 1.
        scenes: how many went into the composite.
    """

    day: float
    seed: int
    haze: float
    scenes: int


@dataclass(frozen=True, eq=False)
class View:
    """A collection's bands: what they see, and how they write it down.

    Attributes:
        polarisations: of the bands (radar only).
        gain, offset: from units of ``Look`` to whole numbers of ``step``; the offset is ``[C, 1]``, None for 0.
    """

    sensor: Sensor
    look: Look
    gain: float
    polarisations: tuple[int, ...] = ()
    offset: Floats | None = None
    step: float = 1.0


@lru_cache(maxsize=1024)
def frame_of(collection: str, period: Period) -> Frame:
    """The frame of a period."""
    text = f"{period.start.isoformat()}/{period.end.isoformat()}"
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    haze = 0.98 + 0.04 * (seed >> 32) / 2**32
    return Frame(day_of(period.middle), seed & 0xFFFFFFFF, haze, passes(sensor_of(collection), period))


def view_of(plan: FetchPlan) -> View:
    """How the plan's bands look."""
    return _view(plan.collection, plan.bands, plan.composite == "median")


@lru_cache(maxsize=256)
def _view(collection: str, bands: tuple[str, ...], median: bool) -> View:  # noqa: FBT001 - a cache key
    sensor = sensor_of(collection)
    names = bands_of(collection, bands)
    if sensor.kind == "radar":
        polarisations = tuple(int(sensor.bands[name]) for name in names)
        return View(sensor, radar_look(polarisations), 1 / (SHARE * POWER_UNITS), polarisations)
    if sensor.kind == "temperature":
        return View(sensor, thermal_look(len(names)), 1 / SHARE)
    through = tuple(sensor.through.get(name, 1.0) for name in names)
    look = optical_look(tuple(sensor.bands[name] for name in names), through)
    step = 0.5 if median and sensor.halves else 1.0
    path = np.array([[sensor.path.get(name, 0.0)] for name in names])
    offset = ((path * sensor.gain + sensor.offset) / step).astype(np.float32)
    gain = sensor.gain / SHARE / step
    return View(sensor, look, gain, offset=offset if offset.any() else None, step=step * sensor.unit)


def render(ground: Land, window: Window, view: View, frame: Frame, out: NDArray[np.float32]) -> None:
    """Write one frame of a window into ``out [C, H, W]``."""
    bits = mix(window.bits ^ np.uint32(frame.seed))
    rows = _rows(ground, window, view, frame, bits).reshape(COLUMNS, -1)
    # whole numbers with sums below 2**24: exact in float32, so the window cannot be seen (_synthetic_fields)
    values = view.look.signature(window.zone, frame.day) @ rows
    values *= np.float32(view.gain)
    if view.sensor.kind == "radar":
        _speckle(values, bits, view.polarisations, frame.scenes)
        out[...] = (_decibels(values) if view.sensor.decibels else values).reshape(out.shape)
        return
    if view.sensor.kind == "temperature":
        values += np.float32(KELVIN_UNITS * (_FREEZING_K + air_temperature(window.zone.latitude, frame.day)))
    elif view.offset is not None:
        values += view.offset
    np.rint(values, out=values)
    np.multiply(values.reshape(out.shape), np.float32(view.step), out=out)


def _rows(ground: Land, window: Window, view: View, frame: Frame, bits: Bits) -> Floats:
    """Whole numbers ``[columns, H, W]``: shares of the classes, vigour and noise."""
    rows = np.empty((COLUMNS, *bits.shape), np.float32)
    shares, bare_of_snow = _snowed(ground, window, frame)
    if view.sensor.kind != "reflectance":
        np.multiply(shares, np.float32(SHARE), out=rows[: len(Cover)])
        rows[len(Cover) :] = 0
        return np.rint(rows, out=rows)
    light = (bits >> 24).astype(np.float32)
    light *= np.float32(SHARE * _FLICKER / 255)
    light += np.float32(SHARE * (frame.haze - _FLICKER / 2))
    light *= ground.bright
    np.multiply(shares, light, out=rows[: len(Cover)])
    plants = bare_of_snow * np.float32(SIGNED)
    np.multiply(ground.vigour, plants, out=rows[VIGOUR])
    plants *= np.float32(1 / 128)
    grains = ((bits << _GRAINS).view(np.int32) >> 24).astype(np.float32)  # [2, H, W], signed bytes
    np.multiply(grains, plants, out=rows[PATTERN_A:])
    return np.rint(rows, out=rows)


def _snowed(ground: Land, window: Window, frame: Frame) -> tuple[Floats, Floats]:
    """The shares with snow on the ground, and the share of land that stays free of it."""
    celsius = air_temperature(window.zone.latitude, frame.day)
    depth = (_SNOW_AT_C - celsius) / _SNOW_RANGE_C
    if depth + _HIGHEST * _SNOW_LIFT_C / _SNOW_RANGE_C <= 0.0:
        return ground.shares, ground.dry
    snow = ground.height * np.float32(_SNOW_LIFT_C / _SNOW_RANGE_C)
    snow += np.float32(depth)
    np.clip(snow, 0, 1, out=snow)
    snow *= 1 - _CANOPY * ground.shares[Cover.EVERGREEN] - _TWIGS * ground.shares[Cover.DECIDUOUS]
    frozen = np.float32(between(5.0, 12.0, -celsius))
    snow *= ground.dry + frozen * ground.shares[Cover.WATER]
    free = np.float32(1) - snow
    shares = ground.shares * free
    shares[Cover.SNOW] = snow
    return shares, ground.dry * free


def _speckle(power: Floats, bits: Bits, polarisations: tuple[int, ...], scenes: int) -> None:
    """Multiply ``power [C, pixels]`` by speckle of mean 1, weaker in composites of many scenes, in place."""
    deviation = 1.0 / math.sqrt(_LOOKS * scenes)
    for band, polarisation in enumerate(polarisations):
        halves = (bits >> (16 * polarisation)).reshape(-1)
        amplitude = ((halves & 0xFF) + ((halves >> 8) & 0xFF)).astype(np.float32)
        # the sum of two bytes is triangular with the deviation 104.5; its square is never negative
        amplitude -= np.float32(255)
        amplitude *= np.float32(deviation / 2 / 104.5)
        amplitude += np.float32(1)
        amplitude *= amplitude
        amplitude *= np.float32(1 / (1 + deviation**2 / 4))
        power[band] *= amplitude


def _decibels(power: Floats) -> Floats:
    """``10 log10(power)`` to 1e-4, from exactly reproducible operations (libraries' logarithms differ)."""
    pattern = power.view(np.int32)
    exponent = (pattern >> 23) - 127
    mantissa = ((pattern & 0x7FFFFF) | 0x3F800000).view(np.float32)
    t = (mantissa - np.float32(1)) / (mantissa + np.float32(1))
    square = t * t
    series = square * np.float32(1 / 7)
    for divisor in (5.0, 3.0, 1.0):  # ln(m) = 2 (t + t**3 / 3 + t**5 / 5 + ...)
        series += np.float32(1 / divisor)
        series *= square if divisor > 1.0 else t
    series *= np.float32(20.0 / math.log(10.0))
    series += exponent.astype(np.float32) * np.float32(10.0 * math.log10(2.0))
    return series
