"""Policies that open more than is needed, or less: planted for test_rules.py."""

from __future__ import annotations

from collections.abc import Callable

from tests.k8s.manifests import Doc, named, service

type Plant = Callable[[list[Doc]], object]


def _policy(docs: list[Doc], name: str) -> Doc:
    return named(docs, "NetworkPolicy", name)["spec"]


def _peers(docs: list[Doc], name: str, direction: str = "ingress") -> list[Doc]:
    return _policy(docs, name)[direction][0]["from" if direction == "ingress" else "to"]


def _cluster(docs: list[Doc]) -> Doc:
    return service(docs)["spec"]["rayClusterConfig"]


def _gpu_labels(docs: list[Doc]) -> Doc:
    return _cluster(docs)["workerGroupSpecs"][1]["template"]["metadata"]["labels"]


def _allow(direction: str, rule: Doc, **selector: Doc) -> Plant:
    """A plant: another policy, with one rule."""
    policy = {"podSelector": selector, direction: [rule]}
    return lambda docs: docs.append({"kind": "NetworkPolicy", "metadata": {"name": "another"}, "spec": policy})


_HEAD = {"matchLabels": {"ray.io/node-type": "head"}}
_WORLD = {"ipBlock": {"cidr": "0.0.0.0/0"}}

PLANTS: dict[str, list[Plant]] = {
    "closed": [
        lambda docs: docs.remove(named(docs, "NetworkPolicy", "nothing")),
        lambda docs: _policy(docs, "nothing").update(policyTypes=["Ingress"]),
    ],
    "ways": [
        lambda docs: _gpu_labels(docs).update({"rs-embed/egress": "internet"}),
        lambda docs: _policy(docs, "internet").update(podSelector={}),
        lambda docs: _policy(docs, "kube-api").update(podSelector={}),
        lambda docs: _policy(docs, "within").update(egress=[{}]),
        lambda docs: _policy(docs, "within")["ingress"].append({"ports": [{"port": 6379}]}),
        lambda docs: _policy(docs, "names").update(egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}]),
        lambda docs: _policy(docs, "names")["egress"][0].pop("ports"),
        lambda docs: _policy(docs, "requests")["podSelector"]["matchLabels"].update({"ray.io/node-type": "head"}),
        lambda docs: _policy(docs, "requests")["ingress"][0]["ports"].append({"port": 8265}),
        lambda docs: _policy(docs, "requests")["ingress"][0]["ports"][0].update(endPort=65535),
        lambda docs: _peers(docs, "requests").append({"ipBlock": {"cidr": "35.191.0.0/16"}}),
        lambda docs: _peers(docs, "operator").append({"namespaceSelector": {}}),
        lambda docs: _peers(docs, "operator")[0].pop("podSelector"),
        lambda docs: _policy(docs, "metrics")["ingress"][0].pop("ports"),
        lambda docs: _policy(docs, "redis")["ingress"][0].pop("from"),
        lambda docs: _policy(docs, "gateway")["egress"].append({}),
        _allow("ingress", {"from": [_WORLD], "ports": [{"port": 8265}]}, **_HEAD),
        _allow("egress", {"to": [_WORLD]}),
    ],
    "needed": [
        lambda docs: docs.remove(named(docs, "NetworkPolicy", "names")),
        lambda docs: _peers(docs, "names", "egress").pop(1),
        lambda docs: _policy(docs, "names")["egress"][0]["ports"].pop(0),
        lambda docs: docs.remove(named(docs, "NetworkPolicy", "requests")),
        lambda docs: docs.remove(named(docs, "NetworkPolicy", "operator")),
        lambda docs: docs.remove(named(docs, "NetworkPolicy", "redis")),
        lambda docs: docs.remove(named(docs, "NetworkPolicy", "gateway")),
        lambda docs: _policy(docs, "gateway")["egress"].pop(),
        lambda docs: service(docs)["metadata"].update(name="mine"),
    ],
    "gateway": [lambda docs: docs.remove(named(docs, "NetworkPolicy", "gateway-requests"))],
    "services": [
        lambda docs: named(docs, "Service", "rs-embed-redis")["spec"].update(type="NodePort"),
        lambda docs: service(docs)["spec"].update(serveService={"spec": {"type": "LoadBalancer"}}),
        lambda docs: _cluster(docs)["headGroupSpec"].update(serviceType="LoadBalancer"),
        lambda docs: _cluster(docs)["headGroupSpec"].update(enableIngress=True),
    ],
}
