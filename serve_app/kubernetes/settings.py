"""The service's settings that follow from values: what stands under ``args:`` of the overlay's Serve config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.registry import get_card
from serve_app.kubernetes.devices import Load
from serve_app.kubernetes.values import ModelValues, Values, mistakes
from serve_app.router import default_ask
from serve_app.settings import ModelSettings, ServiceSettings

type Tree = dict[str, Any]
"""JSON, as YAML has it (Any: its values are of every kind)."""

ENCODE = "encode"  # the custom resource of pods where models compute on CPUs
_KEY = "/var/run/secrets/earth-engine/key.json"  # where the component earth-engine-key mounts it
WEIGHTS = "/weights"  # where the image and the component weights-pvc have them
_CHIPS = {"disk_path": "/cache/chips", "disk_mb": 8_000}  # of the 10 GiB that k8s/base gives /cache
_GPU_CPUS = 4  # for each GPU: its replicas read blocks, put batches together and answer
_READS_AT_ONCE = 16
_COLD_START_MARGIN_S = 60  # so that who waited in vain is told so within the request's time
_OWN_SHARE = 0.8  # of a project's quota: a notebook may use the rest


def arguments(values: Values, base: Tree) -> Tree:
    """The ``args:`` of the overlay, a tree that ``ServiceSettings`` reads.

    Args:
        base: the ``args:`` of k8s/base, whose limits and resources suit its pods.

    Raises:
        UnknownModel, UnknownOption: no such model or variant.
        InvalidRequest: a setting that there is not, or a model that cannot be placed so.
    """
    derived: Tree = {
        "models": [_model(entry, gpus=values.gpu is not None) for entry in values.models],
        "fetch": {"actors": values.fetch.actors, "concurrency": _concurrency(values)},
        "providers": _providers(values),
        "checkpoints": {"root": WEIGHTS, "offline": True},
        "http": {"routers": values.routers},
    }
    if values.provider.name != "synthetic":
        derived["fetch"]["cache"] = dict(_CHIPS)
    if any(entry.replicas.min == 0 for entry in values.models):  # a node may have to come first
        derived["limits"] = {"cold_start_timeout_s": settings_of(base).limits.timeout_s - _COLD_START_MARGIN_S}
    return merged(merged(base, derived), values.settings)


def settings_of(tree: Mapping[str, Any]) -> ServiceSettings:
    """The settings object of an ``args:`` tree, as Serve makes it.

    Raises:
        InvalidRequest: a setting that there is not, or a value out of range.
    """
    try:
        return ServiceSettings.model_validate(tree)
    except ValidationError as error:
        msg = f"the settings are wrong: {'; '.join(mistakes(error, ServiceSettings, ('settings',)))}."
        raise InvalidRequest(msg, hint="docs/reference/settings.md lists all settings.") from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """A new tree: mappings are merged, anything else is replaced."""
    out = copy.deepcopy(dict(base))
    for key, value in over.items():
        inner = out.get(key)
        both = isinstance(inner, dict) and isinstance(value, Mapping)
        out[key] = merged(inner, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]  # a dict: see both
    return out


def loads(values: Values) -> list[Load]:
    """The models that have GPUs."""
    out = []
    for entry in values.models:
        ask = ModelSettings(model=entry.model, variant=entry.variant)
        selection = default_ask(ask)[1]
        variant = get_card(entry.model)[0].variant(selection.variant, selection.modality)
        share = _share(entry, gpus=values.gpu is not None)
        if share > 0:
            out.append(Load(selection.encoder, variant, share, (entry.replicas.min, entry.replicas.max)))
    return out


def cpus_beside(share: float) -> int:
    """CPUs that go with a part of a GPU."""
    return max(1, int(_GPU_CPUS * share))


def _model(entry: ModelValues, *, gpus: bool) -> Tree:
    share = _share(entry, gpus=gpus)
    if get_card(entry.model)[0].product is not None:
        return {"model": entry.model} | ({} if entry.variant is None else {"variant": entry.variant})
    cpus = entry.cpus or (cpus_beside(share) if share else 2)
    out: Tree = {
        "model": entry.model,
        "variant": entry.variant,
        "min_replicas": entry.replicas.min,
        "max_replicas": entry.replicas.max,
        "num_cpus": cpus,
        "num_gpus": share,
        "resources": {} if share else {ENCODE: 1},
        "device": "cuda" if share else "cpu",  # never the CPU by mistake where a driver is missing
        "precision": entry.precision,
        "batch_size": entry.batch_size,
        "cpu_threads": None if share else cpus,
    }
    standard = {name: field.default for name, field in ModelSettings.model_fields.items()}
    return {name: value for name, value in out.items() if value != standard[name]}


def _share(entry: ModelValues, *, gpus: bool) -> float:
    """The part of a GPU that a replica has; a precomputed product computes nothing."""
    product = get_card(entry.model)[0].product is not None
    if entry.gpus and product:
        msg = f"{entry.model} is a precomputed product, and gpus is {entry.gpus:g}."
        raise InvalidRequest(msg, hint="Leave gpus out: it is read, not computed.")
    if entry.gpus and not gpus:
        raise InvalidRequest(f"{entry.model} wants gpus, and there are none.", hint="Say gpu.type and gpu.count.")
    if entry.gpus is not None:
        return entry.gpus
    return 1 if gpus and not product else 0


def _providers(values: Values) -> Tree:
    provider = values.provider
    if provider.name != "gee":
        return {"default": provider.name} | ({"stac": {}} if provider.name == "stac" else {})
    section: Tree = {"project": provider.project, "at_once": _at_once(values)}
    if provider.credentials == "key":
        section["credentials"] = _KEY
    return {"default": "gee", "gee": section}


def _at_once(values: Values) -> int:
    return values.provider.at_once or max(1, int(_OWN_SHARE * values.quota_of_cluster))


def _concurrency(values: Values) -> int:
    """Reads under way in each fetch actor: together as many as the provider is asked at once."""
    if values.fetch.concurrency is not None:
        return values.fetch.concurrency
    return max(1, _at_once(values) // values.fetch.actors) if values.provider.name == "gee" else _READS_AT_ONCE
