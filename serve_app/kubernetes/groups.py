"""The worker groups of an overlay, as JSON patches of those in k8s/base: fetch at place 0, encoders at place 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rs_embed_core.errors import InvalidRequest
from serve_app.kubernetes.devices import Gpu
from serve_app.kubernetes.settings import ENCODE, Tree
from serve_app.settings import ModelSettings, ServiceSettings

FETCH, ENCODERS = 0, 1
_GROUPS = "/spec/rayClusterConfig/workerGroupSpecs"


def fetch_group(settings: ServiceSettings, resources: Tree, encoders: Sequence[ModelSettings]) -> list[Tree]:
    """Operations for pods that hold all fetch actors and routers, and twice as many while routers are replaced.

    Args:
        resources: Ray's, of one pod.
        encoders: models that compute here too, because there is no other group without GPUs.

    Raises:
        InvalidRequest: a fetch actor, a router or a replica that no pod can hold.
    """
    router, fetch = settings.http, settings.fetch
    actors = {"CPU": fetch.num_cpus, **fetch.resources}
    _check_fits("a fetch actor", actors, resources)
    _check_fits("a router", {"CPU": router.router_num_cpus, **router.router_resources}, resources)
    _check_replicas(encoders, resources)
    cpus = fetch.actors * fetch.num_cpus + router.routers * router.router_num_cpus
    has = float(resources["CPU"])
    least = max(
        router.routers,
        math.ceil((cpus + _cpus(encoders, least=True)) / has),
        *(math.ceil(fetch.actors / (float(resources[name]) // each)) for name, each in actors.items() if each),
        *_apart(encoders, least=True),
    )
    most = max(2 * least, math.ceil((cpus + _cpus(encoders, least=False)) / has), *_apart(encoders, least=False))
    operations = _sized(FETCH, "fetch", (least, most))
    if encoders:
        operations.append({"op": "add", "path": f"{_GROUPS}/{FETCH}/resources/{ENCODE}", "value": "8"})
    return operations


def gpu_group(gpu: Gpu, settings: ServiceSettings, resources: Tree) -> list[Tree]:
    """Operations for pods with one GPU each, on nodes of its kind.

    Raises:
        InvalidRequest: a model asks for more CPUs than go with its part of a GPU.
    """
    has = float(resources["CPU"])
    for model in settings.models:
        if model.num_gpus and model.num_cpus > has * model.num_gpus:
            raise InvalidRequest(
                f"{model.model} asks for {model.num_cpus:g} CPUs with {model.num_gpus:g} of a GPU.",
                hint=f"A GPU pod has {has:g}, so cpus is at most {int(has * model.num_gpus)}.",
            )
    operations = _sized(ENCODERS, "gpu", (0, gpu.count))  # replicas bring their pods, and none is held without them
    if gpu.labels:
        path = f"{_GROUPS}/{ENCODERS}/template/spec/nodeSelector"
        operations.append({"op": "add", "path": path, "value": gpu.labels})
    return operations


def cpu_group(encoders: Sequence[ModelSettings], resources: Tree) -> list[Tree]:
    """Operations for pods that hold the encoders where there are no GPUs.

    Raises:
        InvalidRequest: a replica that no pod can hold.
    """
    _check_replicas(encoders, resources)
    has, places = float(resources["CPU"]), float(resources[ENCODE])
    replicas = sum(model.max_replicas for model in encoders)
    by_cpus = math.ceil(_cpus(encoders, least=False) / has)
    most = max(1, by_cpus, math.ceil(replicas / places), *_apart(encoders, least=False))
    return _sized(ENCODERS, "cpu", (0, most))


def kept(operations: Sequence[Tree]) -> int:
    """The pods of a group that there are while nobody asks."""
    (least,) = (entry["value"] for entry in operations if entry["path"].endswith("/minReplicas"))
    return int(least)


def _check_fits(who: str, each: Mapping[str, float], pod: Tree) -> None:
    for name, amount in each.items():
        there = float(pod.get(name, 0))
        if amount > there:
            msg = f"{who} asks for {amount:g} {name}, and a fetch pod has {there:g}."
            raise InvalidRequest(msg, hint="Ask for less, or give the group fetch of k8s/base more.")


def _check_replicas(encoders: Iterable[ModelSettings], pod: Tree) -> None:
    has = float(pod["CPU"])
    for model in encoders:
        if model.num_cpus > has:
            msg = f"{model.model} asks for {model.num_cpus:g} CPUs, and a pod has {has:g}."
            raise InvalidRequest(msg, hint="Take more replicas with fewer CPUs each.")


def _replicas(model: ModelSettings, *, least: bool) -> int:
    return model.min_replicas if least else model.max_replicas


def _cpus(models: Iterable[ModelSettings], *, least: bool) -> float:
    return sum(_replicas(model, least=least) * model.num_cpus for model in models)


def _apart(models: Iterable[ModelSettings], *, least: bool) -> list[int]:
    """Pods that models take whose replicas sit on a pod each: those that keep two or more."""
    return [_replicas(model, least=least) for model in models if model.min_replicas > 1]


def _sized(place: int, name: str, replicas: tuple[int, int]) -> list[Tree]:
    """Operations that set a group's size, after a test that it is the right group."""
    least, most = replicas
    return [
        {"op": "test", "path": f"{_GROUPS}/{place}/groupName", "value": name},
        {"op": "replace", "path": f"{_GROUPS}/{place}/minReplicas", "value": least},
        {"op": "replace", "path": f"{_GROUPS}/{place}/maxReplicas", "value": most},
    ]
