"""docs/kubernetes.md: what a person would paste is at least well formed, and what it names is there."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from serve_app.commands import doctor, embed, k8s, models, weights
from serve_app.kubernetes.manifests import Manifests
from serve_app.kubernetes.overlay import render
from serve_app.kubernetes.values import ModelValues, Replicas, Values
from tests.k8s.containerfile import stages
from tests.k8s.manifests import K8S, KUBECTL, rendered

TREE = Path(__file__).resolve().parents[2]
PAGE = TREE / "docs" / "kubernetes.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
YAML = [code for kind, code in BLOCKS if kind == "yaml"]
SCRIPTS = [code for kind, code in BLOCKS if kind == "bash"]
MADE = ("k8s/overlays/mine", "values.yaml", "key.json", "weights")  # by the reader


def _words(program: str) -> list[list[str]]:
    """The arguments of every call of a program in the page."""
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(SCRIPTS))
    calls = re.findall(rf"(?:^|\s)(?:\S*/)?{program} (.*?)(?:\s+#.*)?$", joined, re.MULTILINE)
    return [call.split() for call in calls]


def test_there_are_blocks_of_known_kinds() -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "yaml"}
    assert TEXT.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_it(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_values_are_values() -> None:
    (code,) = [code for code in YAML if code.startswith("# values.yaml")]
    assert Values.model_validate(yaml.safe_load(code)).gpu is not None


def test_the_export_of_the_values_is_one() -> None:
    (code,) = [code for code in YAML if code.startswith("# values.yaml")]
    (more,) = [code for code in YAML if code.startswith("# of values.yaml")]
    values = Values.model_validate({**yaml.safe_load(code), **yaml.safe_load(more)})
    files = render(values, Manifests(TREE / "k8s"), TREE / "k8s/overlays/mine", "values.yaml")
    assert yaml.safe_load(files["export.yaml"])["settings"]["providers"]["gee"]["at_once"] == 8  # as the page says


@pytest.mark.parametrize("code", [code for code in YAML if "/kustomization.yaml\n" in code])
def test_kustomizations_build_on_a_written_overlay(code: str, tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    below, _, text = code.removeprefix("# ").partition("\n")
    file = tmp_path / below
    file.parent.mkdir()
    file.write_text(text.replace("../mine", "../production"))
    done = subprocess.run([KUBECTL, "kustomize", file.parent], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout != rendered("overlays/production")


def _leaves(section: type[BaseModel]) -> Iterator[str]:
    """Yield the keys that hold a value, not a section of keys."""
    for name, field in section.model_fields.items():
        inner = [part for part in (field.annotation, *typing.get_args(field.annotation)) if isinstance(part, type)]
        sections = [part for part in inner if issubclass(part, BaseModel) and part is not Replicas]
        yield from (leaf for part in sections for leaf in _leaves(part)) if sections else (name,)


def test_every_value_has_its_place_in_the_table() -> None:
    rows = re.findall(r"^\| (`[^|]*) \| [^|]* \| [^|]+ \|$", TEXT, re.MULTILINE)
    listed = {re.split(r"[.\]]+", name)[-1] for row in rows for name in re.findall(r"`([^`]+)`", row)}
    leaves = set(_leaves(Values)) | set(_leaves(ModelValues))
    leaves -= {"models"}
    assert len(leaves) > 20
    assert leaves <= listed


def test_commands_of_rs_embed_parse() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers()
    for command in (doctor, embed, k8s, models, weights):
        command.add(commands)
    calls = _words(r"bin/rs-embed")
    assert len(calls) >= 4
    for words in calls:
        assert parser.parse_args(words).run is not None


def test_builds_name_stages_of_the_dockerfile() -> None:
    targets = re.findall(r"--target (\w+)", TEXT)
    assert targets
    assert set(targets) <= set(stages((TREE / "Dockerfile").read_text()))


def test_files_that_it_names_are_there() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in link]
    missing = [link for link in links if link and not (PAGE.parent / link).exists()]
    named = re.findall(r"(?<![\w/.])k8s/[\w./-]+", TEXT)
    missing += [name for name in named if not name.startswith(MADE) and not (TREE / name.rstrip(".")).exists()]
    assert missing == []


def test_anchors_within_it_are_there() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^##+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings


def test_secrets_that_it_makes_are_those_that_the_manifests_take() -> None:
    made = set(re.findall(r"create secret generic ([\w-]+)", TEXT))
    assert made == {"rs-embed-ray-token", "rs-embed-redis", "rs-embed-earth-engine"}
    manifests = "\n".join(path.read_text() for path in (TREE / "k8s").rglob("*.yaml"))
    assert [name for name in made if name not in manifests] == []
