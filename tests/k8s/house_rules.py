"""What we ask of every pod, policy and reference, whatever it is for. A rule yields a sentence for each violation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.k8s.manifests import Doc, Pod, called, clusters, gateway_pods, of_kind, pods, quantity, selects

type Rule = Callable[[list[Doc]], Iterator[str]]

EXTERNAL = {  # who installs makes these: docs/kubernetes.md
    ("Secret", "rs-embed-ray-token"),
    ("Secret", "rs-embed-redis"),
    ("Secret", "rs-embed-earth-engine"),
}
_ASK_THE_API = {"head", "export-starter"}  # service accounts that ask the API server
_SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|API_KEY|PRIVATE", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"PRIVATE KEY-----|\"private_key\"")
_IMAGE = re.compile(r"[^@:]+(:\d+/[^@:]+)?(:(?P<tag>[\w.-]+))?(@sha256:(?P<digest>[0-9a-f]{64}))?")
_NODE_DISK = 40 * 2**30  # bytes: of 100 GB, the default on GKE, pods may ask for 43.8 GiB
_AGENT_PORT = 52365  # Ray's, of every node; the operator names no port for it


def containers(docs: list[Doc]) -> Iterator[tuple[Pod, str, Doc]]:
    """Every container, and the autoscaler that the operator adds to a head, with where it is."""
    for pod in pods(docs):
        for container in pod.containers:
            yield pod, f"{pod.where} {container['name']}", container
    for pod, cluster in zip((pod for pod in pods(docs) if pod.group == "headgroup"), clusters(docs), strict=True):
        yield pod, f"{pod.where} autoscaler", cluster.spec.get("autoscalerOptions", {})


def resources(docs: list[Doc]) -> Iterator[str]:
    """Requests, and memory that is limited to what is requested: Ray's own guard counts on it."""
    for _, where, container in containers(docs):
        asked, limit = (container.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))
        if "cpu" not in asked or "memory" not in asked:
            yield f"{where}: no request of cpu and memory"
        if asked.get("memory") != limit.get("memory"):
            yield f"{where}: memory limit {limit.get('memory')} is not the request {asked.get('memory')}"


def security(docs: list[Doc]) -> Iterator[str]:
    """What the namespace's policy `restricted` asks for, and a root that cannot be written."""
    for doc in of_kind(docs, "Namespace"):
        if doc["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{called(doc)}: does not enforce the pod security standard restricted"
    for pod in pods(docs):
        shared = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(name)]
        shared += [volume["name"] for volume in pod.spec.get("volumes", []) if "hostPath" in volume]
        shared += [port["name"] for one in pod.containers for port in one.get("ports", []) if "hostPort" in port]
        if shared:
            yield f"{pod.where}: shares with its node: {', '.join(shared)}"
        context = pod.spec.get("securityContext", {})
        profile = context.get("seccompProfile", {}).get("type")
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser") or profile != "RuntimeDefault":
            yield f"{pod.where}: needs runAsNonRoot, runAsUser and the seccomp profile RuntimeDefault"
    for _, where, container in containers(docs):
        context = container.get("securityContext", {})
        closed = context.get("allowPrivilegeEscalation") is False and context.get("readOnlyRootFilesystem") is True
        if not closed or context.get("capabilities") != {"drop": ["ALL"]} or context.get("privileged"):
            yield f"{where}: needs no escalation, a read-only root and all capabilities dropped"


def writable(docs: list[Doc]) -> Iterator[str]:
    """Ray writes to /tmp, and libraries below HOME."""
    for pod, where, container in containers(docs):
        if not pod.group:
            continue
        mounted = {mount["mountPath"] for mount in container.get("volumeMounts", []) if not mount.get("readOnly")}
        home = {entry["name"]: entry.get("value") for entry in container.get("env", [])}.get("HOME")
        if not {"/tmp", home} <= mounted:  # noqa: S108 - a mount path
            yield f"{where}: /tmp and HOME ({home}) must be volumes, the root is read-only"


def images(docs: list[Doc]) -> Iterator[str]:
    for _, where, container in containers(docs):
        image = container.get("image", "of-the-operator:1")
        found = _IMAGE.fullmatch(image)
        if found is None or not (found["digest"] or found["tag"]) or found["tag"] == "latest":
            yield f"{where}: {image} has neither a tag nor a digest, or the tag latest"


def tokens(docs: list[Doc]) -> Iterator[str]:
    """The API server's tokens only for who asks it."""
    for pod in pods(docs):
        mounted = pod.spec.get("automountServiceAccountToken", True)
        if mounted != (pod.spec.get("serviceAccountName") in _ASK_THE_API):
            yield f"{pod.where}: automountServiceAccountToken is {mounted}"


def disruption(docs: list[Doc]) -> Iterator[str]:
    for doc in of_kind(docs, "PodDisruptionBudget"):
        if not isinstance(doc["spec"].get("minAvailable"), int) or "maxUnavailable" in doc["spec"]:
            yield f"{called(doc)}: a RayCluster has no scale subresource: minAvailable, an integer"


def secrets(docs: list[Doc]) -> Iterator[str]:
    for doc in of_kind(docs, "Secret"):
        yield f"{called(doc)}: a Secret does not belong into a repository"
    for _, where, container in containers(docs):
        for entry in container.get("env", []):
            if _SECRET_NAME.search(entry["name"]) and "value" in entry:
                yield f"{where}: {entry['name']} is literal"
    for doc in of_kind(docs, "ConfigMap"):
        yield from (
            f"{called(doc)}: {name} holds a key" for name, text in doc["data"].items() if _SECRET_TEXT.search(text)
        )


def selectors(docs: list[Doc]) -> Iterator[str]:
    """What selects pods selects some."""
    labels = [*(pod.labels for pod in pods(docs)), *gateway_pods(docs)]
    for doc in of_kind(
        docs, "Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "StatefulSet", "Deployment"
    ):
        selector = doc["spec"].get("podSelector", doc["spec"].get("selector", {}))
        if doc["kind"] == "Service":
            selector = {"matchLabels": selector}
        if not any(selects(selector, one) for one in labels):
            yield f"{called(doc)}: its selector matches no pod"
    for pod in pods(docs):
        for constraint in pod.spec.get("topologySpreadConstraints", []):
            if not selects(constraint["labelSelector"], pod.labels):
                yield f"{pod.where}: topologySpreadConstraints do not select the pod itself"


def references(docs: list[Doc]) -> Iterator[str]:
    """Every ConfigMap, Secret, claim and service account is here or on the list of those from outside."""
    known = {(doc["kind"], doc["metadata"]["name"]) for doc in docs} | EXTERNAL
    for pod in pods(docs):
        claims = {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", [])}
        for kind, name in _references(pod):
            if (kind, name) not in known and not (kind == "volume" and name in claims):
                yield f"{pod.where}: there is no {kind} {name}"
    for cluster in clusters(docs):
        store = cluster.spec.get("gcsFaultToleranceOptions", {}).get("redisPassword", {})
        named = {
            cluster.spec.get("authOptions", {}).get("secretName"),
            store.get("valueFrom", {}).get("secretKeyRef", {}).get("name"),
        }
        for name in named - {None}:
            if ("Secret", name) not in known:
                yield f"{called(cluster.owner)}: there is no Secret {name}"


def _references(pod: Pod) -> Iterator[tuple[str, str]]:
    if account := pod.spec.get("serviceAccountName"):
        yield "ServiceAccount", account
    sources = {"configMap": ("ConfigMap", "name"), "secret": ("Secret", "secretName")}
    sources["persistentVolumeClaim"] = ("PersistentVolumeClaim", "claimName")
    for volume in pod.spec.get("volumes", []):
        yield from ((kind, volume[source][name]) for source, (kind, name) in sources.items() if source in volume)
    volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
    for container in pod.containers:
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        yield from (("volume", name) for name in mounted - volumes)
        yield from _variables(container)


def _variables(container: Doc) -> Iterator[tuple[str, str]]:
    """Where the container's environment comes from."""
    kinds = {
        "secretKeyRef": "Secret",
        "configMapKeyRef": "ConfigMap",
        "secretRef": "Secret",
        "configMapRef": "ConfigMap",
    }
    sources = [entry.get("valueFrom", {}) for entry in container.get("env", [])] + container.get("envFrom", [])
    for source in sources:
        yield from ((kind, source[key]["name"]) for key, kind in kinds.items() if key in source)


def ports(docs: list[Doc]) -> Iterator[str]:
    """Ports have names, and probes and Services use ports that exist."""
    for _, where, container in containers(docs):
        own = container.get("ports", [])
        yield from (f"{where}: port {port['containerPort']} has no name" for port in own if not port.get("name"))
        known = {port.get("name") for port in own} | {port["containerPort"] for port in own} | {_AGENT_PORT}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container.get(probe, {})
            port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port", _AGENT_PORT)
            if port not in known:
                yield f"{where}: {probe} asks port {port}, which is not there"


def mounts(docs: list[Doc]) -> Iterator[str]:
    """No path and no variable twice, no volume that nobody mounts."""
    for pod in pods(docs):
        used = set()
        for container in pod.containers:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            variables = [entry["name"] for entry in container.get("env", [])]
            used |= {mount["name"] for mount in container.get("volumeMounts", [])}
            if len(set(paths)) < len(paths) or len(set(variables)) < len(variables):
                yield f"{pod.where} {container['name']}: a mount path or a variable stands twice"
        for volume in pod.spec.get("volumes", []):
            if volume["name"] not in used:
                yield f"{pod.where}: nobody mounts {volume['name']}"
            if "emptyDir" in volume and not volume["emptyDir"].get("sizeLimit"):
                yield f"{pod.where}: {volume['name']} has no sizeLimit"


def shared_memory(docs: list[Doc]) -> Iterator[str]:
    """Ray's object store fits its /dev/shm, and that leaves the container half of its memory."""
    for cluster in clusters(docs):
        for name, group in cluster.groups:
            spec = group["template"]["spec"]
            ray = spec["containers"][0]
            mounted = {mount["mountPath"]: mount["name"] for mount in ray["volumeMounts"]}.get("/dev/shm")  # noqa: S108 - as above
            volume = {entry["name"]: entry.get("emptyDir", {}) for entry in spec["volumes"]}.get(mounted, {})
            store = float(group["rayStartParams"].get("object-store-memory", 0))
            size, memory = quantity(volume.get("sizeLimit", 0)), quantity(ray["resources"]["limits"]["memory"])
            fits = 0.85 * size <= store <= 0.95 * size and 0 < size <= memory / 2
            if volume.get("medium") != "Memory" or not fits:
                where = f"{called(cluster.owner)} {name}"
                yield f"{where}: object store {store:.0f}, /dev/shm {size:.0f} and memory {memory:.0f} do not fit"


def node_disk(docs: list[Doc]) -> Iterator[str]:
    """A pod fits the disk that nodes have if nobody says more, and asks for what its cache and weights may grow to."""
    for pod in pods(docs):
        asked = max(sum(map(_disk, pod.spec["containers"])), *map(_disk, pod.containers))
        volumes = {volume["name"]: volume.get("emptyDir", {}) for volume in pod.spec.get("volumes", [])}
        kept = sum(quantity(volumes.get(name, {}).get("sizeLimit", 0)) for name in ("cache", "weights"))
        if not kept <= asked <= _NODE_DISK:
            yield f"{pod.where}: keeps {kept / 2**30:.0f} GiB on its node's disk and asks for {asked / 2**30:.0f}"


def _disk(container: Doc) -> float:
    return quantity(container["resources"].get("requests", {}).get("ephemeral-storage", 0))


def labels(docs: list[Doc]) -> Iterator[str]:
    """Ray's pods have a label of ours: the operator's name the cluster, which changes with each upgrade."""
    for pod in pods(docs):
        if pod.group and pod.labels.get("app.kubernetes.io/instance") != "rs-embed":
            yield f"{pod.where}: no label app.kubernetes.io/instance: rs-embed"


RULES: tuple[Rule, ...] = (
    resources,
    security,
    writable,
    images,
    tokens,
    disruption,
    secrets,
    selectors,
    references,
    ports,
    mounts,
    shared_memory,
    node_disk,
    labels,
)
