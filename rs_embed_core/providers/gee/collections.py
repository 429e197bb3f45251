"""Stage fetch, Earth Engine: what is known of collections: cloud property, band aliases, Sentinel-1 rules, units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rs_embed_core.chip import FetchPlan

SENTINEL_1 = "COPERNICUS/S1_GRD"
_LINEAR, _DECIBELS = "COPERNICUS/S1_GRD_FLOAT", "COPERNICUS/S1_GRD"


@dataclass(frozen=True)
class Condition:
    """A test that a scene must pass.

    Attributes:
        test: ``lte`` at most, ``eq`` equal, ``contains`` a list that holds the value.
        name: the scene's property.
    """

    test: Literal["lte", "eq", "contains"]
    name: str
    value: str | int

    def __str__(self) -> str:
        return f"{self.name} {_SIGNS[self.test]} {self.value}"


_SIGNS = {"lte": "<=", "eq": "=", "contains": "has"}
IW_ONLY = Condition("eq", "instrumentMode", "IW")
_BOTH_POLARISATIONS = tuple(Condition("contains", "transmitterReceiverPolarisation", band) for band in ("VV", "VH"))


@dataclass(frozen=True, eq=False)
class Family:
    """Collections that share their rules.

    Attributes:
        part: text in the ids of its collections.
        units: what the numbers mean; they come as stored.
        cloud: the property that holds a scene's cloud percentage; None where there is none to filter by.
        aliases: common names of bands.
    """

    part: str
    units: str
    cloud: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)


# The tables of earth_engine.md, sections 1.4 and 1.5.
_S2_NAMES = {
    "BLUE": "B2",
    "GREEN": "B3",
    "RED": "B4",
    **dict.fromkeys(("NIR", "NIR_BROAD", "NIR_WIDE"), "B8"),
    **dict.fromkeys(("NIR_NARROW", "NIRN", "NIR_N", "RE4", "RED_EDGE_4"), "B8A"),
    **dict.fromkeys(("RE1", "RED_EDGE_1"), "B5"),
    **dict.fromkeys(("RE2", "RED_EDGE_2"), "B6"),
    **dict.fromkeys(("RE3", "RED_EDGE_3"), "B7"),
    **dict.fromkeys(("SWIR1", "SWIR_1"), "B11"),
    **dict.fromkeys(("SWIR2", "SWIR_2"), "B12"),
}


def _landsat_names(*numbers: int) -> Mapping[str, str]:
    blue, green, red, nir, swir1, swir2 = (f"SR_B{number}" for number in numbers)
    shortwave = {"SWIR1": swir1, "SWIR_1": swir1, "SWIR2": swir2, "SWIR_2": swir2}
    return {"BLUE": blue, "GREEN": green, "RED": red, "NIR": nir, **shortwave}


_OLI, _TM = _landsat_names(2, 3, 4, 5, 6, 7), _landsat_names(1, 2, 3, 4, 5, 7)
_LANDSAT_UNITS = "Collection 2 numbers: reflectance = value * 2.75e-5 - 0.2"

# The first whose text is in the id holds.
_FAMILIES = (
    Family("COPERNICUS/S2", "reflectance * 10000", "CLOUDY_PIXEL_PERCENTAGE", _S2_NAMES),
    *(Family(f"LANDSAT/{craft}/", _LANDSAT_UNITS, "CLOUD_COVER", _OLI) for craft in ("LC08", "LC09")),
    *(Family(f"LANDSAT/{craft}/", _LANDSAT_UNITS, "CLOUD_COVER", _TM) for craft in ("LT04", "LT05", "LE07")),
    Family("LANDSAT/", "as stored", "CLOUD_COVER"),
    Family(_LINEAR, "backscatter, linear power"),
    Family(_DECIBELS, "backscatter, dB"),
    Family("NASA/HLS/", "reflectance"),
    Family("MODIS/061/MOD09GA", "reflectance * 10000"),
    Family("MODIS/061/MOD21A1D", "kelvin / 0.02"),
    Family("GOOGLE/SATELLITE_EMBEDDING/", "unit vector"),
)
_UNKNOWN = Family("", "as stored")


def family_of(collection: str) -> Family:
    """The rules of a collection; one that is not known has no cloud property and no aliases."""
    return next((family for family in _FAMILIES if family.part in collection), _UNKNOWN)


def is_sentinel_1(plan: FetchPlan) -> bool:
    """Whether the plan reads radar, which has rules of its own."""
    return plan.collection.startswith(SENTINEL_1)


def collection_of(plan: FetchPlan) -> str:
    """The collection that is really read: ``plan.linear`` decides between the two of Sentinel-1."""
    if is_sentinel_1(plan):
        return _LINEAR if plan.linear else _DECIBELS
    return plan.collection


def bands_of(plan: FetchPlan) -> tuple[str, ...]:
    """The plan's bands in the collection's own spelling; names that are no alias stay as they are."""
    aliases = family_of(plan.collection).aliases
    return tuple(aliases.get(band, band) for band in plan.bands)


def conditions_of(plan: FetchPlan) -> tuple[Condition, ...]:
    """What a scene must fulfil beside place and time."""
    if is_sentinel_1(plan):
        orbit = (Condition("eq", "orbitProperties_pass", plan.orbit),) if plan.orbit else ()
        return (*orbit, *((IW_ONLY,) if plan.require_iw else ()), *_BOTH_POLARISATIONS)
    cloud = family_of(plan.collection).cloud
    if cloud is None or plan.cloudy_pct is None:
        return ()
    return (Condition("lte", cloud, plan.cloudy_pct),)
