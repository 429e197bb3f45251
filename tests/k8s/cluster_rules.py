"""What we ask of every Ray cluster: tokens, scaling, probes, GPUs, a head that lasts. A rule yields a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.k8s.manifests import Cluster, Doc, called, clusters, of_kind

type Rule = Callable[[list[Doc]], Iterator[str]]

_AGENT = {"path": "/api/healthz", "port": 52365}  # what Ray's agent answers on every node
_GCS = {"path": "/api/gcs_healthz", "port": "dashboard"}
_RAYLET = {"path": "/api/local_raylet_healthz", "port": 52365}
_READY = ["python", "/etc/rs-embed/scripts/ready.py"]
_GPU = "nvidia.com/gpu"
_SPOT = {"cloud.google.com/gke-spot", "karpenter.sh/capacity-type", "kubernetes.azure.com/scalesetpriority"}
_STAY = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


def ray_tokens(docs: list[Doc]) -> Iterator[str]:
    """Ray takes no command without the token, and the token is one for all clusters of all upgrades."""
    for cluster in clusters(docs):
        options = cluster.spec.get("authOptions", {})
        if options.get("mode") != "token" or not options.get("secretName"):
            yield f"{called(cluster.owner)}: authOptions are {options}, not the mode token and a secretName"


def scaling(docs: list[Doc]) -> Iterator[str]:
    for cluster in clusters(docs):
        version = cluster.spec.get("autoscalerOptions", {}).get("version")
        if cluster.spec.get("enableInTreeAutoscaling") is not True or version != "v2":
            yield f"{called(cluster.owner)}: pods do not come and go: enableInTreeAutoscaling, version v2"


def gpu_groups(docs: list[Doc]) -> Iterator[str]:
    """Who offers Ray a GPU has one, and may stand on its node; nobody else takes one."""
    for cluster in clusters(docs):
        for name, group in cluster.groups:
            spec = group["template"]["spec"]
            offered = group.get("resources", {}).get("GPU", "0")
            had = {key: spec["containers"][0]["resources"][key].get(_GPU, "0") for key in ("requests", "limits")}
            if set(had.values()) != {offered}:
                yield f"{called(cluster.owner)} {name}: offers {offered} GPUs and has {had}"
            tolerated = any(one.get("key") == _GPU for one in spec.get("tolerations", []))
            if tolerated != (offered != "0"):
                yield f"{called(cluster.owner)} {name}: tolerates the taint of GPU nodes: {tolerated}"


def probes(docs: list[Doc]) -> Iterator[str]:
    """Our own: the operator's start a shell and wget each time, and call a worker unready after one miss."""
    for cluster in clusters(docs):
        for name, group in cluster.groups:
            ray = group["template"]["spec"]["containers"][0]
            live, ready = (ray.get(f"{kind}nessProbe", {}) for kind in ("live", "readi"))
            if live.get("httpGet") != _AGENT:
                yield f"{called(cluster.owner)} {name}: the liveness probe does not ask Ray's agent: {live}"
            if not _says_ready(cluster, name, ready):
                yield f"{called(cluster.owner)} {name}: the readiness probe is {ready}"


def _says_ready(cluster: Cluster, group: str, probe: Doc) -> bool:
    if group == "headgroup":
        return probe.get("httpGet") == _GCS
    if cluster.owner["kind"] == "RayService":
        return probe.get("exec", {}).get("command") == _READY
    return probe.get("httpGet") == _RAYLET


def session(docs: list[Doc]) -> Iterator[str]:
    """Head and autoscaler share a volume of ours at /tmp/ray: the operator would add its own, without a limit."""
    for cluster in clusters(docs):
        ray = cluster.head["template"]["spec"]["containers"][0]
        for who, container in (("head", ray), ("autoscaler", cluster.spec.get("autoscalerOptions", {}))):
            mounted = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
            if mounted.get("/tmp/ray") != "ray-logs":  # noqa: S108 - a mount path
                yield f"{called(cluster.owner)} {who}: mounts {mounted.get('/tmp/ray')} at /tmp/ray"  # noqa: S108 - as above


def lasting_head(docs: list[Doc]) -> Iterator[str]:
    """Where there is Redis, the service's head keeps its state there."""
    redis = {doc["metadata"]["name"] for doc in of_kind(docs, "StatefulSet")} & {"rs-embed-redis"}
    for doc in of_kind(docs, "RayService"):
        store = doc["spec"]["rayClusterConfig"].get("gcsFaultToleranceOptions", {})
        if redis and store.get("redisAddress") != "rs-embed-redis:6379":
            yield f"{called(doc)}: nobody uses Redis: gcsFaultToleranceOptions are {store}"
        if store and not store.get("redisPassword", {}).get("valueFrom"):
            yield f"{called(doc)}: Redis' password is not from a Secret"


def undisturbed(docs: list[Doc]) -> Iterator[str]:
    """Node autoscalers move no pod of the service for tidiness: they wait less than a stream may last.

    Nor what an export cannot lose, its head and its driver; these stand on no node that the cloud takes back.
    """
    for cluster in clusters(docs):
        for name, group in cluster.groups:
            serves, leads = cluster.owner["kind"] == "RayService", name == "headgroup"
            annotations = group["template"]["metadata"].get("annotations", {})
            drives = not serves and name == "fetch"
            if (serves or leads or drives) and not annotations.items() >= _STAY.items():
                yield f"{called(cluster.owner)} {name}: needs the annotations {sorted(_STAY)}"
            if (leads or drives) and _SPOT - set(_shunned(group["template"]["spec"])):
                yield f"{called(cluster.owner)} {name}: may stand on a node that the cloud takes back"


def _shunned(pod: Doc) -> Iterator[str]:
    """Labels of nodes that a pod keeps off where they have a certain value."""
    rules = pod.get("affinity", {}).get("nodeAffinity", {})
    for term in rules.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", []):
        yield from (one["key"] for one in term["matchExpressions"] if one["operator"] == "NotIn")


RULES: tuple[Rule, ...] = (ray_tokens, scaling, gpu_groups, probes, session, lasting_head, undisturbed)
