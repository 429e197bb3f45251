"""What an end-to-end golden case asks, in any of the forms that the cases are written in, and its imagery."""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed_core import BBox, FetchSpec, PointBuffer, TemporalSpec
from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.registry import get_card
from tests.parity.golden import Case, recipe

LEVELS = ("adapter", "embed", "end_to_end")
"""How cases that go through the public API call their level."""

_GALILEO_OPTIONS = {
    "RS_EMBED_GALILEO_NORM": "normalization",
    "RS_EMBED_GALILEO_PATCH": "patch_size",
    "RS_EMBED_GALILEO_MONTH": "month",
    "RS_EMBED_GALILEO_ADD_LN": "exit_norm",
    "RS_EMBED_GALILEO_IMG": "image_size",
}


def arguments(case: Case) -> dict[str, Any]:
    """The arguments of ``get_embedding`` besides the model, the output and the provider."""
    spec = case.spec
    scale_m = spec.get("scale_m") or spec.get("fetch", {}).get("scale_m")
    return {
        "spatial": _spatial(spec),
        "temporal": _temporal(spec),
        "fetch": FetchSpec(scale_m=scale_m),
        "modality": spec.get("modality") or _modality(case),
        "model_config": _options(case),
        "input_prep": spec.get("input_prep", "resize"),
    }


def _modality(case: Case) -> str | None:
    """The modality of the case's bands, where the case names none."""
    bands = set(case.spec.get("bands") or ())
    return next((entry.modality for entry in get_card(case.model)[0].inputs if bands == set(entry.bands)), None)


@dataclass(frozen=True, eq=False)
class Imagery:
    """The pixels of a case, of which each read takes its bands.

    Attributes:
        pixels: ``[C, H, W]`` or ``[T, C, H, W]``.
        bands: names of C; None where a case has one read, whose bands they are.
        facts: what the chip says of itself.
    """

    pixels: NDArray[np.float32]
    bands: tuple[str, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    name: str = "golden"

    def fetch(self, plan: FetchPlan) -> Chip:
        """The pixels on the plan's extent."""
        pixels = self.pixels
        if self.bands is not None:
            pixels = np.take(pixels, [self.bands.index(band) for band in plan.bands], axis=-3)
        chip = ArrayProvider(pixels).fetch(plan)
        return replace(chip, provider=self.name, facts=tuple(self.facts.items()))


def imagery(case: Case) -> Imagery:
    """The imagery of a case."""
    bands = case.spec.get("bands")
    return Imagery(
        _pixels(case.spec["input"]), None if bands is None else tuple(bands), case.spec.get("fetch_meta") or {}
    )


def _pixels(given: Mapping[str, Any] | list[Mapping[str, Any]]) -> NDArray[np.float32]:
    """One patch, several joined along C, or several placed by channel."""
    if isinstance(given, list):
        return np.concatenate([_pixels(part) for part in given], axis=-3)
    if "parts" in given:
        patches = [(part["channels"], _pixels(part)) for part in given["parts"]]
        count = sum(len(channels) for channels, _ in patches)
        out = np.empty((*patches[0][1].shape[:-3], count, *patches[0][1].shape[-2:]), np.float32)
        for channels, patch in patches:
            out[..., channels, :, :] = patch
        return out
    patch = given.get("patch", given)
    drawn = {name: patch[name] for name in ("seed", "low", "high") if name in patch}
    scale = np.float32(given.get("multiply", given.get("scale", 1)))
    pixels = recipe.patch(tuple(patch["shape"]), **drawn) * scale + np.float32(given.get("offset", 0))
    for box in given.get("nan_boxes", ()):
        pixels[tuple(slice(*bounds) for bounds in box)] = np.nan
    return pixels


def _spatial(spec: Mapping[str, Any]) -> BBox | PointBuffer:
    if "spatial" not in spec:
        lat, lon = spec["side_inputs"]["latlon_deg"]
        return PointBuffer(lon, lat, 100)
    given = spec["spatial"]
    if "bbox" in given:
        return BBox(**given["bbox"])
    return PointBuffer(**{name: value for name, value in given.get("point", given).items() if name != "type"})


def _temporal(spec: Mapping[str, Any]) -> TemporalSpec:
    if "temporal" not in spec:  # whole months, one per frame
        first, months = spec["side_inputs"]["first_month_0_based"], _frames(spec["input"])
        start, end = (dt.date(2022 + month // 12, month % 12 + 1, 1) for month in (first, first + months))
        return TemporalSpec.range(start.isoformat(), end.isoformat())
    given = spec["temporal"]
    return TemporalSpec.year(given["year"]) if "year" in given else TemporalSpec.range(**given)


def _frames(given: list[Mapping[str, Any]]) -> int:
    return int(given[0]["shape"][0])


def _options(case: Case) -> dict[str, Any]:
    """The case's configuration; the reference's environment settings are options of ours."""
    layout = importlib.import_module(f"tests.parity.layouts.{case.model}")
    if "options" in vars(layout):
        return dict(layout.options(case))
    options = {k: v for k, v in (case.spec.get("model_config") or {}).items() if k not in ("model_id", "variant")}
    card, _ = get_card(case.model)
    defaults = {option.name: option.default for option in card.options}
    for variable, value in case.spec.get("environment", {}).items():
        name = _GALILEO_OPTIONS[variable]
        options[name] = bool(int(value)) if isinstance(defaults[name], bool) else type(defaults[name])(value)
    return options
