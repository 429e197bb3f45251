from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import ValidationError

from rs_embed_core.providers.gate import Quota
from serve_app.settings import ProviderSettings, load_settings

_FILE = """
providers:
  default: gee
  gee: {project: of-the-file, at_once: 8}
  stac: {preset: planetary-computer, at_once: 4}
  copernicus: {path: /maps}
fetch: {cache: {disk_path: /chips, disk_mb: 10}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "service.yaml"
    path.write_text(_FILE)
    return path


def test_by_default_no_provider_is_set_up_that_needs_an_account_or_a_network() -> None:
    providers = load_settings().providers
    assert providers.default == "synthetic"
    assert providers.names == ("synthetic",)
    assert providers.cached == ()
    assert providers.quotas == {}


def test_sections_of_a_file(config: Path) -> None:
    settings = load_settings(config)
    providers = settings.providers
    assert providers.names == ("synthetic", "gee", "stac", "copernicus")
    assert providers.cached == ("gee", "stac", "copernicus")
    assert providers.quotas == {"gee": Quota(8, 80), "stac": Quota(4, 1000)}
    assert providers.tessera is None
    assert (settings.fetch.cache.disk_path, settings.fetch.cache.disk_mb) == (Path("/chips"), 10)
    assert (settings.fetch.cache.memory_mb, settings.fetch.cache.no_imagery_s) == (256, 300)


def test_environment_and_flags_change_single_settings_of_a_section(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RS_EMBED_PROVIDERS__GEE__PROJECT", "of-the-environment")
    monkeypatch.setenv("RS_EMBED_PROVIDERS__GEE__PER_SECOND", "10")
    gee = load_settings(config).providers.gee
    assert gee is not None
    assert (gee.project, gee.at_once, gee.per_second) == ("of-the-environment", 8, 10)
    gee = load_settings(config, flags={"providers": {"gee": {"project": "of-the-flag"}}}).providers.gee
    assert gee is not None
    assert (gee.project, gee.at_once, gee.per_second) == ("of-the-flag", 8, 10)


def test_the_environment_alone_sets_a_provider_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RS_EMBED_PROVIDERS__STAC", "{}")
    monkeypatch.setenv("RS_EMBED_PROVIDERS__TESSERA__ROOT", "/tiles")
    providers = load_settings().providers
    assert providers.names == ("synthetic", "stac", "tessera")
    assert providers.stac is not None
    assert providers.stac.preset == "earth-search"
    assert providers.tessera is not None
    assert providers.tessera.root == Path("/tiles")


def test_all_that_a_section_says_is_told_to_the_provider() -> None:
    sections = {
        "gee": {
            "project": "p",
            "url": "high-volume",
            "workload_tag": "maps",
            "at_once": 3,
            "per_second": 7,
            "deadline_s": 60,
        },
        "stac": {"path": "/items", "mask_clouds": True, "max_scenes": 5, "at_once": 3},
        "tessera": {"root": "/tiles", "dataset_variant": "v", "offline": True},
        "copernicus": {"path": "/maps", "minimum_bytes": 1},
    }
    providers = ProviderSettings.model_validate(sections)
    for name, changed in sections.items():
        section = vars(providers)[name]
        said, told = section.model_dump(), vars(section.plain())
        assert set(changed) <= set(said)
        assert {key: told[key] for key in said} == said


def test_a_section_has_the_library_s_settings_and_defaults() -> None:
    providers = ProviderSettings.model_validate({"gee": {}, "stac": {}, "tessera": {}, "copernicus": {}})
    for name in providers.cached:
        section = vars(providers)[name]
        plain = section.plain()
        assert set(type(section).model_fields) == {entry.name for entry in fields(plain)}
        assert plain == type(plain)()


@pytest.mark.parametrize(
    ("providers", "said"),
    [
        ({"gee": {"projekt": "p"}}, "gee.projekt"),
        ({"google": {}}, "google"),
        ({"gee": {"at_once": 0}}, "gee.at_once"),
        ({"stac": {"preset": "mars"}}, "stac.preset"),
        ({"default": "gee"}, "default is 'gee'; set up here are synthetic."),
        ({"default": "geo", "stac": {}}, "default is 'geo'; set up here are synthetic, stac."),
    ],
)
def test_a_mistake_is_named(providers: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        load_settings(flags={"providers": providers})
    assert said in "".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in caught.value.errors())


def test_a_model_has_no_more_replicas_at_least_than_at_most() -> None:
    with pytest.raises(ValidationError, match="min_replicas is 2, max_replicas 1"):
        load_settings(flags={"models": [{"model": "mosaiks", "min_replicas": 2}]})


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        load_settings("nowhere.yaml")
