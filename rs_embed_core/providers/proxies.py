"""Stage fetch: stand-ins for collections that neither Earth Engine nor the synthetic provider has.

``MODIS/061/MOD021KM`` (MODIS radiances) is built from surface reflectance and land surface temperature, as the
reference does for satvision. Values are already scaled to 0..1. Good for wiring, not for science: band 26 (cirrus)
is green, and all thermal bands are one temperature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import ProviderError

_MODIS_L1B = "MODIS/061/MOD021KM"
_REFLECTANCE, _HEAT, _HEAT_BAND = "MODIS/061/MOD09GA", "MODIS/061/MOD21A1D", "LST_1KM"
_STORED_ABOVE, _KELVIN = 1000.0, 0.02  # kelvin do not exceed 1000; what does is stored in steps of 0.02 K


@dataclass(frozen=True)
class _Heat:
    """A thermal channel: kelvin of 0 and of 1."""

    low: float
    high: float


# golden/satvision/spec.md, "Provider input": channel names are MODIS band numbers.
_CHANNELS: Mapping[str, str | _Heat] = {
    "1": "sur_refl_b01",
    "2": "sur_refl_b02",
    "3": "sur_refl_b03",
    "26": "sur_refl_b04",
    "6": "sur_refl_b06",
    "20": _Heat(223.1222, 352.7182),
    "7": "sur_refl_b07",
    "27": _Heat(178.9174, 261.2920),
    "28": _Heat(204.3739, 282.5529),
    "29": _Heat(204.7677, 319.0373),
    "31": _Heat(194.8686, 295.0209),
    "32": _Heat(202.1759, 324.0677),
    "33": _Heat(201.3823, 321.5254),
    "34": _Heat(203.3537, 285.9848),
}


def parts_of(plan: FetchPlan) -> tuple[FetchPlan, ...]:
    """The reads behind a proxy; none for a collection that the service has itself.

    Raises:
        ProviderError: ``unknown_band``.
    """
    if plan.collection != _MODIS_L1B:
        return ()
    if strange := [band for band in plan.bands if band not in _CHANNELS]:
        raise ProviderError(
            f"the proxy of {_MODIS_L1B} has no band {', '.join(map(repr, strange))}.",
            code="unknown_band",
            hint=f"It has {', '.join(_CHANNELS)}.",
            retryable=False,
            context={"bands": list(strange), "known": list(_CHANNELS)},
        )
    sources = [_CHANNELS[band] for band in plan.bands]
    colours = tuple(source for source in sources if isinstance(source, str))
    part = replace(plan, fill_value=math.nan, cloudy_pct=None)
    parts = (replace(part, collection=_REFLECTANCE, bands=colours),) if colours else ()
    if len(colours) < len(sources):
        parts = (*parts, replace(part, collection=_HEAT, bands=(_HEAT_BAND,)))
    return parts


def combine(plan: FetchPlan, chips: Sequence[Chip]) -> Chip:
    """The proxy's chip from those of ``parts_of``, in its order.

    A pixel is there if either part has it, as in the reference: clouds hide the ground's temperature more often than
    its colour. The channels of the other then hold the fill value.
    """
    planes = {band: chip.data[:, index] for chip in chips for index, band in enumerate(chip.bands)}  # [T, H, W]
    if _HEAT_BAND in planes:
        planes[_HEAT_BAND] = _kelvin(planes[_HEAT_BAND])
    data = np.stack([_channel(_CHANNELS[band], planes) for band in plan.bands], axis=1)  # [T, C, H, W]
    data[np.isnan(data)] = plan.fill_value
    seen = {acquisition for chip in chips for acquisition in chip.acquisitions}
    return Chip(
        data,
        plan.grid,
        plan.bands,
        plan.frames,
        provider=chips[0].provider,
        collection=plan.collection,
        valid=_either(chips),
        empty_frames=tuple(sorted({frame for chip in chips for frame in chip.empty_frames})),
        acquisitions=tuple(sorted(seen, key=lambda each: (each.time, each.frame, each.id))),
        facts=(
            ("proxy", " + ".join(chip.collection for chip in chips)),
            ("already_unit_scaled", True),
        ),
    )


def _either(chips: Sequence[Chip]) -> NDArray[np.bool_] | None:
    masks = [chip.valid for chip in chips if chip.valid is not None]
    if len(masks) < len(chips):  # one of them has every pixel
        return None
    valid: NDArray[np.bool_] = np.logical_or.reduce(masks)
    return valid


def _channel(source: str | _Heat, planes: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    if isinstance(source, str):
        scaled = planes[source] / np.float32(1e4)
    else:
        scaled = (planes[_HEAT_BAND] - np.float32(source.low)) / np.float32(source.high - source.low)
    clipped: NDArray[np.float32] = np.clip(scaled, 0, 1)
    return clipped


def _kelvin(stored: NDArray[np.float32]) -> NDArray[np.float32]:
    there = np.abs(stored[np.isfinite(stored)])
    return stored * np.float32(_KELVIN) if there.max(initial=0) > _STORED_ABOVE else stored
