"""serveConfigV2 of every overlay: no unknown key, settings that are ones, deployments that exist."""

from __future__ import annotations

import copy

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from rs_embed_core.registry import get_card
from serve_app.app import build
from serve_app.deployments.encoder import LiveConfig
from serve_app.router import default_ask
from tests.k8s.manifests import K8S, OVERLAYS, Doc, documents
from tests.k8s.serve_config import application, serve_config, settings_of, unknown_keys

_FOLDERS = ["base", *(f"overlays/{name}" for name in OVERLAYS)]
_OWN = [folder for folder in _FOLDERS if (K8S / folder / "serve.yaml").is_file()]


@pytest.fixture(params=_FOLDERS)
def config(request: pytest.FixtureRequest) -> Doc:
    return serve_config(documents(request.param))


def test_serve_takes_it_and_knows_every_key(config: Doc) -> None:
    ServeDeploySchema.model_validate(config)
    assert unknown_keys(config) == []


def test_build_takes_the_settings(config: Doc) -> None:
    settings = settings_of(config)
    build(settings)
    assert settings.name == application(config)["name"]


def test_deployments_are_those_of_the_application(config: Doc) -> None:
    settings = settings_of(config)
    encoders = {default_ask(model)[1].encoder for model in settings.models if get_card(model.model)[0].product is None}
    for entry in application(config).get("deployments", []):
        assert entry["name"] in encoders | {"router"}
        if entry["name"] == "router":
            assert "num_replicas" not in entry, "http.routers says how many"
        assert set(entry.get("user_config", {})) <= set(LiveConfig.__annotations__)


@pytest.mark.parametrize("folder", _OWN)
def test_an_overlay_renders_its_own_serve_yaml(folder: str) -> None:
    assert serve_config(documents(folder)) == yaml.safe_load((K8S / folder / "serve.yaml").read_text())


def test_every_overlay_has_one_or_takes_production_s() -> None:
    assert set(_FOLDERS) - set(_OWN) == {"overlays/incremental"}
    assert serve_config(documents("overlays/incremental")) == serve_config(documents("overlays/production"))


def _planted(config: Doc, path: str, value: object) -> Doc:
    config = copy.deepcopy(config)
    *above, last = path.split(".")
    at = config
    for name in above:
        at = at[int(name)] if name.isdigit() else at.setdefault(name, {})
    at[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("proxy_locaton", "EveryNode"),
        ("http_options.request_timeout", 60),
        ("applications.0.route_prefx", "/"),
        ("applications.0.deployments.0.autoscaling_confg", {"min_replicas": 1}),
        ("applications.0.deployments.0.autoscaling_config.min_replica", 1),
        ("applications.0.deployments.0.ray_actor_options.num_gpu", 1),
    ],
)
def test_a_planted_key_that_serve_passes_over_is_found(path: str, value: object) -> None:
    planted = _planted(serve_config(documents("overlays/production")), path, value)
    ServeDeploySchema.model_validate(planted)  # Serve takes it
    assert unknown_keys(planted) == [path.replace(".0", "[0]")]


def test_an_unknown_setting_is_refused() -> None:
    config = _planted(serve_config(documents("base")), "applications.0.args.fetch.actor", 3)
    with pytest.raises(ValidationError, match=r"fetch\.actor"):
        settings_of(config)
