"""What `rs-embed k8s render` writes keeps every rule that the written overlays keep."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve_app.app import build
from serve_app.kubernetes.manifests import Manifests
from serve_app.kubernetes.overlay import render
from serve_app.kubernetes.values import Values
from tests.k8s import cluster_rules, crd, house_rules, network_rules, operator_rules, service_rules
from tests.k8s.manifests import K8S, KUBECTL, Doc
from tests.k8s.serve_config import serve_config, settings_of, unknown_keys
from tests.unit.kubernetes.values import EXAMPLES, GPUS

RULES = tuple(
    rule for rules in (cluster_rules, house_rules, network_rules, operator_rules, service_rules) for rule in rules.RULES
)
_KUBERNETES = "1.37.0"
_OTHERS = {"PodMonitor", "PrometheusRule"}  # of the Prometheus operator: looked at in test_monitoring.py


_EXPORT = {"rois": "gs://bucket/rois.parquet", "out": "gs://bucket/out", "models": ["galileo"]}
_MORE = {
    "exports": {**GPUS, "export": _EXPORT},
    "fetched by each pod": {**GPUS, "export": _EXPORT, "weights": "cache"},
}


@pytest.fixture(scope="module", params=[*EXAMPLES, *_MORE])
def overlay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a rendered overlay, in a copy of k8s/."""
    tree = tmp_path_factory.mktemp("tree") / "k8s"
    shutil.copytree(K8S, tree)
    folder = tree / "overlays" / "mine"
    folder.mkdir()
    values = Values.model_validate((EXAMPLES | _MORE)[request.param])
    for name, text in render(values, Manifests(tree), folder, "values.yaml").items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def docs(overlay: Path) -> list[Doc]:
    """The objects of it."""
    built = subprocess.run([KUBECTL, "kustomize", str(overlay)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(built.stdout))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_is_kept(rule: house_rules.Rule, docs: list[Doc]) -> None:
    assert list(rule(docs)) == []


def test_objects_are_strictly_valid(docs: list[Doc]) -> None:
    for doc in docs:
        if doc["kind"] in crd.KINDS:
            assert crd.mistakes(doc) == []
        elif doc["kind"] not in _OTHERS:
            kubernetes_validate.validate(doc, _KUBERNETES, strict=True)


def test_serve_takes_its_config_and_build_its_settings(docs: list[Doc]) -> None:
    config = serve_config(docs)
    ServeDeploySchema.model_validate(config)
    assert unknown_keys(config) == []
    build(settings_of(config))


def test_paths_in_it_are_relative(overlay: Path) -> None:
    tree = str(overlay.parents[2])
    assert [path.name for path in overlay.iterdir() if tree in path.read_text()] == []
