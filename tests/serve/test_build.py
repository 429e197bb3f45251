"""``build(settings)``: what is wrong with the settings is said before anything starts. No Ray runs here."""

from __future__ import annotations

import inspect

import pytest
from ray.serve import Application

from rs_embed_core.errors import RSEmbedError, UnknownModel, UnknownOption
from serve_app.app import build
from serve_app.settings import ServiceSettings


def _settings(*models: dict[str, object]) -> ServiceSettings:
    return ServiceSettings.model_validate({"models": models})


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ({"model": "mosaics"}, UnknownModel, "Did you mean mosaiks"),
        ({"model": "galileo", "variant": "giant"}, UnknownOption, "nano, tiny, base"),
    ],
)
def test_models_that_do_not_exist(model: dict[str, object], error: type[RSEmbedError], words: str) -> None:
    with pytest.raises(error, match=words):
        build(_settings({"model": "mosaiks"}, model))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"model": "mosaiks"}, {"model": "mosaiks"}),
        ({"model": "galileo"}, {"model": "galileo", "variant": "nano"}),
        ({"model": "remoteclip"}, {"model": "remoteclip_s2rgb", "variant": "vit_b32"}),
    ],
)
def test_a_variant_twice_under_any_name(first: dict[str, object], second: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="listed twice"):
        build(_settings(first, second))


def test_two_variants_of_a_model_are_two_deployments() -> None:
    assert isinstance(build(_settings({"model": "galileo"}, {"model": "galileo", "variant": "base"})), Application)


def test_serve_makes_the_settings_by_the_annotation() -> None:
    """``serve run`` and a Serve config hand over a dict where the annotation is a text."""
    (settings,) = inspect.signature(build).parameters.values()
    assert settings.annotation is ServiceSettings
