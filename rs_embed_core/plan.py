"""Stage plan: what one request means in pixels, dates and provider reads. Pure: no I/O, no torch."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import lru_cache

from rs_embed_core.card import Input, ModelCard, Selection
from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.errors import RoiTooLarge
from rs_embed_core.geo import FULL_WINDOW, Grid, Window, bounds_of, square
from rs_embed_core.notice import Notice
from rs_embed_core.registry import generation, get_card
from rs_embed_core.specs.request import Ask, EmbedRequest
from rs_embed_core.specs.spatial import Spatial

MAX_CHIP_VALUES = 2**28  # 1 GiB of float32: more does not fit a fetch actor beside its neighbours


@dataclass(frozen=True)
class Plan:
    """One request, resolved.

    Attributes:
        window: the dates really used.
        fetch: the provider read.
        roi: the ROI inside the square that is fetched.
        spatial: the ROI as the caller said it; None for the caller's own pixels without a place.
    """

    ask: Ask
    selection: Selection
    window: Period
    fetch: FetchPlan
    roi: Window = FULL_WINDOW
    spatial: Spatial | None = None
    notices: tuple[Notice, ...] = ()

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of the ROI's centre, degrees; the origin where there is no place."""
        return self.fetch.grid.centre if self.spatial is None else bounds_of(self.spatial).centre


@dataclass(frozen=True)
class Recipe:
    """The part of a plan that all ROIs of an ``Ask`` share."""

    card: ModelCard
    input: Input
    selection: Selection
    window: Period
    frames: tuple[Period, ...]
    read: FetchPlan
    notices: tuple[Notice, ...]


def plan(request: EmbedRequest) -> Plan:
    """Resolve one request.

    Raises:
        UnknownModel, UnknownOption, Unsupported, InvalidInput: the model cannot do what is asked.
        InvalidRequest: the ROI lies outside the projection.
        RoiTooLarge: the ROI needs more than ``MAX_CHIP_VALUES`` values.
    """
    shared = recipe(request.ask)
    bounds, roi = square(request.spatial)
    read = shared.read
    size = max(bounds.width, bounds.height) / read_scale(shared)
    values = size * size * len(read.bands) * len(read.frames)
    if values > MAX_CHIP_VALUES:
        msg = f"the ROI needs {size:.0f} x {size:.0f} pixels of {len(read.bands)} bands and {len(read.frames)} frames."
        hint = f"At most {MAX_CHIP_VALUES} values fit; ask for a smaller ROI, fewer bands or a larger scale_m."
        raise RoiTooLarge(msg, hint=hint, context={"values": int(values), "limit": MAX_CHIP_VALUES})
    grid = Grid.on_lattice(bounds, read_scale(shared))
    return Plan(
        ask=request.ask,
        selection=shared.selection,
        window=shared.window,
        fetch=replace(read, grid=grid),
        roi=roi,
        spatial=request.spatial,
        notices=shared.notices,
    )


def read_scale(shared: Recipe) -> float:
    """Pixel size of the read, in EPSG:3857 metres."""
    return shared.read.grid.transform[0]


def recipe(ask: Ask) -> Recipe:
    """Resolve what does not depend on the ROI; remembered, since every ROI of a batch asks for it.

    Raises:
        UnknownModel, UnknownOption, Unsupported, InvalidInput: the model cannot do what is asked.
    """
    kinds = tuple(type(value) for _, value in ask.model_config)  # 1 == True == 1.0, but not as an option
    return _recipe(ask, kinds, generation())


@lru_cache(maxsize=256)
def _recipe(ask: Ask, _kinds: tuple[type, ...], _generation: int) -> Recipe:
    card, alias = get_card(ask.model)
    selection = card.select(ask, alias)
    entry = card.input(selection.modality)
    notices: tuple[Notice, ...] = ()
    if ask.temporal is None:
        window = Period(*map(dt.date.fromisoformat, card.default_window))
        text = f"No temporal was given; {window.start} to {window.end} was used."
        notices = (Notice("default_window", text),)
    else:
        window = Period(*ask.temporal.window)
    frames = entry.time.periods(window, dict(selection.options))
    read = _read(ask, entry, frames)
    entry.check_bands(read.bands, card.id)
    return Recipe(card, entry, selection, window, frames, read, notices)


def _read(ask: Ask, entry: Input, frames: tuple[Period, ...]) -> FetchPlan:
    """The provider read of an ``Ask``, on a grid of one pixel that carries the scale."""
    sensor, fetch = ask.sensor, ask.fetch
    if sensor is not None:
        return FetchPlan(
            collection=sensor.collection,
            bands=sensor.bands,
            grid=_unit(sensor.scale_m),
            frames=frames,
            composite=sensor.composite,
            cloudy_pct=sensor.cloudy_pct,
            fill_value=float(sensor.fill_value),
            orbit=sensor.orbit,
            linear=sensor.use_float_linear,
            require_iw=sensor.s1_require_iw,
            relax_iw=sensor.s1_relax_iw_on_empty,
        )
    read = FetchPlan(
        collection=entry.collection,
        bands=entry.bands,
        grid=_unit(entry.scale_m),
        frames=frames,
        composite=entry.composite,
        cloudy_pct=entry.cloudy_pct,
        fill_value=float(entry.fill_value),
    )
    if fetch is None:
        return read
    return replace(
        read,
        grid=_unit(fetch.scale_m or entry.scale_m),
        cloudy_pct=read.cloudy_pct if fetch.cloudy_pct is None else fetch.cloudy_pct,
        fill_value=read.fill_value if fetch.fill_value is None else float(fetch.fill_value),
        composite=fetch.composite or read.composite,
    )


def _unit(scale_m: float) -> Grid:
    scale = float(scale_m)
    return Grid("EPSG:3857", (scale, 0.0, 0.0, 0.0, -scale, 0.0), 1, 1)
