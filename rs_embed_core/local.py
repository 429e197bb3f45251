"""All stages in a row, in this process, without Ray: the library's own engine and its public functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from rs_embed_core.assemble import assemble
from rs_embed_core.card import ModelCard
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.chip import Chip
from rs_embed_core.embedding import Embedding, EncoderInfo
from rs_embed_core.encoder import Encoder
from rs_embed_core.errors import InvalidRequest, RSEmbedError
from rs_embed_core.fetch import fetch
from rs_embed_core.geo import Grid, bounds_of
from rs_embed_core.plan import Plan, plan, recipe
from rs_embed_core.prepare import prepare
from rs_embed_core.prepared import Prepared
from rs_embed_core.providers import get_provider
from rs_embed_core.providers.array import ArrayProvider, checked
from rs_embed_core.registry import generation, get_card, list_models
from rs_embed_core.sample import collate, group_by_signature
from rs_embed_core.specs.data import UserData
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import Ask, EmbedRequest, ModelConfig, OptionValue, model_config_from
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from rs_embed_core.specs.temporal import TemporalSpec
from rs_embed_core.tokens import Tokens

_FETCHES_AHEAD = 8  # as many reads as rs-embed has at once; a local run has no quota to share
_ENCODERS_KEPT = 2  # models held at a time: a laptop has room for no more


@dataclass(frozen=True)
class Defaults:
    """What the library otherwise takes from its own defaults.

    Attributes:
        checkpoints: where weights come from.
        backend: what ``backend="auto"`` reads from.
    """

    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    backend: str = "synthetic"


_defaults = [Defaults()]


def configure(
    *,
    checkpoints_root: str | Path | None = None,
    offline: bool | None = None,
    default_backend: str | None = None,
) -> None:
    """Set the library's defaults for this process; None leaves one as it is."""
    old = _defaults[0]
    checkpoints = old.checkpoints
    if checkpoints_root is not None:
        checkpoints = replace(checkpoints, root=Path(checkpoints_root))
    if offline is not None:
        checkpoints = replace(checkpoints, offline=offline)
    _defaults[0] = Defaults(checkpoints, default_backend or old.backend)
    _encoder.cache_clear()


@lru_cache(maxsize=_ENCODERS_KEPT)
def _encoder(model: str, variant: str, device: str, _generation: int) -> Encoder:
    card, _ = get_card(model)
    return Encoder(card, variant, checkpoints=_defaults[0].checkpoints, device=device)


def get_embedding(  # noqa: PLR0913 - the signature is rs-embed's
    model: str,
    *,
    spatial: Spatial,
    temporal: TemporalSpec | None = None,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    model_config: Mapping[str, OptionValue] | None = None,
    modality: str | None = None,
    output: OutputSpec = OutputSpec.pooled(),  # noqa: B008 - frozen, and rs-embed's signature
    backend: str = "auto",
    device: str = "auto",
    input_prep: str | InputPrepSpec = "resize",
) -> Embedding:
    """The embedding of one ROI.

    Args:
        model: id or alias; ``list_models()`` lists them.
        spatial: ``BBox`` or ``PointBuffer``.
        temporal: the window; None takes the model's default and says so in a notice.
        sensor: replaces the model's imagery; ``fetch`` changes it lightly. Not both.
        model_config: ``{"variant": ...}`` and what the model's card declares.
        modality: one of the model's; None takes its first.
        output: ``OutputSpec.pooled()`` for ``(D,)``, ``OutputSpec.grid()`` for ``(D, H, W)``.
        backend: a provider's name.
        device: ``auto`` is cuda, then mps, then cpu.
        input_prep: ``resize``, ``tile``, ``auto`` or an ``InputPrepSpec``.

    Raises:
        SpecError, ModelError, ProviderError: with the finer class that says what went wrong.
    """
    return get_embeddings_batch(
        model,
        spatials=[spatial],
        temporal=temporal,
        sensor=sensor,
        fetch=fetch,
        model_config=model_config,
        modality=modality,
        output=output,
        backend=backend,
        device=device,
        input_prep=input_prep,
    )[0]


def get_embeddings_batch(  # noqa: PLR0913 - the signature is rs-embed's
    model: str,
    *,
    spatials: Sequence[Spatial],
    temporal: TemporalSpec | None = None,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    model_config: Mapping[str, OptionValue] | None = None,
    modality: str | None = None,
    output: OutputSpec = OutputSpec.pooled(),  # noqa: B008 - frozen, and rs-embed's signature
    backend: str = "auto",
    device: str = "auto",
    input_prep: str | InputPrepSpec = "resize",
) -> list[Embedding]:
    """The embeddings of many ROIs, in the order of ``spatials``; arguments as in ``get_embedding``.

    Raises:
        InvalidRequest: ``spatials`` is empty.
        SpecError, ModelError, ProviderError: of the first ROI that failed, with its ``index`` in the context.
    """
    check_spatials(spatials)
    ask = Ask(
        model=model,
        temporal=temporal,
        sensor=sensor,
        fetch=fetch,
        model_config=model_config_from(model_config),
        modality=modality,
        output=output,
        input_prep=InputPrepSpec.of(input_prep),
        backend=backend,
    )
    shared = recipe(ask)
    provider = get_provider(_defaults[0].backend if backend == "auto" else backend)

    def read(spatial: Spatial) -> tuple[Plan, Callable[[], Chip]]:
        resolved = plan(EmbedRequest(ask, spatial))
        return resolved, lambda: _fetch(resolved, provider)

    reads: list[Read] = [lambda spatial=spatial: read(spatial) for spatial in spatials]  # type: ignore[misc]
    return _run(reads, shared.card, shared.selection.variant, device)


_fetch = fetch


def check_spatials(spatials: object) -> None:
    """Refuse anything but a non-empty sequence of ROIs.

    Raises:
        InvalidRequest: empty, not a list, or with something else in it.
    """
    if isinstance(spatials, str) or not isinstance(spatials, Sequence):
        msg = f"spatials is a {type(spatials).__name__}."
        raise InvalidRequest(msg, hint="Give a list of BBox or PointBuffer.")
    if not spatials:
        msg = "spatials is empty."
        raise InvalidRequest(msg, hint="Give at least one BBox or PointBuffer.")
    for index, spatial in enumerate(spatials):
        if not isinstance(spatial, BBox | PointBuffer):
            msg = f"ROI {index} is {spatial!r}."
            raise InvalidRequest(msg, hint="Give a BBox or a PointBuffer.", context={"index": index})


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
    variant = card.select(Ask(model=model, model_config=config, modality=modality), alias).variant
    reads: list[Read] = [lambda item=item: read(item) for item in data]  # type: ignore[misc]
    return _run(reads, card, variant, device)


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
        for entry in card.inputs:
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
    bare = Ask(model=model, model_config=config, modality=modality)
    entry = card.input(card.select(bare, alias).modality)
    bands = item.bands or entry.bands
    pixels = checked(item.data, bands)
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
    read = replace(shared.read, grid=grid)
    resolved = Plan(ask, shared.selection, shared.window, read, spatial=item.spatial, notices=shared.notices)
    return resolved, ArrayProvider(pixels)


def _data_grid(item: UserData, height: int, width: int) -> Grid:
    """Where the caller's pixels are: their own georeference, the ROI's extent, or nowhere (no CRS)."""
    if item.crs is not None and item.transform is not None:
        return Grid(item.crs, item.transform, height, width)
    if item.spatial is not None:
        return Grid.spanning(bounds_of(item.spatial), height, width)
    return Grid("", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), height, width)


type Read = Callable[[], tuple[Plan, Callable[[], Chip]]]


def _run(reads: Sequence[Read], card: ModelCard, variant: str, device: str) -> list[Embedding]:
    """Fetch ahead in threads, then prepare, forward in batches of equal signature, and assemble."""
    results: list[Embedding] = []
    size = card.variants[variant].batch_size
    with ThreadPoolExecutor(_FETCHES_AHEAD, thread_name_prefix="fetch") as pool:
        for start in range(0, len(reads), size):
            indices = range(start, min(start + size, len(reads)))
            ready = list(pool.map(lambda i: _prepared(i, reads[i]), indices))
            results.extend(_embed(ready, size, device))
    return results


@dataclass(frozen=True)
class _Ready:
    index: int
    plan: Plan
    prepared: Prepared
    fetch_ms: float


def _prepared(index: int, read: Read) -> _Ready:
    try:
        resolved, fetch_chip = read()
        started = time.perf_counter()
        chip = fetch_chip()
        fetch_ms = 1e3 * (time.perf_counter() - started)
        return _Ready(index, resolved, prepare(chip, resolved), fetch_ms)
    except RSEmbedError as error:
        error.context["index"] = index
        raise


def _embed(ready: Sequence[_Ready], size: int, device: str) -> Iterable[Embedding]:
    """Forward the samples of several ROIs of one model, batched by signature, and assemble each ROI."""
    selection = ready[0].plan.selection
    encoder = _encoder(selection.model, selection.variant, device, generation())
    samples = [sample for item in ready for sample in item.prepared.samples]
    owners = [item.index for item in ready for _ in item.prepared.samples]
    tokens: dict[int, tuple[Tokens, EncoderInfo, float]] = {}
    for group in group_by_signature(samples).values():
        for start in range(0, len(group), size):
            indices = group[start : start + size]
            started = time.perf_counter()
            try:
                outputs, info = encoder.forward(collate([samples[i] for i in indices]), selection)
            except RSEmbedError as error:
                error.context["index"] = owners[indices[0]]
                raise
            elapsed = 1e3 * (time.perf_counter() - started)
            tokens.update({i: (out, info, elapsed) for i, out in zip(indices, outputs, strict=True)})
    position = 0
    for item in ready:
        own = [tokens[i] for i in range(position, position + len(item.prepared.samples))]
        position += len(item.prepared.samples)
        timings = {
            "fetch": item.fetch_ms,
            "prepare": item.prepared.info.prepare_ms,
            "forward": max(entry[2] for entry in own),
        }
        yield assemble([entry[0] for entry in own], item.plan, item.prepared.info, own[0][1], timings_ms=timings)
