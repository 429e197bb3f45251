"""Production names its images by digest. In the repository those are placeholders; a release may have none."""

from __future__ import annotations

import os
import re

import pytest

from tests.k8s.house_rules import containers
from tests.k8s.manifests import Doc, documents, rendered

_PRODUCTION = ["production", "incremental"]
_PLACEHOLDER = re.compile(r"sha256:0{64}|registry\.example\.com|\bmy-(?:project|bucket)\b")


def _without_digest(docs: list[Doc]) -> list[str]:
    images = [container["image"] for _, _, container in containers(docs) if "image" in container]
    assert images
    return [image for image in images if not re.search(r"@sha256:[0-9a-f]{64}$", image)]


@pytest.mark.parametrize("overlay", _PRODUCTION)
def test_production_names_images_by_digest(overlay: str) -> None:
    assert _without_digest(documents(f"overlays/{overlay}")) == []


def test_a_planted_tag_is_found() -> None:
    assert _without_digest(documents("overlays/dev"))


@pytest.mark.skipif("K8S_RELEASE" not in os.environ, reason="of a release: make k8s-check with K8S_RELEASE=1")
@pytest.mark.parametrize("overlay", _PRODUCTION)
def test_a_release_has_no_placeholder(overlay: str) -> None:
    assert sorted(set(_PLACEHOLDER.findall(rendered(f"overlays/{overlay}")))) == []


def test_placeholders_are_found_where_they_are() -> None:
    found = set(_PLACEHOLDER.findall(rendered("overlays/production")))
    assert found in ({f"sha256:{'0' * 64}", "registry.example.com", "my-project", "my-bucket"}, set())
