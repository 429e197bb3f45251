"""The public functions for the caller's own pixels."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip, Period
from rs_embed_core.embedding import Embedding
from rs_embed_core.engine import Read, run
from rs_embed_core.errors import InvalidRequest, RSEmbedError, Unsupported
from rs_embed_core.geo import Grid, bounds_of
from rs_embed_core.plan import Plan, Recipe, recipe
from rs_embed_core.preprocessing.time import Frames
from rs_embed_core.providers.array import ArrayProvider, checked
from rs_embed_core.registry import get_card, list_models
from rs_embed_core.specs.data import UserData
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.pixels import Pixels
from rs_embed_core.specs.request import Ask, ModelConfig, OptionValue, check_device, model_config_from
from rs_embed_core.specs.sensor import SensorSpec
from rs_embed_core.specs.temporal import TemporalSpec

_DAY = dt.timedelta(1)
_TCHW = 4


def get_embedding_from_data(  # noqa: PLR0913 - the signature is rs-embed's
    model: str,
    data: UserData,
    *,
    modality: str | None = None,
    model_config: Mapping[str, OptionValue] | None = None,
    output: OutputSpec = OutputSpec.pooled(),  # noqa: B008 - frozen, and rs-embed's signature
    device: str = "auto",
    input_prep: str | InputPrepSpec = "resize",
) -> Embedding:
    """The embedding of the caller's own pixels; arguments as in ``get_embedding``.

    Raises:
        InvalidInput: pixels that the model cannot take.
        SpecError, ModelError: with the finer class that says what went wrong.
    """
    return get_embeddings_batch_from_data(
        model,
        [data],
        modality=modality,
        model_config=model_config,
        output=output,
        device=device,
        input_prep=input_prep,
    )[0]


def get_embeddings_batch_from_data(  # noqa: PLR0913 - the signature is rs-embed's
    model: str,
    data: Sequence[UserData],
    *,
    modality: str | None = None,
    model_config: Mapping[str, OptionValue] | None = None,
    output: OutputSpec = OutputSpec.pooled(),  # noqa: B008 - frozen, and rs-embed's signature
    device: str = "auto",
    input_prep: str | InputPrepSpec = "resize",
) -> list[Embedding]:
    """The embeddings of several arrays, in order; arguments as in ``get_embedding_from_data``."""
    _check_data(data)
    check_device(device)
    config, prep = model_config_from(model_config), InputPrepSpec.of(input_prep)

    def read(item: UserData) -> tuple[Plan, Callable[[], Chip]]:
        resolved, provider = _plan_data(model, item, modality, config, output, prep)
        return resolved, lambda: provider.fetch(resolved.fetch)

    card, alias = get_card(model)
    selection = card.select(Ask(model=model, model_config=config, modality=modality), alias)
    reads: list[Read] = [lambda item=item: read(item) for item in data]  # type: ignore[misc]  # mypy infers no type for a default in a lambda
    return run(reads, selection, device)


def _check_data(data: object) -> None:
    if not isinstance(data, Sequence) or not data:
        msg = "data is empty." if isinstance(data, Sequence) else f"data is a {type(data).__name__}."
        raise InvalidRequest(msg, hint="Give a list of at least one UserData.")
    for index, item in enumerate(data):
        if not isinstance(item, UserData):
            msg = f"item {index} is a {type(item).__name__}."
            hint = "Give UserData(array, collection): it says what the pixels are."
            raise InvalidRequest(msg, hint=hint, context={"index": index})


def list_models_for_data(collection: str, bands: Sequence[str] | None = None) -> list[str]:
    """Ids of the models that take pixels of this collection (and these bands, in this order)."""
    out = []
    for model in list_models():
        card, _ = get_card(model)
        for entry in card.inputs if card.product is None else ():
            same = entry.other_bands == "any" or entry.collection == collection
            if same and (bands is None or _takes(entry.check_bands, tuple(bands), model)):
                out.append(model)
                break
    return out


def _takes(check: Callable[[tuple[str, ...], str], None], bands: tuple[str, ...], model: str) -> bool:
    try:
        check(bands, model)
    except RSEmbedError:
        return False
    return True


def _plan_data(  # noqa: PLR0913 - private: the parts of one call
    model: str,
    item: UserData,
    modality: str | None,
    config: ModelConfig,
    output: OutputSpec,
    prep: InputPrepSpec,
) -> tuple[Plan, ArrayProvider]:
    """The plan of the caller's own pixels, and the provider that holds them."""
    card, alias = get_card(model)
    if card.product is not None:
        msg = f"{card.id} is precomputed: it takes no pixels."
        raise Unsupported(msg, hint="list_models_for_data() lists the models that do.")
    bare = Ask(model=model, model_config=config, modality=modality)
    entry = card.input(card.select(bare, alias).modality)
    own = item.resolved()
    bands = own.bands or entry.bands
    values = checked(own.values, bands)
    if card.config_for_data is not None and prep.mode != "resize":
        config = card.config_for_data(config, (values.shape[-2], values.shape[-1]))
    grid = _data_grid(item, own, values.shape[-2], values.shape[-1])
    scale_m = item.scale_m or (grid.pixel_m if grid.crs else entry.scale_m)
    ask = Ask(
        model=model,
        temporal=item.temporal or _span(own.dates),
        sensor=SensorSpec(item.collection, bands, scale_m, cloudy_pct=None),
        model_config=config,
        modality=modality,
        output=output,
        input_prep=prep,
        backend="array",
    )
    shared = recipe(ask)
    read = replace(shared.read, grid=grid, frames=_frames(values, own.dates, shared))
    resolved = Plan(ask, shared.selection, shared.window, read, spatial=item.spatial, notices=shared.notices)
    return resolved, ArrayProvider(values)


def _span(dates: tuple[dt.date, ...]) -> TemporalSpec | None:
    """The window from the first day to the last; None where there is none."""
    if not dates:
        return None
    return TemporalSpec.range(dates[0].isoformat(), (dates[-1] + _DAY).isoformat())


def _frames(values: NDArray[np.float32], dates: tuple[dt.date, ...], shared: Recipe) -> tuple[Period, ...]:
    """The period behind each frame: its own day, or else a part of the window.

    One image stands for all frames of the model, or for the whole window, as the card says.
    """
    if values.ndim == _TCHW:
        return tuple(Period(day, day + _DAY) for day in dates) or shared.window.split(len(values))
    time = shared.input.time
    return (shared.window,) if isinstance(time, Frames) and time.still == "single" else shared.frames


def _data_grid(item: UserData, own: Pixels, height: int, width: int) -> Grid:
    """Where the caller's pixels are: their own georeference, the ROI's extent, or nowhere (no CRS)."""
    if own.crs is not None and own.transform is not None:
        return Grid(own.crs, own.transform, height, width)
    if item.spatial is not None:
        return Grid.spanning(bounds_of(item.spatial), height, width)
    return Grid("", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), height, width)
