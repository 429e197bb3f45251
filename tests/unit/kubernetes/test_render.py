from __future__ import annotations

from pathlib import Path

import pytest

from rs_embed_core.errors import InvalidRequest, RSEmbedError, UnknownModel, UnknownOption, Unsupported
from serve_app.commands.command import Failed
from serve_app.kubernetes.settings import settings_of
from serve_app.settings import ServiceSettings
from tests.unit.kubernetes.values import EXAMPLES, GPUS, SMALLEST, Render, written, written_settings


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
    kustomization, serve = written(manifests, "kustomization.yaml"), written(manifests, "serve.yaml")
    assert kustomization["kind"] == "Kustomization"
    (application,) = serve["applications"]
    assert application["import_path"] == "serve_app.app:build"
    settings = ServiceSettings.model_validate(application["args"])
    assert settings_of(application["args"]) == settings
    assert ServiceSettings.model_validate(settings.model_dump(mode="json")) == settings
    assert [model.model for model in settings.models] == [model["model"] for model in EXAMPLES[name]["models"]]


def test_the_settings_that_follow_from_values(render: Render, manifests: Path) -> None:
    render(GPUS)
    settings = written_settings(manifests)
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
    settings = written_settings(manifests)
    assert settings.limits.max_rois == 7
    assert settings.limits.timeout_s == 900  # of k8s/base
    assert settings.providers.gee is not None
    assert (settings.providers.gee.project, settings.providers.gee.at_once) == ("my-project", 10)
    assert settings.providers.tessera is not None


def test_deployments_are_only_those_that_there_are(render: Render, manifests: Path) -> None:
    render(GPUS)
    (application,) = written(manifests, "serve.yaml")["applications"]
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
    settings = written_settings(manifests)
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
