"""Bulk exports of an overlay: the file ``export.yaml``, and patches of the RayJob in k8s/components/jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.plan import recipe
from serve_app.export.job import ExportJob, Workers
from serve_app.kubernetes.devices import Gpu
from serve_app.kubernetes.groups import ENCODERS, FETCH
from serve_app.kubernetes.settings import Tree, cpus_beside, merged, settings_of
from serve_app.kubernetes.values import Values, mistakes
from serve_app.router import default_ask
from serve_app.settings import ServiceSettings

_ACTORS, _ON_A_POD = 4, 4
_GROUPS = "/spec/rayClusterSpec/workerGroupSpecs"
_LABEL = "rs-embed-export"  # of its costs, beside the service's


def export_file(said: Mapping[str, Any], values: Values, service: Tree) -> Tree:
    """What ``rs-embed export`` is told: what is said, over imagery, weights and a part of the quota as of the service.

    Args:
        said: the value ``export`` (Any: JSON, which ``ExportJob`` checks).
        service: the ``args:`` of the overlay.

    Raises:
        InvalidRequest: a job that cannot work here; it says why.
        ModelError: no such model, variant or option.
    """
    if "as_of" in said:
        msg = "export.as_of has no effect here: each start says its own day."
        raise InvalidRequest(msg, hint="To make up for a month say temporal: {start: ..., end: ...} for that run.")
    gee = settings_of(service).providers.gee
    fetch: Tree = {"actors": _ACTORS, "num_cpus": 1, "resources": dict(service["fetch"]["resources"])}
    providers: Tree = {}
    if gee is not None:
        left = max(1, values.provider.quota - (2 if values.gateway else 1) * gee.at_once)
        providers = {"gee": {"workload_tag": _LABEL, "at_once": left}}
        fetch["concurrency"] = max(1, left // _ACTORS)
    derived: Tree = {
        "workers": {"encoders": 1, "num_gpus": 1, "num_cpus": cpus_beside(_part_of_a_gpu(said)), "device": "cuda"},
        "settings": {
            "fetch": fetch,
            "providers": merged(service["providers"], providers),
            "checkpoints": service["checkpoints"],
        },
    }
    tree = merged(derived, said)
    job = _job(tree)
    _check_places(job)
    _check_weights(job, settings_of(service))
    _check_quota(job, values, gee.at_once if gee is not None else 0)
    return tree


def export_groups(tree: Tree, gpu: Gpu, pod: Tree) -> list[Tree]:
    """Operations that make the RayJob's groups as large as its workers want, on GPUs of the right kind.

    Args:
        pod: Ray's resources of one pod with a GPU.

    Raises:
        InvalidRequest: an encoder that no such pod can hold.
    """
    job = _job(tree)
    fetch = settings_of(job.settings).fetch
    sizes = {
        FETCH: math.ceil(fetch.actors / _ON_A_POD),
        ENCODERS: math.ceil(job.workers.encoders / _on_a_gpu(job.workers, float(pod["CPU"]))),
    }
    operations: list[Tree] = [
        {"op": "replace", "path": f"{_GROUPS}/{place}/maxReplicas", "value": max(1, most)}
        for place, most in sizes.items()
    ]
    if gpu.labels:
        path = f"{_GROUPS}/{ENCODERS}/template/spec/nodeSelector"
        operations.append({"op": "add", "path": path, "value": gpu.labels})
    return operations


def _part_of_a_gpu(said: Mapping[str, Any]) -> float:  # Any: as in ``export_file``
    """What is said of it, before it is checked."""
    workers = said.get("workers")
    part = workers.get("num_gpus", 1) if isinstance(workers, Mapping) else 1
    return part if isinstance(part, int | float) else 1


def _on_a_gpu(workers: Workers, cpus: float) -> int:
    """How many encoders a pod with one GPU holds.

    Raises:
        InvalidRequest: it holds none.
    """
    if not 0 < workers.num_gpus <= 1:
        msg = f"export.workers.num_gpus is {workers.num_gpus:g}, and exports compute on pods with one GPU each."
        raise InvalidRequest(msg, hint="Say a part of a GPU, at most 1, and how many encoders there are.")
    if workers.num_cpus > cpus:
        msg = f"export.workers.num_cpus is {workers.num_cpus:g}, and a GPU pod has {cpus:g}."
        raise InvalidRequest(msg, hint="Leave it out.")
    by_cpus = cpus / workers.num_cpus if workers.num_cpus else math.inf
    return int(min(1 / workers.num_gpus, by_cpus) + 1e-9)


def _job(tree: Tree) -> ExportJob:
    try:
        return ExportJob.model_validate(tree)
    except ValidationError as error:
        msg = f"the export is wrong: {'; '.join(mistakes(error, ExportJob, ('export',)))}."
        raise InvalidRequest(msg, hint="docs/guide/export.md describes the job file.") from error


def _check_places(job: ExportJob) -> None:
    if local := [place for place in (job.rois, job.out) if "://" not in place]:
        msg = f"the export's {local[0]} is a path, and its pods have no folder that stays."
        raise InvalidRequest(msg, hint="Give a URL of an object store, such as gs://bucket/folder.")


def _check_weights(job: ExportJob, service: ServiceSettings) -> None:
    """What fetches weights takes the models from the service's own file."""
    served = {default_ask(model)[1].encoder for model in service.models}
    for ask in job.asks().values():
        shared = recipe(ask)
        name = shared.selection.encoder
        variant = shared.card.variant(shared.selection.variant, shared.selection.modality)
        if variant.weights is not None and name not in served:
            msg = f"the export's {name} is not among the models, so nothing fetches its weights."
            raise InvalidRequest(msg, hint="List it there too; with replicas: {min: 0, max: 1} it costs nothing.")


def _check_quota(job: ExportJob, values: Values, of_service: int) -> None:
    gee = settings_of(job.settings).providers.gee
    serving = (2 if values.gateway else 1) * of_service
    if gee is not None and gee.at_once + serving > values.provider.quota:
        raise InvalidRequest(
            f"the export's {gee.at_once} requests at once and the service's {serving} are more than the "
            f"{values.provider.quota} that Earth Engine allows the project.",
            hint="Lower export.settings.providers.gee.at_once or provider.at_once.",
        )
