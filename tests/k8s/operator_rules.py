"""What KubeRay v1.7.0's operator refuses although the API server takes it (validation.go), as lints.

A rule yields a sentence for each violation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import ray

from tests.k8s.manifests import Doc, called, clusters, of_kind

type Rule = Callable[[list[Doc]], Iterator[str]]

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONGEST = {"RayService": 47, "RayJob": 47, "RayCluster": 53, "RayCronJob": 36}
_TOKENS_SINCE = (2, 52)
_GO_DURATION = re.compile(r"([0-9.]+(h|m|s))+|[0-9]+")


def gated_fields(docs: list[Doc]) -> Iterator[str]:
    """Fields and kinds behind feature gates that are off by default."""
    for doc in of_kind(docs, "RayCronJob"):
        yield f"{called(doc)}: needs the gate RayCronJob"
    for cluster in clusters(docs):
        gates = {
            "networkPolicy": "RayClusterNetworkPolicy",
            "tlsOptions": "RayClusterMTLS",
            "historyServerOptions": "RayClusterHistoryServer",
        }
        for field in gates.keys() & cluster.spec.keys():
            yield f"{called(cluster.owner)}: {field} needs the gate {gates[field]}"
        store = cluster.spec.get("gcsFaultToleranceOptions", {})
        if store.get("backend", "redis") != "redis" or "storage" in store:
            yield f"{called(cluster.owner)}: an embedded store needs the gate GCSFaultToleranceEmbeddedStorage"


def ray_version(docs: list[Doc]) -> Iterator[str]:
    """The Ray in the image is the one that this project pins."""
    for cluster in clusters(docs):
        if (version := cluster.spec.get("rayVersion")) != ray.__version__:
            yield f"{called(cluster.owner)}: rayVersion is {version}, Ray is {ray.__version__}"


def token_auth(docs: list[Doc]) -> Iterator[str]:
    for cluster in clusters(docs):
        options = cluster.spec.get("authOptions")
        if options is None:
            continue
        version = tuple(int(part) for part in cluster.spec.get("rayVersion", "0").split(".")[:2])
        if version < _TOKENS_SINCE:
            yield f"{called(cluster.owner)}: tokens need rayVersion 2.52 or later"
        if "enableK8sTokenAuth" in options:
            yield f"{called(cluster.owner)}: enableK8sTokenAuth is for a RayCluster of its own"


def head_service_name(docs: list[Doc]) -> Iterator[str]:
    for cluster in clusters(docs):
        if cluster.head.get("headService", {}).get("metadata", {}).get("name"):
            yield f"{called(cluster.owner)}: headService must have no name, it is the operator's"


def restart_policy(docs: list[Doc]) -> Iterator[str]:
    for cluster in clusters(docs):
        if not cluster.spec.get("enableInTreeAutoscaling"):
            continue
        for name, group in cluster.groups:
            if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
                yield f"{called(cluster.owner)} {name}: restartPolicy must be Never with autoscaler v2"


def resources_once(docs: list[Doc]) -> Iterator[str]:
    for cluster in clusters(docs):
        for name, group in cluster.groups:
            started = group.get("rayStartParams", {})
            if group.get("resources") and started.keys() & {"num-cpus", "num-gpus", "memory", "resources"}:
                yield f"{called(cluster.owner)} {name}: resources in rayStartParams and in the group"
            if "labels" in started:
                yield f"{called(cluster.owner)} {name}: labels go to the group, not to rayStartParams"


def incremental_upgrade(docs: list[Doc]) -> Iterator[str]:
    for doc in of_kind(docs, "RayService"):
        strategy = doc["spec"].get("upgradeStrategy", {})
        if strategy.get("type") not in (None, "None", "NewCluster", "NewClusterWithIncrementalUpgrade"):
            yield f"{called(doc)}: there is no upgradeStrategy {strategy['type']}"
        if strategy.get("type") != "NewClusterWithIncrementalUpgrade":
            continue
        if not doc["spec"]["rayClusterConfig"].get("enableInTreeAutoscaling"):
            yield f"{called(doc)}: an incremental upgrade needs the autoscaler"
        options = strategy.get("clusterUpgradeOptions", {})
        step, surge = options.get("stepSizePercent", -1), options.get("maxSurgePercent", 100)
        if not (
            0 <= step <= surge <= 100 and options.get("intervalSeconds", 0) > 0 and options.get("gatewayClassName")
        ):
            yield f"{called(doc)}: clusterUpgradeOptions {options} are not 0 <= step <= surge <= 100, interval, class"


def names(docs: list[Doc]) -> Iterator[str]:
    for doc in of_kind(docs, *_LONGEST):
        name = doc["metadata"]["name"]
        if len(name) > _LONGEST[doc["kind"]] or not _DNS_1035.fullmatch(name):
            yield f"{called(doc)}: the name is too long or not DNS-1035"
    for cluster in clusters(docs):
        for group in cluster.workers:
            if not _DNS_1123.fullmatch(group["groupName"]):
                yield f"{called(cluster.owner)}: the group {group['groupName']!r} is not DNS-1123"


def cluster_upgrade_strategy(docs: list[Doc]) -> Iterator[str]:
    for cluster in clusters(docs):
        if "upgradeStrategy" in cluster.spec:
            yield f"{called(cluster.owner)}: upgradeStrategy of a RayCluster is for one of its own"


def fault_tolerance(docs: list[Doc]) -> Iterator[str]:
    forbidden = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"}
    for cluster in clusters(docs):
        where = called(cluster.owner)
        container = cluster.head["template"]["spec"]["containers"][0]
        for name in sorted(forbidden & {entry["name"] for entry in container.get("env", [])}):
            yield f"{where}: {name} is the operator's to set, from gcsFaultToleranceOptions"
        for name in sorted({"redis-password", "redis-username"} & cluster.head.get("rayStartParams", {}).keys()):
            yield f"{where}: {name} belongs into gcsFaultToleranceOptions"
        annotations = cluster.owner["metadata"].get("annotations", {})
        for name in sorted({"ray.io/ft-enabled", "ray.io/external-storage-namespace"} & annotations.keys()):
            yield f"{where}: the annotation {name} and gcsFaultToleranceOptions exclude each other"
        if "externalStorageNamespace" in cluster.spec.get("gcsFaultToleranceOptions", {}):
            yield f"{where}: a fixed externalStorageNamespace breaks upgrades"


def autoscaler_environment(docs: list[Doc]) -> Iterator[str]:
    for cluster in clusters(docs):
        container = cluster.head["template"]["spec"]["containers"][0]
        if any(entry["name"] == "RAY_enable_autoscaler_v2" for entry in container.get("env", [])):
            yield f"{called(cluster.owner)}: RAY_enable_autoscaler_v2 and autoscalerOptions.version exclude each other"


def initializing_timeout(docs: list[Doc]) -> Iterator[str]:
    for doc in of_kind(docs, "RayService"):
        text = doc["metadata"].get("annotations", {}).get("ray.io/initializing-timeout", "1s")
        if not _GO_DURATION.fullmatch(text) or not re.search("[1-9]", text):
            yield f"{called(doc)}: ray.io/initializing-timeout is {text!r}, not 30m or seconds"


def job_options(docs: list[Doc]) -> Iterator[str]:
    """Options of a RayJob that exclude each other."""
    for doc in of_kind(docs, "RayJob"):
        spec = doc["spec"]
        mode, ends = spec.get("submissionMode", "K8sJobMode"), spec.get("shutdownAfterJobFinishes", False)
        wrong = {
            "suspend needs shutdownAfterJobFinishes": spec.get("suspend") and not ends,
            "ttlSecondsAfterFinished needs shutdownAfterJobFinishes": spec.get("ttlSecondsAfterFinished") and not ends,
            "deletionRules exclude shutdownAfterJobFinishes": spec.get("deletionStrategy", {}).get("deletionRules")
            and ends,
            "clusterSelector excludes suspend, backoffLimit and SidecarMode": spec.get("clusterSelector")
            and (spec.get("suspend") or spec.get("backoffLimit") or mode == "SidecarMode"),
            "neither rayClusterSpec nor clusterSelector": not (
                spec.get("rayClusterSpec") or spec.get("clusterSelector")
            ),
            "InteractiveMode excludes backoffLimit": mode == "InteractiveMode" and spec.get("backoffLimit", 0) > 0,
            "SidecarMode excludes submitterPodTemplate and submitterConfig": mode == "SidecarMode"
            and spec.keys() & {"submitterPodTemplate", "submitterConfig"},
            "backoffLimit is negative": spec.get("backoffLimit", 0) < 0,
            "activeDeadlineSeconds is not positive": spec.get("activeDeadlineSeconds", 1) <= 0,
        }
        yield from (f"{called(doc)}: {text}" for text, is_so in wrong.items() if is_so)


RULES: tuple[Rule, ...] = (
    gated_fields,
    ray_version,
    token_auth,
    head_service_name,
    restart_policy,
    resources_once,
    incremental_upgrade,
    names,
    cluster_upgrade_strategy,
    fault_tolerance,
    autoscaler_environment,
    initializing_timeout,
    job_options,
)
