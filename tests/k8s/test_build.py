"""Every overlay builds, and every object in it is one that its API knows, field by field."""

from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.k8s import crd
from tests.k8s.manifests import K8S, OVERLAYS, Doc, called, documents, service

_FOLDERS = ["base", *(f"overlays/{name}" for name in OVERLAYS)]
_KUBERNETES = "1.37.0"
_OTHERS = {"PodMonitor", "PrometheusRule"}  # of the Prometheus operator: looked at in test_prometheus_operator.py


def _core_mistakes(doc: Doc) -> str:
    try:
        kubernetes_validate.validate(doc, _KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{called(doc)}: {error.message} at {'.'.join(map(str, error.path))}"
    return ""


def test_there_are_overlays() -> None:
    assert {"cpu-only", "dev", "incremental", "production"} <= set(OVERLAYS)


def test_every_component_is_in_some_overlay() -> None:
    """Or in one that `rs-embed k8s render` writes: test_rendered.py."""
    components = {path.parent.name for path in K8S.glob("components/*/kustomization.yaml")}
    used = {"weights-cache"}
    for name in OVERLAYS:
        overlay = yaml.safe_load((K8S / "overlays" / name / "kustomization.yaml").read_text())
        used |= {path.rsplit("/", 1)[-1] for path in overlay.get("components", [])}
    assert components == used


@pytest.mark.parametrize("folder", _FOLDERS)
def test_objects_are_strictly_valid(folder: str) -> None:
    for doc in documents(folder):
        if doc["kind"] in crd.KINDS:
            assert crd.mistakes(doc) == []
        elif doc["kind"] not in _OTHERS:
            assert _core_mistakes(doc) == ""


@pytest.mark.parametrize("folder", _FOLDERS)
def test_no_object_stands_twice(folder: str) -> None:
    names = [(doc["apiVersion"], called(doc), doc["metadata"].get("namespace")) for doc in documents(folder)]
    assert len(names) == len(set(names))


def _set(doc: Doc, path: str, value: Any) -> Doc:
    doc = copy.deepcopy(doc)
    *above, last = path.split(".")
    at: Any = doc
    for name in above:
        at = at[int(name) if name.isdigit() else name]
    at[last] = value
    return doc


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.upgradeStrategyy", {"type": "NewCluster"}),
        ("spec.upgradeStrategyy", None),
        ("spec.rayClusterConfig.workerGroupSpecs.0.minReplicas", "one"),
        ("spec.rayClusterConfig.autoscalerOptions.version", "v3"),
        ("spec.rayClusterConfig.workerGroupSpecs.0.template.spec.containers.0.resourcez", {}),
        ("spec.rayClusterConfig.workerGroupSpecs.0.template.spec.containers.0.livenessProbe.httpGet.pth", "/"),
        ("spec.rayClusterConfig.gcsFaultToleranceOptions", {"redisAdress": "redis:6379"}),
        ("spec.rayClusterConfig.workerGroupSpecs.0.groupName", 7),
        ("spec.rayClusterConfig.headGroupSpec.template.spec.volumes.0.emptyDir.sizeLimt", "1Gi"),
    ],
)
def test_a_planted_mistake_in_a_rayservice_is_reported(path: str, value: object) -> None:
    assert crd.mistakes(_set(service(documents("base")), path, value))


def test_a_field_that_is_missing_is_reported() -> None:
    doc = service(documents("base"))
    del doc["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    assert crd.mistakes(doc)


def test_what_the_api_server_fills_in_may_be_left_out() -> None:
    doc = service(documents("base"))
    group = doc["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    del group["minReplicas"], group["maxReplicas"]
    group["template"]["spec"]["nodeSelector"] = None
    assert crd.mistakes(doc) == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("PodDisruptionBudget", "spec.minAvailble", 1),
        ("NetworkPolicy", "spec.policyType", ["Ingress"]),
        ("ServiceAccount", "automountServiceAccountToken", "no"),
    ],
)
def test_a_planted_mistake_in_a_core_object_is_reported(kind: str, path: str, value: object) -> None:
    doc = next(doc for doc in documents("base") if doc["kind"] == kind)
    assert _core_mistakes(doc) == ""
    assert _core_mistakes(_set(doc, path, value))
