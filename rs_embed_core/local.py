"""The public functions for places: all stages in a row, in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rs_embed_core.chip import Chip
from rs_embed_core.embedding import Embedding
from rs_embed_core.engine import Read, default_backend, run
from rs_embed_core.errors import InvalidRequest
from rs_embed_core.fetch import fetch as fetch_chip  # the functions here have an argument of that name
from rs_embed_core.plan import Plan, backend_of, plan, recipe
from rs_embed_core.providers import get_provider
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import Ask, EmbedRequest, OptionValue, check_device, model_config_from
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from rs_embed_core.specs.temporal import TemporalSpec


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
        backend: a provider's name; ``auto`` is the default provider, or a precomputed product's own.
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
    check_device(device)
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
    provider = get_provider(backend_of(ask, default_backend()))

    def read(spatial: Spatial) -> tuple[Plan, Callable[[], Chip]]:
        resolved = plan(EmbedRequest(ask, spatial))
        return resolved, lambda: fetch_chip(resolved, provider)

    reads: list[Read] = [lambda spatial=spatial: read(spatial) for spatial in spatials]  # type: ignore[misc]  # mypy infers no type for a default in a lambda
    return run(reads, shared.selection, device)


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
