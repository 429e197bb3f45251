"""Stage plan: what one request means in pixels, dates and provider reads. Pure: no I/O, no torch."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import lru_cache

from rs_embed_core.card import ModelCard, Selection
from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.degrees import CELL_DEGREES, degree_grid
from rs_embed_core.errors import InvalidRequest, RoiTooLarge
from rs_embed_core.geo import FULL_INSET, WEB_MERCATOR, Grid, Inset, bounds_of, square, to_lonlat
from rs_embed_core.inputs import Input
from rs_embed_core.notice import Notice
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.time import CalendarYear
from rs_embed_core.preprocessing.values import filled_with
from rs_embed_core.registry import generation, get_card
from rs_embed_core.specs.request import Ask, EmbedRequest
from rs_embed_core.specs.spatial import PointBuffer, Spatial

MAX_CHIP_VALUES = 2**28  # 1 GiB of float32: more does not fit a fetch actor beside its neighbours


@dataclass(frozen=True)
class Plan:
    """One request, resolved.

    Attributes:
        window: the dates really used.
        fetch: the provider read.
        also: reads of more collections on the same grid and frames, whose bands come after those of ``fetch``.
        roi: the ROI inside the square that is fetched.
        spatial: the ROI as the caller said it; None for the caller's own pixels without a place.
    """

    ask: Ask
    selection: Selection
    window: Period
    fetch: FetchPlan
    roi: Inset = FULL_INSET
    spatial: Spatial | None = None
    notices: tuple[Notice, ...] = ()
    also: tuple[FetchPlan, ...] = ()

    @property
    def pixels(self) -> int:
        """Values of the whole chip."""
        return sum(read.pixels for read in (self.fetch, *self.also))

    @property
    def centre(self) -> tuple[float, float] | None:
        """Longitude and latitude of what is read, degrees; None where there is no place.

        Halfway between the bounds in degrees, not in the projection: golden/clay/spec.md, "Side inputs".
        """
        if isinstance(self.spatial, PointBuffer):
            return self.spatial.lon, self.spatial.lat
        if self.spatial is None:
            return self.fetch.grid.centre if self.fetch.grid.crs else None
        read = bounds_of(self.spatial) if self.roi == FULL_INSET else square(self.spatial)[0]
        west, south = to_lonlat(read.west, read.south)
        east, north = to_lonlat(read.east, read.north)
        return (west + east) / 2, (south + north) / 2


@dataclass(frozen=True)
class Recipe:
    """The part of a plan that all ROIs of an ``Ask`` share.

    Attributes:
        read, also: what the model needs, on a grid of one pixel that carries the scale.
        reach: the bands that are really read, for each of those: with the ones of models asked beside this one.
        fill: what the caller wants missing pixels to hold, in sensor units; None leaves them to the model.
    """

    card: ModelCard
    input: Input
    selection: Selection
    window: Period
    frames: tuple[Period, ...]
    read: FetchPlan
    notices: tuple[Notice, ...]
    also: tuple[FetchPlan, ...] = ()
    reach: tuple[tuple[str, ...], ...] = ()
    fill: float | None = None

    @property
    def chain(self) -> Chain:
        """The steps that prepare a sample."""
        chain = self.input.chain_for(self.selection.settings)
        return chain if self.fill is None else filled_with(self.fill, chain)

    @property
    def bands(self) -> tuple[str, ...]:
        """The channels of the chip."""
        return tuple(band for read in (self.read, *self.also) for band in read.bands)


def plan(request: EmbedRequest) -> Plan:
    """Resolve one request.

    Raises:
        UnknownModel, UnknownOption, Unsupported, InvalidInput: the model cannot do what is asked.
        InvalidRequest: the ROI lies outside the projection.
        RoiTooLarge: the ROI needs more than ``MAX_CHIP_VALUES`` values.
    """
    shared = recipe(request.ask)
    grid, roi = _region(request.spatial, shared)
    return Plan(
        ask=request.ask,
        selection=shared.selection,
        window=shared.window,
        fetch=replace(shared.read, grid=grid, bands=shared.reach[0]),
        roi=roi,
        spatial=request.spatial,
        notices=shared.notices,
        also=tuple(
            replace(read, grid=grid, bands=bands) for read, bands in zip(shared.also, shared.reach[1:], strict=True)
        ),
    )


def _region(spatial: Spatial, shared: Recipe) -> tuple[Grid, Inset]:
    """The pixels that are read for an ROI, and the ROI's inset in them."""
    if shared.input.region == "degrees":
        grid = degree_grid(spatial)
        _check_size(grid.transform[0] / CELL_DEGREES, -grid.transform[4] / CELL_DEGREES, shared)
        return grid, FULL_INSET
    bounds, roi = square(spatial) if shared.input.region == "square" else (bounds_of(spatial), FULL_INSET)
    scale = read_scale(shared)
    _check_size(bounds.width / scale, bounds.height / scale, shared)
    return Grid.on_lattice(bounds, scale), roi


def _check_size(width: float, height: float, shared: Recipe) -> None:
    bands, frames = sum(map(len, shared.reach)), len(shared.frames)
    values = width * height * bands * frames
    if values > MAX_CHIP_VALUES:
        msg = f"the ROI needs {width:.0f} x {height:.0f} pixels of {bands} bands and {frames} frames."
        hint = f"At most {MAX_CHIP_VALUES} values fit; ask for a smaller ROI, fewer bands or a larger scale_m."
        raise RoiTooLarge(msg, hint=hint, context={"values": int(values), "limit": MAX_CHIP_VALUES})


def backend_of(ask: Ask, default: str) -> str:
    """The provider that a request reads from: the one it names, a product's own, or else the default."""
    if ask.backend != "auto":
        return ask.backend
    product = recipe(ask).card.product
    return default if product is None else product.provider


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
    window, notices = _window(ask, card, entry)
    if card.departs and dict(selection.options).get("preprocessing") != "official":
        notices = (*notices, Notice("preprocessing", card.departs))
    frames = entry.time.periods(window, selection.settings)
    read = _read(ask, entry, frames)
    shared = Recipe(card, entry, selection, window, frames, read, notices, _also(ask, entry, read))
    if card.product is None:  # where a map has nothing there is no embedding
        shared = replace(shared, fill=_fill(ask))
    entry.check_bands(shared.bands, card.id)
    if ask.backend != "array":  # the caller's own pixels are as they are
        entry.check_scale(read_scale(shared), card.id)
    return replace(shared, reach=_reach(ask, shared))


def _fill(ask: Ask) -> float | None:
    """The fill value that was asked for; a sensor's 0 is its default and asks for nothing."""
    if ask.sensor is not None:
        return float(ask.sensor.fill_value) or None
    return None if ask.fetch is None or ask.fetch.fill_value is None else float(ask.fetch.fill_value)


def _reach(ask: Ask, shared: Recipe) -> tuple[tuple[str, ...], ...]:
    """The bands of each read; shared ones in an order that does not depend on which of the models asks."""
    others = [recipe(ask.of(other)) for other in ask.beside]
    theirs = [
        read for other in others if other.input.region == shared.input.region for read in (other.read, *other.also)
    ]
    out = []
    for own in (shared.read, *shared.also):
        bands = {band for read in theirs if replace(read, bands=own.bands) == own for band in read.bands}
        out.append(tuple(sorted(bands | set(own.bands))) if bands else own.bands)
    return tuple(out)


def _window(ask: Ask, card: ModelCard, entry: Input) -> tuple[Period, tuple[Notice, ...]]:
    """The dates really used, and what to say of them."""
    notices = []
    if ask.temporal is not None:
        asked = Period(*ask.temporal.window)
    elif card.default_window is None:
        raise InvalidRequest(f"{card.id} needs a year.", hint="Give temporal, such as TemporalSpec.year(2021).")
    else:
        asked = Period(*map(dt.date.fromisoformat, card.default_window))
        notices.append(Notice("default_window", f"No temporal was given; {asked.start} to {asked.end} was used."))
    if not isinstance(entry.time, CalendarYear):
        return asked, tuple(notices)
    (year,) = entry.time.periods(asked, {})
    if year != asked:
        text = f"{card.id} has one map a year: that of {year.start.year}, in which the window starts, was used."
        notices.append(Notice("whole_year", text))
    return year, tuple(notices)


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
        bands=entry.own_bands,
        grid=_unit(entry.scale_m),
        frames=frames,
        composite=entry.composite,
        cloudy_pct=entry.cloudy_pct,
        fill_value=float(entry.fill_value),
        linear=entry.linear,
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


def _also(ask: Ask, entry: Input, read: FetchPlan) -> tuple[FetchPlan, ...]:
    """The reads of an input's further collections; a ``sensor`` replaces them all."""
    if ask.sensor is not None:
        return ()
    asked = None if ask.fetch is None else ask.fetch.composite
    return tuple(
        replace(
            read,
            collection=source.collection,
            bands=source.bands,
            cloudy_pct=source.cloudy_pct,
            composite=asked or source.composite,
            linear=source.linear,
        )
        for source in entry.also
    )


def _unit(scale_m: float) -> Grid:
    scale = float(scale_m)
    return Grid(WEB_MERCATOR, (scale, 0.0, 0.0, 0.0, -scale, 0.0), 1, 1)
