"""Stage fetch, synthetic imagery: the ground of a window as a sensor sees it in one frame."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.providers.synthetic.climate import air_temperature, between, day_of
from rs_embed_core.providers.synthetic.fields import Bits, Floats, stir
from rs_embed_core.providers.synthetic.land import NOISE, ROWS, SHARE, Cover, Land, Window
from rs_embed_core.providers.synthetic.passes import passes
from rs_embed_core.providers.synthetic.sensors import Sensor, bands_of, sensor_of
from rs_embed_core.providers.synthetic.spectra import (
    KELVIN_UNITS,
    POWER_UNITS,
    Look,
    optical_look,
    radar_look,
    thermal_look,
)

_FREEZING_K = 273.15
_LOOKS = 4.4  # equivalent number of looks of a Sentinel-1 IW GRD scene at high resolution (ESA)
# Snow begins there, covers all when that much colder; a deviation of height counts as so much colder.
_SNOW_AT_C, _SNOW_RANGE_C, _SNOW_LIFT_C = -1.0, 9.0, 1.8
_CANOPY, _TWIGS = np.float32(0.65 / SHARE), np.float32(0.35 / SHARE)  # parts of the snow that woods hide
_FLICKER = 0.05  # brightness of a pixel from frame to frame, peak to peak
_GRAINS = np.array([8, 16], np.uint32)[:, None, None]  # bring the second and third byte to the top
_HIGHEST = 4.0  # deviations of the height field


@dataclass(frozen=True, eq=False)
class Frame:
    """What is the same for every pixel of one frame.

    Attributes:
        day: of the year.
        factor: odd, turns a pixel's bits into those of this frame.
        haze: brightness of the frame, about 1.
        scenes: how many went into the composite.
    """

    day: float
    factor: int
    haze: float
    scenes: int


@dataclass(frozen=True, eq=False)
class View:
    """A collection's bands: what they see, and how they write it down.

    Attributes:
        polarisations: of the bands (radar only).
        gain, offset: from units of ``look`` to whole numbers of ``step``; offset is ``[C, 1]``, None for 0.
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
    return Frame(day_of(period.middle), seed & 0xFFFFFFFF | 1, haze, passes(sensor_of(collection), period))


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


def render(ground: Land, window: Window, *, view: View, frame: Frame, out: NDArray[np.float32]) -> None:
    """Write one frame of a window into ``out [C, H, W]``."""
    bits = stir(window.bits, frame.factor)
    rows, free = _snowed(ground, window, frame)
    optical = view.sensor.kind == "reflectance"
    if optical:
        grains = ((bits << _GRAINS).view(np.int32) >> 24).astype(np.float32)  # [2, H, W], signed bytes
        np.rint(np.multiply(grains, free, out=rows[NOISE]), out=rows[NOISE])
    # whole numbers with sums below 2**24 (256 shares of at most 20 000 units): exact, see fields.py
    signature = view.look.signature(window.zone, frame.day)
    values = out.reshape(len(out), -1) if out.flags.c_contiguous else np.empty((len(out), bits.size), np.float32)
    np.matmul(signature, rows.reshape(ROWS, -1), out=values)
    if optical:
        values *= _light(ground, frame, bits, view.gain).reshape(-1)
        _write_numbers(values, view, view.offset)
    elif view.sensor.kind == "temperature":
        values *= np.float32(view.gain)
        air = air_temperature(window.zone.latitude, frame.day)
        _write_numbers(values, view, np.float32(KELVIN_UNITS * (_FREEZING_K + air)))
    else:
        values *= np.float32(view.gain)
        _speckle(values, bits, view.polarisations, frame.scenes)
        if view.sensor.decibels:
            values[...] = _decibels(values)
    if not out.flags.c_contiguous:
        out[...] = values.reshape(out.shape)


def _write_numbers(values: Floats, view: View, offset: Floats | np.float32 | None) -> None:
    """Turn values into the collection's numbers, in place."""
    if offset is not None:
        values += offset
    np.rint(values, out=values)
    if view.step != 1.0:
        values *= np.float32(view.step)


def _light(ground: Land, frame: Frame, bits: Bits, gain: float) -> Floats:
    """Brightness ``[H, W]``: texture of the ground, haze and noise of the frame, times the gain."""
    light = (bits >> 24).astype(np.float32)
    light *= np.float32(gain * _FLICKER / 255)
    light += np.float32(gain * (frame.haze - _FLICKER / 2))
    light *= ground.bright
    return light


def _snowed(ground: Land, window: Window, frame: Frame) -> tuple[Floats, Floats]:
    """The rows with snow on the ground (the ground's own if none lies), and the share of snow-free land."""
    celsius = air_temperature(window.zone.latitude, frame.day)
    depth = (_SNOW_AT_C - celsius) / _SNOW_RANGE_C
    if depth + _HIGHEST * _SNOW_LIFT_C / _SNOW_RANGE_C <= 0.0:
        return ground.rows, ground.dry
    snow = ground.height * np.float32(_SNOW_LIFT_C / _SNOW_RANGE_C)
    snow += np.float32(depth)
    np.clip(snow, 0, 1, out=snow)
    snow *= 1 - _CANOPY * ground.rows[Cover.EVERGREEN] - _TWIGS * ground.rows[Cover.DECIDUOUS]
    frozen = np.float32(between(5.0, 12.0, -celsius))
    snow *= ground.dry + frozen * (1 - ground.dry)
    free = np.float32(1) - snow
    rows = ground.rows * free
    np.multiply(snow, np.float32(SHARE), out=rows[Cover.SNOW])
    return np.rint(rows, out=rows), ground.dry * free


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
