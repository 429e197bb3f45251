"""Who may reach whom: the policies that select a pod, taken together. A rule yields a sentence for each violation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.k8s.manifests import Doc, called, clusters, gateway_pods, of_kind, pods, selects

type Rule = Callable[[list[Doc]], Iterator[str]]

# Peers as `_peer` spells them.
_ANYWHERE = "anywhere"
_WORLD = "0.0.0.0/0"
_PUBLIC = "0.0.0.0/0 but 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16"
_NAMED = "namespace kubernetes.io/metadata.name="
_CALLERS = "namespace rs-embed/access=requests"
_OPERATOR = f"{_NAMED}kuberay-operator pods app.kubernetes.io/name=kuberay-operator"
_MONITORING = f"{_NAMED}monitoring"
_OURS = "pods app.kubernetes.io/instance=rs-embed"
_WORKERS = f"{_OURS}, ray.io/node-type=worker"
_GATEWAY = "pods gateway.networking.k8s.io/gateway-name=rs-embed-gateway"
_HEADS = "pods ray.io/node-type In head, redis-cleanup"
_REDIS = "pods app.kubernetes.io/name=rs-embed-redis"
_RESOLVERS = (f"{_NAMED}kube-system", "169.254.20.10/32", "169.254.169.254/32")
_TOKENS = ("169.254.169.254/32", "169.254.169.252/32")  # of the cloud's metadata server

_ALL = frozenset({"all"})
_DNS = frozenset({"53", "53/UDP"})
_HTTPS = frozenset({"443"})
_SERVE, _HTTP = frozenset({"8000"}), frozenset({"80"})


@dataclass(frozen=True)
class Way:
    """That pods of a role may be reached by, or reach, a peer on these ports.

    Attributes:
        needed: whether nothing works without it.
    """

    role: str
    peer: str
    ports: frozenset[str]
    needed: bool = False


_INTO = (
    Way("worker", _CALLERS, _SERVE, needed=True),
    Way("worker", _GATEWAY, _SERVE),
    Way("gateway", _CALLERS, _HTTP, needed=True),
    Way("head", _OPERATOR, frozenset({"8265", "8000"}), needed=True),
    Way("ray", _MONITORING, frozenset({"8080", "44217", "44227"})),
    Way("ours", _OURS, _ALL, needed=True),
    Way("redis", _HEADS, frozenset({"6379"}), needed=True),
)
_OUT_OF = (
    *(Way("any", resolver, _DNS, needed=True) for resolver in _RESOLVERS),
    *(Way("fetch", server, frozenset({"80", "988"})) for server in _TOKENS),
    Way("fetch", _PUBLIC, _HTTPS, needed=True),
    Way("weights", _PUBLIC, _HTTPS, needed=True),
    Way("encoders that fetch", _PUBLIC, _HTTPS, needed=True),
    Way("weights", _TOKENS[0], frozenset({"80", "988"})),  # the policy is that of the fetch pods
    Way("weights", _TOKENS[1], frozenset({"80", "988"})),
    Way("head", _WORLD, frozenset({"443", "6443"}), needed=True),
    Way("starter", _WORLD, frozenset({"443", "6443"}), needed=True),
    Way("head", _REDIS, frozenset({"6379"})),
    Way("ray", _MONITORING, frozenset({"4318"})),
    Way("ours", _OURS, _ALL, needed=True),
    Way("gateway", _WORKERS, _SERVE, needed=True),
    Way("gateway", f"{_NAMED}istio-system", frozenset({"15012"}), needed=True),
)
_WAYS = {"ingress": _INTO, "egress": _OUT_OF}


def closed(docs: list[Doc]) -> Iterator[str]:
    """Everything is forbidden first."""
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(policy["spec"] == everything for policy in of_kind(docs, "NetworkPolicy")):
        yield "no NetworkPolicy forbids everything that is not allowed"


def ways(docs: list[Doc]) -> Iterator[str]:
    """No pod reaches, or is reached by, more than its role needs, whichever policy says so."""
    for where, labels in _subjects(docs):
        roles = _roles(labels)
        for direction, known in _WAYS.items():
            for peer, ports in _open(docs, labels, direction):
                allowed = {port for way in known if way.role in roles and way.peer == peer for port in way.ports}
                if not ports <= allowed and "all" not in allowed:
                    yield f"{where}: {direction} {peer} on {sorted(ports - allowed)}"


def needed(docs: list[Doc]) -> Iterator[str]:
    """What nothing works without is open."""
    for where, labels in _subjects(docs):
        roles = _roles(labels)
        for direction, known in _WAYS.items():
            there = list(_open(docs, labels, direction))
            for way in known:
                ports = {port for peer, ports in there if peer == way.peer for port in ports}
                if way.needed and way.role in roles and not way.ports <= ports:
                    yield f"{where}: no {direction} {way.peer} on {sorted(way.ports - ports)}"


def gateway(docs: list[Doc]) -> Iterator[str]:
    """Where the operator makes a Gateway, its proxies reach the workers."""
    if not gateway_pods(docs):
        return
    for where, labels in _subjects(docs):
        if "worker" in _roles(labels) and (_GATEWAY, _SERVE) not in list(_open(docs, labels, "ingress")):
            yield f"{where}: the Gateway's proxies cannot ask it"


def services(docs: list[Doc]) -> Iterator[str]:
    """Nothing is opened to the outside of the cluster."""
    specs = [(called(doc), doc["spec"]) for doc in of_kind(docs, "Service")]
    specs += [(called(doc), doc["spec"].get("serveService", {}).get("spec", {})) for doc in of_kind(docs, "RayService")]
    for cluster in clusters(docs):
        head = cluster.head
        specs.append((f"{called(cluster.owner)} head", head.get("headService", {}).get("spec", {})))
        specs.append((f"{called(cluster.owner)} head", {"type": head.get("serviceType", "ClusterIP")}))
        if head.get("enableIngress"):
            yield f"{called(cluster.owner)}: an Ingress points at the head"
    for where, spec in specs:
        if spec.get("type", "ClusterIP") != "ClusterIP" or spec.get("externalIPs"):
            yield f"{where}: a Service of type {spec.get('type')}, or with external addresses"


def _subjects(docs: list[Doc]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each pod is, and its labels."""
    yield from ((pod.where, pod.labels) for pod in pods(docs))
    yield from (("the Gateway's proxy", labels) for labels in gateway_pods(docs))


def _roles(labels: dict[str, str]) -> set[str]:
    roles = {"any", labels.get("ray.io/node-type", ""), labels.get("ray.io/group", "")}
    roles |= {labels.get("app.kubernetes.io/name", "").removeprefix("rs-embed-").removeprefix("export-")}
    if labels.get("rs-embed/egress") == "weights":  # the component weights-cache
        roles.add("encoders that fetch")
    named = {"ours": "app.kubernetes.io/instance", "ray": "ray.io/is-ray-node"}
    named["gateway"] = "gateway.networking.k8s.io/gateway-name"
    return roles | {role for role, label in named.items() if label in labels}


def _open(docs: list[Doc], labels: dict[str, str], direction: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Peers and ports of every rule that holds for a pod."""
    side = {"ingress": "from", "egress": "to"}[direction]
    for policy in of_kind(docs, "NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], labels):
            for rule in policy["spec"].get(direction, []):
                ports = frozenset(_port(port) for port in rule.get("ports", [])) or _ALL
                yield from ((_peer(peer), ports) for peer in rule.get(side) or [{}])


def _port(port: Doc) -> str:
    text = str(port.get("port", "all")) + (f"-{port['endPort']}" if "endPort" in port else "")
    return text if port.get("protocol", "TCP") == "TCP" else f"{text}/{port['protocol']}"


def _peer(peer: Doc) -> str:
    if "ipBlock" in peer:
        spared = ", ".join(peer["ipBlock"].get("except", []))
        return peer["ipBlock"]["cidr"] + (f" but {spared}" if spared else "")
    sides = {"namespace": "namespaceSelector", "pods": "podSelector"}
    return " ".join(f"{word} {_selector(peer[key])}" for word, key in sides.items() if key in peer) or _ANYWHERE


def _selector(selector: Doc) -> str:
    parts = [f"{key}={value}" for key, value in sorted(selector.get("matchLabels", {}).items())]
    expressions = selector.get("matchExpressions", [])
    parts += [f"{one['key']} {one['operator']} {', '.join(one.get('values', []))}" for one in expressions]
    return ", ".join(parts) or "any"


RULES: tuple[Rule, ...] = (closed, ways, needed, gateway, services)
