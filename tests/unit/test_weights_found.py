"""Where weights come from: the root, the Hub, its cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
import torch

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.weights import HubFile
from tests.unit.weight_files import WEIGHTS, network, put, sha256, state, values


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hub's local cache, empty, and the way to put a file into it."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))

    def cached(content: object, commit: str, weights: HubFile = WEIGHTS) -> Path:
        home = cache / f"models--{weights.repo.replace('/', '--')}"
        (home / "refs").mkdir(parents=True, exist_ok=True)
        (home / "refs" / "main").write_text(commit)
        path = home / "snapshots" / commit / weights.file
        path.parent.mkdir(parents=True)
        torch.save(content, path)
        return path

    return cached


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_missing_file_says_what_and_where(tmp_path, hub):
    root = tmp_path / "weights"
    for checkpoints, where in (
        (Checkpoints(root, offline=True), str(root)),
        (Checkpoints(offline=True), "checkpoints.root"),
    ):
        with pytest.raises(CheckpointError) as caught:
            checkpoints.load(WEIGHTS, network())
        assert "org/model/encoder.pt" in caught.value.message
        assert f"{where}/org/model/encoder.pt" in caught.value.hint
        assert {"repo": "org/model", "file": "encoder.pt"}.items() <= caught.value.context.items()
        assert not caught.value.retryable


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("no route"),
        OSError("the disk is full"),
        ValueError("no such repository id"),
        RuntimeError("the download broke off"),
    ],
)
def test_a_download_that_fails_says_so(hub, monkeypatch, error):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _failing(error))
    with pytest.raises(CheckpointError, match="org/model") as caught:
        Checkpoints().load(WEIGHTS, network())
    assert type(error).__name__ in caught.value.hint


def test_a_mistake_in_a_program_is_no_missing_file(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _failing(AttributeError("no such method")))
    with pytest.raises(AttributeError, match="no such method"):
        Checkpoints().load(WEIGHTS, network())


def _failing(error: Exception) -> Callable[..., str]:
    def download(*args: object, **more: object) -> str:
        raise error

    return download


def test_the_cache_of_the_hub_is_used_offline(hub):
    hub(state(0.5), COMMIT)
    module = network()
    info = Checkpoints(offline=True).load(WEIGHTS, module)
    assert values(module) == {0.5}
    assert info.revision == COMMIT  # what "main" was


def test_the_root_wins(tmp_path, hub):
    hub(state(0.5), COMMIT)
    put(tmp_path / "weights", state(0.25))
    module = network()
    assert Checkpoints(tmp_path / "weights", offline=True).load(WEIGHTS, module).revision == "main"
    assert values(module) == {0.25}
    Checkpoints(tmp_path / "elsewhere", offline=True).load(WEIGHTS, module)
    assert values(module) == {0.5}


def test_a_pinned_hash_is_checked(tmp_path, hub):
    path = hub(state(), COMMIT)
    right, wrong = replace(WEIGHTS, sha256=sha256(path)), replace(WEIGHTS, sha256="0" * 64)
    assert Checkpoints(offline=True).load(right, network()).verified is True
    with pytest.raises(CheckpointError, match="damaged or another release") as caught:
        Checkpoints(offline=True).load(wrong, network())
    assert sha256(path) in caught.value.message
    own = put(tmp_path / "weights", state(0.5))  # the operator's own file may be another, and it is said
    info = Checkpoints(tmp_path / "weights", offline=True).load(right, network())
    assert (info.verified, info.sha256) == (False, sha256(own))


def test_a_file_that_was_replaced_is_hashed_again(tmp_path):
    checkpoints = Checkpoints(tmp_path, offline=True)
    put(tmp_path, state(0.25))
    first = checkpoints.load(WEIGHTS, network()).sha256
    path = put(tmp_path, state(0.5))
    assert checkpoints.load(WEIGHTS, network()).sha256 == sha256(path) != first
