"""The public functions for the caller's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rs_embed_core.chip import Chip
from rs_embed_core.embedding import Embedding
from rs_embed_core.engine import Read, run
from rs_embed_core.errors import InvalidRequest, RSEmbedError, Unsupported
from rs_embed_core.geo import Grid, bounds_of
from rs_embed_core.plan import Plan, recipe
from rs_embed_core.preprocessing.time import Frames
from rs_embed_core.providers.array import ArrayProvider, checked
from rs_embed_core.registry import get_card, list_models
from rs_embed_core.specs.data import UserData
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import Ask, ModelConfig, OptionValue, model_config_from
from rs_embed_core.specs.sensor import SensorSpec


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
    item = item.resolved()
    card, alias = get_card(model)
    if card.product is not None:
        msg = f"{card.id} is precomputed: it takes no pixels."
        raise Unsupported(msg, hint="list_models_for_data() lists the models that do.")
    bare = Ask(model=model, model_config=config, modality=modality)
    entry = card.input(card.select(bare, alias).modality)
    bands = item.bands or entry.bands
    pixels = checked(item.data, bands)
    if card.config_for_data is not None and prep.mode != "resize":
        config = card.config_for_data(config, (pixels.shape[-2], pixels.shape[-1]))
    grid = _data_grid(item, pixels.shape[-2], pixels.shape[-1])
    scale_m = item.scale_m or (grid.pixel_m if grid.crs else entry.scale_m)
    sensor = SensorSpec(item.collection, bands, scale_m, cloudy_pct=None)
    ask = Ask(
        model=model,
        temporal=item.temporal,
        sensor=sensor,
        model_config=config,
        modality=modality,
        output=output,
        input_prep=prep,
        backend="array",
    )
    shared = recipe(ask)
    still = pixels.ndim == 3 and isinstance(entry.time, Frames) and entry.time.still == "single"
    read = replace(shared.read, grid=grid, frames=(shared.window,) if still else shared.frames)
    resolved = Plan(ask, shared.selection, shared.window, read, spatial=item.spatial, notices=shared.notices)
    return resolved, ArrayProvider(pixels)


def _data_grid(item: UserData, height: int, width: int) -> Grid:
    """Where the caller's pixels are: their own georeference, the ROI's extent, or nowhere (no CRS)."""
    if item.crs is not None and item.transform is not None:
        return Grid(item.crs, item.transform, height, width)
    if item.spatial is not None:
        return Grid.spanning(bounds_of(item.spatial), height, width)
    return Grid("", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), height, width)
