from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.commands.command import Failed
from serve_app.kubernetes.settings import settings_of
from serve_app.settings import ServiceSettings
from tests.unit.kubernetes.values import CPUS, EXAMPLES, GPUS, SMALLEST, Render, written, written_settings


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
    assert (settings.providers.gee.project, settings.providers.gee.at_once) == ("my-project", 16)
    assert settings.fetch.actors * settings.fetch.concurrency == 16  # the gateway: two clusters serve at once
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


def test_a_quota_that_google_raised_is_used(render: Render, manifests: Path) -> None:
    render(
        {**GPUS, "gateway": False, "provider": {"name": "gee", "project": "p", "quota": 200}, "fetch": {"actors": 8}}
    )
    settings = written_settings(manifests)
    assert settings.providers.gee is not None
    assert settings.providers.gee.at_once == 160
    assert settings.fetch.actors * settings.fetch.concurrency == 160


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


def test_what_is_to_be_done_by_hand_is_said(render: Render) -> None:
    said = render({**CPUS, "models": [{"model": "fomo"}, {"model": "mosaiks"}]})
    assert any(line.startswith("fomo") and "on no Hub" in line and "of the volume" in line for line in said)
    said = render({**SMALLEST, "models": [{"model": "tessera"}], "settings": {"providers": {"tessera": {}}}})
    assert any("PACKAGES=geotessera" in line for line in said)
    assert not any("by hand" in line or "on no Hub" in line for line in render(GPUS))
