"""Stage fetch, synthetic imagery: the collections it knows, their bands, units and years."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rs_embed_core.chip import Period
from rs_embed_core.errors import ProviderError

_LAST_YEAR = 2100


@dataclass(frozen=True, eq=False)
class Sensor:
    """One collection.

    Attributes:
        bands: what each band sees: a wavelength in nm, or for radar 0 for VV and 1 for VH.
        first, last: days of the first and last acquisition.
        revisit_days: between two overpasses.
        hour: local solar time of the overpass.
        form: of an acquisition's id, from ``clock``, ``tile``, ``path`` and ``row``; ``*`` is its date.
        date_separator: between year, month and day there.
        gain, offset, step: a value is ``round((reflectance * 1e4 * gain + offset) / step) * step * unit``.
        unit: see ``step``; 1 unless the collection holds fractions.
        halves: medians of an even number of scenes end in .5.
        path, through: reflectance times 1e4 that the air adds to each band, and the part that it lets pass.
        decibels: radar is in dB rather than linear power.
        aliases: other names of bands.
    """

    kind: Literal["reflectance", "radar", "temperature"]
    bands: Mapping[str, float]
    first: dt.date
    revisit_days: int
    hour: float
    form: str
    date_separator: str = ""
    last: dt.date | None = None
    gain: float = 1.0
    offset: float = 0.0
    unit: float = 1.0
    halves: bool = False
    path: Mapping[str, float] = field(default_factory=dict)
    through: Mapping[str, float] = field(default_factory=dict)
    decibels: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)

    def saw(self, period: Period) -> bool:
        """Whether the sensor was in orbit during the period; it flies on until 2100 unless it ended."""
        last = self.last or dt.date(_LAST_YEAR, 12, 31)
        return period.days > 0 and period.end > self.first and period.start <= last


# Centre wavelengths in nm: Sentinel-2A spectral responses (ESA), Landsat OLI and ETM+ (USGS), MODIS (NASA).
_MSI = {
    "B1": 443.0,
    "B2": 492.0,
    "B3": 560.0,
    "B4": 665.0,
    "B5": 704.0,
    "B6": 740.0,
    "B7": 783.0,
    "B8": 833.0,
    "B8A": 865.0,
    "B9": 945.0,
    "B11": 1614.0,
    "B12": 2202.0,
}
_OLI = (443.0, 482.0, 561.0, 655.0, 865.0, 1609.0, 2201.0)
_TM = {"SR_B1": 485.0, "SR_B2": 560.0, "SR_B3": 660.0, "SR_B4": 835.0, "SR_B5": 1650.0, "SR_B7": 2215.0}
_MODIS = (645.0, 858.0, 469.0, 555.0, 1240.0, 1640.0, 2130.0)
_SR_OLI = {f"SR_B{i + 1}": nm for i, nm in enumerate(_OLI)}

# A clear mid-latitude atmosphere from space: Rayleigh and thin aerosol; water vapour dims B9 and hides B10.
_AIR = (1050.0, 720.0, 390.0, 200.0, 160.0, 130.0, 100.0, 85.0, 75.0, 40.0, 12.0, 10.0, 5.0)
_CLEARNESS = (0.82, 0.86, 0.90, 0.94, 0.94, 0.93, 0.95, 0.94, 0.96, 0.45, 0.004, 0.95, 0.92)
_L1C = _MSI | {"B10": 1374.0}
_L1C_ORDER = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")

# Band aliases: the table in section 1.5 of the Earth Engine facts.
_S2_NAMES = {
    "BLUE": "B2",
    "GREEN": "B3",
    "RED": "B4",
    "NIR": "B8",
    "NIR_BROAD": "B8",
    "NIR_WIDE": "B8",
    "NIR_NARROW": "B8A",
    "NIRN": "B8A",
    "NIR_N": "B8A",
    "RE1": "B5",
    "RE2": "B6",
    "RE3": "B7",
    "RE4": "B8A",
    "RED_EDGE_1": "B5",
    "RED_EDGE_2": "B6",
    "RED_EDGE_3": "B7",
    "RED_EDGE_4": "B8A",
    "SWIR1": "B11",
    "SWIR2": "B12",
    "SWIR_1": "B11",
    "SWIR_2": "B12",
}
_COLOURS = ("BLUE", "GREEN", "RED", "NIR", "SWIR1", "SWIR2")
_OLI_NAMES = dict(zip(_COLOURS, ("SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7"), strict=True))
_TM_NAMES = dict(zip(_COLOURS, ("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"), strict=True))


def _sentinel2(*, surface: bool) -> Sensor:
    # Always the harmonized radiometry: the +1000 of processing baseline 04.00 is in no collection here.
    return Sensor(
        "reflectance",
        _MSI if surface else {band: _L1C[band] for band in _L1C_ORDER},
        first=dt.date(2015, 6, 23),  # launch of Sentinel-2A
        revisit_days=5,
        hour=10.5,
        form="*T{clock}_*T{clock}_T{tile}",
        halves=True,
        path={} if surface else dict(zip(_L1C_ORDER, _AIR, strict=True)),
        through={} if surface else dict(zip(_L1C_ORDER, _CLEARNESS, strict=True)),
        aliases=_S2_NAMES,
    )


def _sentinel1(*, decibels: bool) -> Sensor:
    return Sensor(
        "radar",
        {"VV": 0.0, "VH": 1.0},
        first=dt.date(2014, 10, 3),  # first scenes of Sentinel-1A
        revisit_days=12,
        hour=18.0,  # of an ascending pass; descending ones come 12 hours earlier
        form="S1A_IW_GRDH_1SDV_*T{clock}_SYNT",
        decibels=decibels,
    )


def _landsat(spacecraft: str, first: dt.date, last: dt.date | None = None) -> Sensor:
    oli = spacecraft.startswith("LC")
    return Sensor(
        "reflectance",
        _SR_OLI if oli else _TM,
        first=first,
        last=last,
        revisit_days=16,
        hour=10.0,
        form=spacecraft + "_{path:03d}{row:03d}_*",
        gain=1e-4 / 2.75e-5,  # Collection 2 Level 2: reflectance = DN * 2.75e-5 - 0.2 (USGS)
        offset=0.2 / 2.75e-5,
        aliases=_OLI_NAMES if oli else _TM_NAMES,
    )


def _harmonized(bands: Mapping[str, float], first: dt.date, revisit_days: int) -> Sensor:
    form = "T{tile}_*T{clock}"
    return Sensor("reflectance", bands, first, revisit_days, 10.25, form, unit=1e-4)


_MODIS_FIRST = dt.date(2000, 2, 24)
SENSORS: Mapping[str, Sensor] = {
    "COPERNICUS/S2_SR_HARMONIZED": _sentinel2(surface=True),
    "COPERNICUS/S2_SR": _sentinel2(surface=True),
    "COPERNICUS/S2_HARMONIZED": _sentinel2(surface=False),
    "COPERNICUS/S2": _sentinel2(surface=False),
    "COPERNICUS/S1_GRD_FLOAT": _sentinel1(decibels=False),
    "COPERNICUS/S1_GRD": _sentinel1(decibels=True),
    "LANDSAT/LC09/C02/T1_L2": _landsat("LC09", dt.date(2021, 10, 31)),
    "LANDSAT/LC08/C02/T1_L2": _landsat("LC08", dt.date(2013, 4, 11)),
    "LANDSAT/LE07/C02/T1_L2": _landsat("LE07", dt.date(1999, 5, 28), dt.date(2024, 1, 18)),
    "LANDSAT/LT05/C02/T1_L2": _landsat("LT05", dt.date(1984, 3, 16), dt.date(2012, 5, 5)),
    "NASA/HLS/HLSL30/v002": _harmonized(
        {f"B{i + 1}": nm for i, nm in enumerate(_OLI)}, first=dt.date(2013, 4, 11), revisit_days=8
    ),
    "NASA/HLS/HLSS30/v002": _harmonized(_MSI, first=dt.date(2015, 11, 28), revisit_days=5),
    "MODIS/061/MOD09GA": Sensor(
        "reflectance",
        {f"sur_refl_b0{i + 1}": nm for i, nm in enumerate(_MODIS)},
        first=_MODIS_FIRST,
        revisit_days=1,
        hour=10.5,
        form="*",
        date_separator="_",
    ),
    "MODIS/061/MOD21A1D": Sensor("temperature", {"LST_1KM": 11_000.0}, _MODIS_FIRST, 1, 10.5, "*", date_separator="_"),
}


def sensor_of(collection: str) -> Sensor:
    """The sensor behind a collection.

    Raises:
        ProviderError: ``unknown_collection``.
    """
    if sensor := SENSORS.get(collection):
        return sensor
    msg = f"synthetic imagery has no collection {collection!r}."
    known = ", ".join(SENSORS)
    raise ProviderError(
        msg,
        code="unknown_collection",
        hint=f"It has {known}.",
        retryable=False,
        context={"collection": collection, "known": list(SENSORS)},
    )


def bands_of(collection: str, bands: tuple[str, ...]) -> tuple[str, ...]:
    """The bands in the collection's own spelling.

    Raises:
        ProviderError: ``unknown_band``, or ``unknown_collection``.
    """
    sensor = sensor_of(collection)
    names = tuple(sensor.aliases.get(band, band) for band in bands)
    if strange := [band for band, name in zip(bands, names, strict=True) if name not in sensor.bands]:
        msg = f"{collection} has no band {', '.join(map(repr, strange))}."
        raise ProviderError(
            msg,
            code="unknown_band",
            hint=f"It has {', '.join(sensor.bands)}.",
            retryable=False,
            context={"bands": list(strange), "known": list(sensor.bands)},
        )
    return names
