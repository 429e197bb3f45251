"""Stage fetch, STAC: what each public catalogue calls Sentinel-2 and its bands, and how its numbers are offset.

Names and rules are those of stac.md, section 4. Only Sentinel-2 L2A can be had with the values of Earth Engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rs_embed_core.errors import ProviderError

S2_L2A = "COPERNICUS/S2_SR_HARMONIZED"
CLASSES = "SCL"  # the scene classification: classes, not reflectances
CLOUD = "eo:cloud_cover"  # of the whole tile, as CLOUDY_PIXEL_PERCENTAGE is
BASELINE = "s2:processing_baseline"

type PresetName = Literal["earth-search", "planetary-computer"]
type OffsetRule = Literal["always", "baseline"]

# Earth Engine: Earth Search, Planetary Computer.
_BANDS: dict[str, tuple[str, str]] = {
    "B1": ("coastal", "B01"),
    "B2": ("blue", "B02"),
    "B3": ("green", "B03"),
    "B4": ("red", "B04"),
    "B5": ("rededge1", "B05"),
    "B6": ("rededge2", "B06"),
    "B7": ("rededge3", "B07"),
    "B8": ("nir", "B08"),
    "B8A": ("nir08", "B8A"),
    "B9": ("nir09", "B09"),
    "B11": ("swir16", "B11"),
    "B12": ("swir22", "B12"),
    CLASSES: ("scl", "SCL"),
}

# earth_engine.md, 1.5.
_ALIASES: dict[str, str] = {
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


@dataclass(frozen=True)
class Preset:
    """One public catalogue.

    Attributes:
        url: of its STAC API.
        collection: its Sentinel-2 L2A.
        assets: asset name of every Earth Engine band.
        offset: which scenes carry 1000 too much: all, or those of processing baseline 04.00 and later.
        token_url: gives a signature for the hrefs of a collection; None where hrefs are open.
    """

    url: str
    collection: str
    assets: Mapping[str, str]
    offset: OffsetRule
    token_url: str | None = None


PRESETS: dict[PresetName, Preset] = {
    "earth-search": Preset(
        url="https://earth-search.aws.element84.com/v1",
        collection="sentinel-2-c1-l2a",
        assets={band: names[0] for band, names in _BANDS.items()},
        offset="always",  # Collection 1 has baseline 05.00 or later and was never altered
    ),
    "planetary-computer": Preset(
        url="https://planetarycomputer.microsoft.com/api/stac/v1",
        collection="sentinel-2-l2a",
        assets={band: names[1] for band, names in _BANDS.items()},
        offset="baseline",
        token_url="https://planetarycomputer.microsoft.com/api/sas/v1/token",  # noqa: S106 - an address
    ),
}
FLAGGED = ("earth-search", "sentinel-2-l2a")
"""Earth Search took the offset off some of these files, and the flag that says which is known to be wrong."""


def offset_of(rule: OffsetRule, baseline: str | None, item: str) -> int:
    """What a scene's numbers are too high by: 1000 or 0.

    Raises:
        ProviderError: the rule needs a processing baseline and the item names none.
    """
    if rule == "always":
        return 1000
    try:
        return 1000 if float(baseline or "") >= 4.0 else 0
    except ValueError as error:
        msg = f"STAC item {item!r} has the {BASELINE} {baseline!r}."
        hint = "Without a baseline such as '04.00' nobody can tell whether its values carry the offset of 1000."
        raise ProviderError(msg, code="bad_item", hint=hint, retryable=False) from error


def checked_collection(collection: str) -> None:
    """Do nothing if STAC has this collection with Earth Engine's values.

    Raises:
        ProviderError: ``unsupported_collection``.
    """
    if collection == S2_L2A:
        return
    hint = f"STAC reads {S2_L2A}; for others use the backend gee."
    if "COPERNICUS/S1" in collection:
        hint += (
            " Sentinel-1 is another product there: public STAC collections hold GRD without terrain correction, or"
            " gamma0 with radiometric flattening, where Earth Engine has terrain-corrected sigma0."
        )
    msg = f"the stac backend has no {collection}."
    raise ProviderError(msg, code="unsupported_collection", hint=hint, retryable=False)


def band_names(bands: Sequence[str]) -> tuple[str, ...]:
    """The bands in Earth Engine's own names (``BLUE`` is ``B2``).

    Raises:
        ProviderError: ``unknown_band``.
    """
    names = tuple(_ALIASES.get(band, band) for band in bands)
    if unknown := sorted({band for band, name in zip(bands, names, strict=True) if name not in _BANDS}):
        msg = f"{S2_L2A} has no bands {unknown} on STAC."
        raise ProviderError(msg, code="unknown_band", hint=f"Bands are {', '.join(_BANDS)}.", retryable=False)
    return names
