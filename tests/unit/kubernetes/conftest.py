from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
import yaml

from serve_app.commands import k8s
from tests.unit.kubernetes.values import Render

TREE = Path(__file__).resolve().parents[3]


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
