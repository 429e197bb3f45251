"""How one model's results are made: everything that changes their numbers, as JSON, so that a change is noticed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version

from rs_embed_core.chip import FetchPlan
from rs_embed_core.errors import JSONValue
from rs_embed_core.plan import backend_of, read_scale, recipe
from rs_embed_core.specs.request import Ask
from rs_embed_core.weights import HubFile
from serve_app.export.job import ExportJob
from serve_app.providers import set_up
from serve_app.settings import ServiceSettings

VERSION = version("rs-embed-serve")


def configuration(ask: Ask, job: ExportJob, settings: ServiceSettings) -> dict[str, JSONValue]:
    """Everything that the numbers of one model of a job depend on, beside the ROIs."""
    shared = recipe(ask)
    weights = weights_of(ask)
    return {
        "model": shared.selection.model,
        "variant": shared.selection.variant,
        "modality": shared.selection.modality,
        "options": dict(shared.selection.options),
        "weights": None if weights is None else str(weights),
        "window": shared.window.to_dict(),
        "frames": [period.to_dict() for period in shared.frames],
        "imagery": {"scale_m": read_scale(shared), "reads": [_read(read) for read in (shared.read, *shared.also)]},
        "output": ask.output.to_dict(),
        "input_prep": ask.input_prep.to_dict(),
        "chain": shared.chain.digest,
        **_made_by(ask, job, settings),
    }


def _read(read: FetchPlan) -> dict[str, JSONValue]:
    """All of a read but its place and its dates."""
    return {
        "collection": read.collection,
        "bands": list(read.bands),
        "cloudy_pct": read.cloudy_pct,
        "composite": read.composite,
        "fill_value": read.fill_value,
        "orbit": read.orbit,
        "linear": read.linear,
        "require_iw": read.require_iw,
        "relax_iw": read.relax_iw,
    }


def weights_of(ask: Ask) -> HubFile | None:
    """The weights of a model; None where it has none."""
    shared = recipe(ask)
    return shared.card.variant(shared.selection.variant, shared.selection.modality).weights


def _made_by(ask: Ask, job: ExportJob, settings: ServiceSettings) -> dict[str, JSONValue]:
    """Who computes, and from whose imagery; what a service is set up with is its own affair."""
    if job.service is not None:
        return {"service": job.service, "backend": ask.backend}
    backend = backend_of(ask, settings.providers.default)
    scopes = {provider.name: scope for provider, scope in set_up(settings.providers)}
    return {"precision": job.workers.precision, "backend": backend, "backend_settings": scopes.get(backend, "")}


def set_up_as(meta: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    """What a row says of the service that made it, and that changes numbers by more than rounding."""
    versions = meta.get("versions")
    by = versions.get("rs-embed-serve") if isinstance(versions, Mapping) else None
    names = ("backend", "source", "precision", "checkpoint")
    return {**{name: meta.get(name) for name in names}, "version": by}


def changes(old: Mapping[str, JSONValue], new: Mapping[str, JSONValue]) -> list[str]:
    """What differs, one text for each key: ``imagery.scale_m: 10 -> 20``."""
    before, after = dict(_flat(old)), dict(_flat(new))
    keys = sorted(before.keys() | after.keys())
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in keys
        if before.get(key) != after.get(key) or (key in before) != (key in after)
    ]


def _flat(value: Mapping[str, JSONValue], above: str = "") -> Iterator[tuple[str, JSONValue]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{above}{key}.")
        else:
            yield f"{above}{key}", item
