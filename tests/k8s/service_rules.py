"""What ties the manifests to the settings in serveConfigV2: times, room, places. A rule yields a sentence each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from serve_app.router import default_ask
from serve_app.settings import ServiceSettings
from tests.k8s.manifests import Doc, called, clusters, of_kind, pods, quantity, service
from tests.k8s.serve_config import application, serve_config, settings_of

type Rule = Callable[[list[Doc]], Iterator[str]]

_MARGIN_S = 60
_EARTH_ENGINE_AT_ONCE = 40  # Earth Engine's default limit of a project, on both endpoints together


@dataclass(frozen=True)
class Demand:
    """Replicas or actors that ask for the same resources.

    Attributes:
        most: how many there may be.
        groups: where each of them may be placed; None is anywhere.
    """

    what: str
    each: Mapping[str, float]
    most: int
    groups: frozenset[str] | None = None


def demands(settings: ServiceSettings) -> Iterator[Demand]:
    """What the application asks of Ray."""
    each = {"CPU": settings.http.router_num_cpus, **settings.http.router_resources}
    yield Demand("router", each, settings.http.routers, frozenset({"fetch"}))
    each = {"CPU": settings.fetch.num_cpus, **settings.fetch.resources}
    yield Demand("fetch actor", each, settings.fetch.actors, frozenset({"fetch"}))
    for model in settings.models:
        each = {"CPU": model.num_cpus, "GPU": model.num_gpus, **model.resources}
        only = frozenset({"gpu"}) if model.num_gpus else frozenset({"cpu"}) if model.resources else None
        yield Demand(default_ask(model)[1].encoder, each, model.max_replicas, only)


def node_types(docs: list[Doc]) -> dict[str, Doc]:
    """Worker groups of the service as Ray's own autoscaler reads them."""
    spec = {"workerGroupSpecs": [], **service(docs)["spec"]["rayClusterConfig"]}
    resource = {"metadata": {"name": "rs-embed", "namespace": "rs-embed"}, "spec": spec}
    types: dict[str, Doc] = _derive_autoscaling_config_from_ray_cr(resource)["available_node_types"]
    return {name: entry for name, entry in types.items() if name != "headgroup"}


def room(docs: list[Doc]) -> Iterator[str]:
    """Each replica and actor fits a pod of the group that it belongs to, and of no other; all fit all pods."""
    types = node_types(docs)
    total: Counter[str] = Counter()
    for demand in demands(settings_of(serve_config(docs))):
        fits = {name for name, entry in types.items() if _fits(demand.each, entry["resources"])}
        if not fits or not (demand.groups is None or fits <= demand.groups):
            yield f"{demand.what} ({dict(demand.each)}) fits the groups {sorted(fits)}"
        total.update({name: amount * demand.most for name, amount in demand.each.items()})
    for name, amount in total.items():
        there = sum(entry["resources"].get(name, 0) * entry["max_workers"] for entry in types.values())
        if amount > there:
            yield f"all together ask for {amount:g} {name}, all pods together have {there:g}"


def _fits(each: Mapping[str, float], node: Mapping[str, float]) -> bool:
    return all(amount <= node.get(name, 0) for name, amount in each.items() if amount)


def idle_gpus(docs: list[Doc]) -> Iterator[str]:
    """GPU pods may all go; the head takes no work."""
    cluster = service(docs)["spec"]["rayClusterConfig"]
    if cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "the head takes replicas and fetch actors"
    for group in cluster["workerGroupSpecs"]:
        if "GPU" in group.get("resources", {}) and group.get("minReplicas", 0) > 0:
            yield f"{group['groupName']}: minReplicas is {group['minReplicas']}, so a GPU is always held"


def group_order(docs: list[Doc]) -> Iterator[str]:
    """Patches by index count on it."""
    for cluster in clusters(docs):
        names = [group["groupName"] for group in cluster.workers]
        if names[:1] != ["fetch"] or not set(names[1:]) <= {"gpu", "cpu"}:
            yield f"{called(cluster.owner)}: groups are {names}, not fetch and then gpu or cpu"


def draining(docs: list[Doc]) -> Iterator[str]:
    """A request of the longest duration ends, whatever goes away under it."""
    config = serve_config(docs)
    longest = settings_of(config).limits.timeout_s
    waits = {entry["name"]: entry for entry in application(config)["deployments"]}["router"]
    if waits.get("graceful_shutdown_timeout_s", 20) < longest:
        yield f"the router's graceful_shutdown_timeout_s is below limits.timeout_s ({longest:g})"
    if service(docs)["spec"].get("rayClusterDeletionDelaySeconds", 60) < longest + _MARGIN_S:
        yield f"rayClusterDeletionDelaySeconds is below limits.timeout_s ({longest:g}) + {_MARGIN_S}"
    total = config.get("http_options", {}).get("request_timeout_s")
    if total is not None and total < longest + _MARGIN_S:
        yield f"request_timeout_s {total} cuts streams that limits.timeout_s ({longest:g}) would end properly"
    for pod in pods(docs):
        if pod.owner["kind"] != "RayService" or pod.group == "headgroup":
            continue
        hook = " ".join(
            pod.spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
        )
        waited = re.search(r"drain\.py --seconds (\d+); ray stop", hook)
        if waited is None or float(waited[1]) < longest:
            yield f"{pod.where}: preStop must run drain.py for {longest:g} s, then ray stop"
        elif pod.spec.get("terminationGracePeriodSeconds", 30) < float(waited[1]) + _MARGIN_S:
            yield f"{pod.where}: terminationGracePeriodSeconds is below {waited[1]} + {_MARGIN_S}"


def entrance(docs: list[Doc]) -> Iterator[str]:
    """Requests come to workers, on the port that the manifests name."""
    options = serve_config(docs).get("http_options", {})
    if (options.get("host"), options.get("port")) != ("0.0.0.0", 8000):  # noqa: S104 - in a pod
        yield f"http_options {options}: probes, policies and the Service expect 0.0.0.0:8000"
    if service(docs)["spec"].get("excludeHeadPodFromServeSvc") is not True:
        yield "the head gets requests: excludeHeadPodFromServeSvc"


def haproxy(docs: list[Doc]) -> Iterator[str]:
    """The setting and the variables of every node belong together, and a reload cuts no stream.

    Options of an actor in a Serve config replace those that `build` gives, with the variable that makes a slow reader
    slow its stream: the settings have a word for each of them.
    """
    config = serve_config(docs)
    settings = settings_of(config)
    if any(entry["name"] == "router" and "ray_actor_options" in entry for entry in application(config)["deployments"]):
        yield "the router's ray_actor_options: say http.router_num_cpus and http.router_resources in args"
    for pod in pods(docs):
        if pod.owner["kind"] != "RayService":
            continue
        variables = {entry["name"]: entry.get("value") for entry in pod.spec["containers"][0].get("env", [])}
        is_on = variables.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
        if is_on != settings.http.haproxy:
            yield f"{pod.where}: http.haproxy is {settings.http.haproxy}, RAY_SERVE_ENABLE_HA_PROXY {is_on}"
        longest = settings.limits.timeout_s
        if is_on and float(variables.get("RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S") or 120) < longest + _MARGIN_S:
            yield f"{pod.where}: RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S is below {longest:g} + {_MARGIN_S}"


def quota(docs: list[Doc]) -> Iterator[str]:
    """Requests keep to what a project has, and fetch actors begin no more reads than may be under way."""
    settings = settings_of(serve_config(docs))
    gee = settings.providers.gee
    if gee is None:
        return
    if gee.at_once > _EARTH_ENGINE_AT_ONCE:
        yield f"providers.gee.at_once is {gee.at_once}; a project has {_EARTH_ENGINE_AT_ONCE} by default"
    reads = settings.fetch.actors * settings.fetch.concurrency
    if reads > gee.at_once:
        yield f"{reads} reads at once (fetch.actors x fetch.concurrency) for {gee.at_once} requests at once"


def disk_cache(docs: list[Doc]) -> Iterator[str]:
    cache = settings_of(serve_config(docs)).fetch.cache
    if cache.disk_path is None:
        return
    (spec,) = (pod.spec for pod in pods(docs) if pod.owner["kind"] == "RayService" and pod.group == "fetch")
    mounted = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume.get("emptyDir", {}) for volume in spec["volumes"]}
    size = quantity(volumes.get(mounted.get("/cache"), {}).get("sizeLimit", 0))
    if not cache.disk_path.is_relative_to("/cache") or cache.disk_mb * 1e6 > 0.9 * size:
        yield f"fetch.cache: {cache.disk_mb:g} MB at {cache.disk_path} do not fit the volume at /cache"


def weights(docs: list[Doc]) -> Iterator[str]:
    """Where weights are fetched, whoever computes has them at checkpoints.root, read-only."""
    shared = any(doc["metadata"]["name"] == "rs-embed-weights" for doc in of_kind(docs, "PersistentVolumeClaim"))
    own = any(one["name"] == "weights" for pod in pods(docs) for one in pod.spec.get("initContainers", []))
    if not shared and not own:
        return
    root = str(settings_of(serve_config(docs)).checkpoints.root)
    for pod in pods(docs):
        mounts = pod.spec["containers"][0].get("volumeMounts", [])
        if pod.group in ("gpu", "cpu") and {"name": "weights", "mountPath": root, "readOnly": True} not in mounts:
            yield f"{pod.where}: the weights are not at {root}"


def earth_engine(docs: list[Doc]) -> Iterator[str]:
    """Only fetch pods have Earth Engine's credentials, and as a file."""
    for pod in pods(docs):
        secret = any(
            v.get("secret", {}).get("secretName") == "rs-embed-earth-engine" for v in pod.spec.get("volumes", [])
        )
        variables = {entry["name"]: entry for container in pod.containers for entry in container.get("env", [])}
        named = "GOOGLE_APPLICATION_CREDENTIALS" in variables
        if (secret or named) and pod.group != "fetch":
            yield f"{pod.where}: has Earth Engine's key"
        if named and not str(variables["GOOGLE_APPLICATION_CREDENTIALS"].get("value")).startswith("/var/run/secrets/"):
            yield f"{pod.where}: the key is a file, and the variable its path"
        if pod.spec.get("serviceAccountName") == "fetch" and pod.group != "fetch":
            yield f"{pod.where}: has the service account of the fetch pods"


def offline(docs: list[Doc]) -> Iterator[str]:
    """A pod that serves fetches no weights."""
    for pod in pods(docs):
        if pod.group:
            variables = {entry["name"]: entry.get("value") for entry in pod.spec["containers"][0].get("env", [])}
            if variables.get("HF_HUB_OFFLINE") != "1":
                yield f"{pod.where}: HF_HUB_OFFLINE is not 1"


def budgets(docs: list[Doc]) -> Iterator[str]:
    """A group that keeps two pods or more keeps one while nodes are drained, and no budget keeps a node for ever."""
    least = {
        doc["spec"]["selector"]["matchLabels"].get("ray.io/group"): doc["spec"].get("minAvailable")
        for doc in of_kind(docs, "PodDisruptionBudget")
    }
    for group in service(docs)["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        name, pods_at_least = group["groupName"], group["minReplicas"]
        if pods_at_least > 1 and name not in least:
            yield f"{name}: no PodDisruptionBudget"
        if name in least and not (isinstance(least[name], int) and least[name] < pods_at_least):
            yield f"{name}: {pods_at_least} pods or more, of which {least[name]} must stay: its nodes cannot be drained"


def spread(docs: list[Doc]) -> Iterator[str]:
    """Pods are spread; where two fetch pods are the least, they are on two nodes."""
    for pod in pods(docs):
        if pod.owner["kind"] == "RayService" and pod.group != "headgroup":
            constraints = {entry["topologyKey"]: entry for entry in pod.spec.get("topologySpreadConstraints", [])}
            if constraints.keys() != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
                yield f"{pod.where}: is not spread over zones and nodes"
                continue
            nodes = constraints["kubernetes.io/hostname"]
            apart = nodes["whenUnsatisfiable"] == "DoNotSchedule" and nodes["maxSkew"] == 1
            if pod.group == "fetch" and _least(docs, pod.group) > 1 and not apart:
                yield f"{pod.where}: one node may hold all of them"
            if apart and (nodes.get("nodeTaintsPolicy"), nodes.get("matchLabelKeys")) != ("Honor", ["ray.io/cluster"]):
                yield f"{pod.where}: GPU nodes and the cluster before count as well, and pods stay pending"


def _least(docs: list[Doc], group: str) -> int:
    groups = service(docs)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return next(entry["minReplicas"] for entry in groups if entry["groupName"] == group)


RULES: tuple[Rule, ...] = (
    room,
    idle_gpus,
    group_order,
    draining,
    entrance,
    haproxy,
    quota,
    disk_cache,
    weights,
    earth_engine,
    offline,
    budgets,
    spread,
)
