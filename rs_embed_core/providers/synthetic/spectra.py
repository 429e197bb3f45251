"""Stage fetch, synthetic imagery: what each class of cover looks like to each sensor, by season.

Reflectances are rounded from typical laboratory and field spectra (the ECOSTRESS and USGS spectral
libraries) and clear Sentinel-2 L2A scenes, radar backscatter from the C-band means per class that are usual
in Sentinel-1 studies. They are plausible; none is a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.providers.synthetic.climate import (
    Zone,
    air_temperature,
    between,
    crop_stage,
    zone_at,
)
from rs_embed_core.providers.synthetic.fields import Floats
from rs_embed_core.providers.synthetic.land import ROWS, SHARE, SIGNED, Cover

# Reflectance times 1e4 at these wavelengths (nm). Each class lies between two states, dormant and grown.
_NM = (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1240, 1610, 2190)
_CLEAR_WATER = (330, 310, 300, 170, 130, 90, 85, 75, 65, 60, 40, 30, 22)
_TURBID_WATER = (480, 560, 760, 520, 420, 260, 250, 200, 180, 140, 60, 40, 30)
_CONIFERS = (180, 210, 370, 230, 600, 1600, 1950, 2100, 2200, 2250, 2000, 950, 420)
_BROADLEAF = (190, 220, 450, 250, 800, 2400, 3100, 3300, 3450, 3400, 3200, 1500, 600)
_LEAFLESS = (350, 450, 650, 850, 1100, 1350, 1500, 1650, 1800, 1850, 2100, 2000, 1250)
_LEAFY = (200, 240, 520, 280, 900, 2600, 3500, 3700, 3850, 3800, 3500, 1750, 750)
_STUBBLE = (550, 760, 1130, 1500, 1800, 2050, 2250, 2400, 2550, 2600, 3000, 3100, 2250)
_CROP = (250, 310, 660, 320, 1000, 3000, 4200, 4450, 4600, 4450, 3900, 1750, 850)
_MAIZE = (240, 290, 560, 290, 900, 2700, 3700, 3950, 4100, 4000, 3600, 1650, 700)
_PLOUGHED = (500, 640, 900, 1200, 1400, 1550, 1650, 1800, 1900, 1950, 2400, 2600, 2150)
_MEADOW = (300, 380, 760, 520, 1200, 2350, 2850, 3050, 3200, 3200, 3050, 2100, 1150)
_DRY_GRASS = (450, 580, 880, 950, 1280, 1700, 1900, 2050, 2200, 2250, 2500, 2450, 1750)
_SOIL = (600, 780, 1120, 1520, 1720, 1880, 2020, 2180, 2300, 2380, 2900, 3150, 2650)
_SAND = (1000, 1350, 2050, 2850, 3100, 3250, 3400, 3550, 3650, 3700, 4300, 4700, 4200)
_ROOFS = (980, 1150, 1350, 1520, 1620, 1720, 1820, 1900, 1960, 2000, 2150, 2200, 2000)
_FRESH_SNOW = (7900, 8000, 8050, 8000, 7950, 7800, 7700, 7500, 7300, 6600, 4200, 850, 650)
_REFLECTANCE = {
    Cover.WATER: (_CLEAR_WATER, _TURBID_WATER),
    Cover.EVERGREEN: (_CONIFERS, _BROADLEAF),
    Cover.DECIDUOUS: (_LEAFLESS, _LEAFY),
    Cover.CEREAL: (_STUBBLE, _CROP),
    Cover.SUMMER_CROP: (_PLOUGHED, _MAIZE),
    Cover.LEY: (_DRY_GRASS, _CROP),
    Cover.IDLE: (_PLOUGHED, _MEADOW),
    Cover.GRASS: (_DRY_GRASS, _MEADOW),
    Cover.BARE: (_SOIL, _SAND),
    Cover.BUILT: (_ROOFS, _ROOFS),
    Cover.SNOW: (_FRESH_SNOW, _FRESH_SNOW),
}
# Backscatter (sigma nought, dB): (VV, VH) dormant, (VV, VH) grown.
_BACKSCATTER = {
    Cover.WATER: ((-22.0, -28.0), (-21.0, -27.5)),
    Cover.EVERGREEN: ((-9.5, -15.0), (-8.0, -13.5)),
    Cover.DECIDUOUS: ((-10.0, -16.5), (-9.0, -14.5)),
    Cover.CEREAL: ((-12.0, -20.0), (-11.5, -17.5)),
    Cover.SUMMER_CROP: ((-12.5, -21.0), (-9.5, -15.5)),
    Cover.LEY: ((-12.0, -19.5), (-11.0, -17.5)),
    Cover.IDLE: ((-13.0, -21.5), (-12.0, -19.5)),
    Cover.GRASS: ((-13.0, -20.5), (-12.0, -19.0)),
    Cover.BARE: ((-13.5, -22.0), (-16.5, -25.0)),
    Cover.BUILT: ((-4.5, -13.0), (-4.5, -13.0)),
    Cover.SNOW: ((-13.0, -20.0), (-13.0, -20.0)),
}
# Daytime skin temperature against the air (K), dormant and grown.
_WARMTH = {
    Cover.WATER: (-3.0, -3.0),
    Cover.EVERGREEN: (-0.5, -0.5),
    Cover.DECIDUOUS: (1.0, -1.0),
    Cover.CEREAL: (5.0, 1.0),
    Cover.SUMMER_CROP: (6.0, 1.0),
    Cover.LEY: (3.0, 0.5),
    Cover.IDLE: (6.0, 3.0),
    Cover.GRASS: (4.0, 1.5),
    Cover.BARE: (7.0, 12.0),
    Cover.BUILT: (6.0, 6.0),
    Cover.SNOW: (-3.0, -3.0),
}
POWER_UNITS = 20_000  # of radar per unit of linear power
KELVIN_UNITS = 50
_VIGOUR_PART = 0.13  # of the step from dry grass to meadow that strong vigour makes
_NOISE = 60  # of reflectance times 1e4, in units of SIGNED / SHARE: +-30 at most


@dataclass(frozen=True, eq=False)
class Look:
    """What a sensor's bands see of each class: ``[C, rows]`` dormant, and what growth adds to it."""

    dormant: NDArray[np.float64]
    growth: NDArray[np.float64]

    def signature(self, zone: Zone, day: float) -> Floats:
        """Whole numbers ``[C, rows]``, one per band and row of ``Land.shares`` (and vigour and noise)."""
        return np.rint(self.dormant + self.growth * growth(zone.latitude, day)).astype(np.float32)


@lru_cache(maxsize=256)
def optical_look(wavelengths_nm: tuple[float, ...], transmittance: tuple[float, ...]) -> Look:
    """Reflectance times 1e4, seen through an atmosphere that lets these parts pass."""
    phase = 0.05 * np.array(wavelengths_nm)  # any turn that differs between neighbouring bands
    through = np.array(transmittance)[:, None]

    def at(*spectra: tuple[int, ...]) -> NDArray[np.float64]:
        out = np.stack([np.interp(wavelengths_nm, _NM, spectrum) for spectrum in spectra], axis=1)
        out *= through
        return out

    vigour = _VIGOUR_PART * SHARE / SIGNED * (at(_MEADOW) - at(_DRY_GRASS))
    # two noise patterns in proportions that differ from band to band make noise that bands hardly share
    noise = _NOISE * through * np.stack((np.cos(phase), np.sin(phase)), axis=1)
    dormant = at(*(_REFLECTANCE[cover][0] for cover in Cover))
    grown = at(*(_REFLECTANCE[cover][1] for cover in Cover))
    return Look(
        np.hstack((dormant, np.zeros_like(vigour), noise)),
        np.hstack((grown - dormant, vigour, np.zeros_like(noise))),
    )


@lru_cache(maxsize=16)
def radar_look(polarisations: tuple[int, ...]) -> Look:
    """Linear power in units of 1 / POWER_UNITS; 0 stands for VV, 1 for VH."""
    power = np.array([[_BACKSCATTER[cover][state] for cover in Cover] for state in (0, 1)])  # [state, class, pol]
    units = POWER_UNITS * 10.0 ** (power[..., list(polarisations)].transpose(0, 2, 1) / 10.0)
    return _without_texture(units[0], units[1])


@lru_cache(maxsize=16)
def thermal_look(bands: int) -> Look:
    """Skin temperature against the air in units of 1 / KELVIN_UNITS, the same in every band."""
    warmth = KELVIN_UNITS * np.array([_WARMTH[cover] for cover in Cover]).T
    return _without_texture(*(np.tile(state, (bands, 1)) for state in warmth))


def _without_texture(dormant: NDArray[np.float64], grown: NDArray[np.float64]) -> Look:
    rest = np.zeros((len(dormant), ROWS - len(Cover)))
    return Look(np.hstack((dormant, rest)), np.hstack((grown - dormant, rest)))


@lru_cache(maxsize=4096)
def growth(latitude: float, day: float) -> NDArray[np.float64]:
    """How far each row of ``Land.rows`` is from dormant (0) to grown (1) on a day of the year."""
    zone = zone_at(latitude)
    celsius = air_temperature(zone.latitude, day)
    green = between(1.0, 13.0, celsius)
    moist = green * (1.0 - 0.85 * zone.arid)
    stages = (  # in the order of Cover, then vigour and noise
        0.3,
        zone.tropical,
        between(5.0, 14.0, celsius),
        crop_stage(zone.latitude, day, peak=158.0, half_width=75.0),
        crop_stage(zone.latitude, day, peak=212.0, half_width=75.0),
        0.2 + 0.75 * green,
        0.15 + 0.25 * green,
        0.05 + 0.95 * moist,
        zone.arid,
        0.0,
        0.0,
        green,
        0.0,
        0.0,
    )
    return np.array(stages)
