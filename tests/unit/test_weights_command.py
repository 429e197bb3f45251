"""``rs-embed weights``: what is there and right stays, what is wrong or not to be had is said."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rs_embed_core.errors import CheckpointError
from rs_embed_core.weights import HubFile
from serve_app.commands.weights import provide, verify, wanted
from serve_app.settings import ModelSettings

_DIGEST = hashlib.sha256(b"weights").hexdigest()


def _run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serve_app.cli", "weights", "--root", str(tmp_path / "weights"), *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "no-hub")}
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=120)


def test_models_without_weights_need_none(tmp_path: Path) -> None:
    done = _run(tmp_path, "--model", "mosaiks")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_an_unknown_model_is_an_error_with_a_hint(tmp_path: Path) -> None:
    done = _run(tmp_path, "--model", "dofx")
    assert done.returncode == 2
    assert "Did you mean dofa?" in done.stderr


def test_weights_that_are_missing_or_wrong_are_said_and_cost_no_other(tmp_path: Path) -> None:
    """The first is not to be had here; the second is there, and another file than its card says."""
    ((_, weights),) = wanted([ModelSettings(model="dofa", variant="base")])
    assert weights.sha256 is not None
    wrong = tmp_path / "weights" / weights.repo / weights.file
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"not the weights")
    config = {"applications": [{"args": {"models": [{"model": "prithvi"}, {"model": "dofa", "variant": "base"}]}}]}
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    done = _run(tmp_path, "--serve-config", str(file))
    assert done.returncode == 1, done.stderr
    missing, tampered = done.stdout.splitlines()
    assert missing.startswith("prithvi-100-tl: the weights")
    assert tampered.startswith("dofa-base:")
    assert hashlib.sha256(b"not the weights").hexdigest() in tampered


def test_every_modality_s_own_weights_are_wanted() -> None:
    names = {file.file for _, file in wanted([ModelSettings(model="satmaepp")])}
    assert len(names) == 2


@pytest.mark.parametrize(("sha256", "words"), [(_DIGEST, ", verified"), (None, "not verified")])
def test_weights_that_are_there_stay(tmp_path: Path, sha256: str | None, words: str) -> None:
    path = tmp_path / "repo/file.pt"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    assert words in provide(HubFile("repo", "file.pt", "main", sha256), tmp_path)


@pytest.mark.parametrize("move", [False, True])
def test_the_hub_s_copy_is_kept_only_where_nobody_minds(move: bool, tmp_path: Path) -> None:
    """The Hub client keeps a blob, and links to it; 36 GB of them would not fit a pod."""
    commit = "c" * 40
    cache = tmp_path / "cache" / "models--org--repo"
    (cache / "blobs").mkdir(parents=True)
    (cache / "refs").mkdir()
    (blob := cache / "blobs" / _DIGEST).write_bytes(b"weights")
    link = cache / "snapshots" / commit / "file.pt"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    code = (
        "import pathlib; from rs_embed_core.weights import HubFile; from serve_app.commands.weights import provide;"
        f"provide(HubFile('org/repo', 'file.pt', {commit!r}, {_DIGEST!r}),"
        f"pathlib.Path({str(tmp_path)!r}) / 'root', move={move})"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert (tmp_path / "root/org/repo/file.pt").read_bytes() == b"weights"
    assert (blob.exists(), link.is_symlink()) == (not move, not move)


def test_a_wrong_hash_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(b"weights")
    with pytest.raises(CheckpointError, match="has the sha256"):
        verify(path, HubFile("repo", "file.pt", "main", "0" * 64))
