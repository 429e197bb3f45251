from __future__ import annotations

import hashlib
import importlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rs_embed_core.checkpoints import Checkpoints, fill, read, to_network_keys
from rs_embed_core.errors import CheckpointError
from rs_embed_core.weights import HubFile
from tests.parity.golden import load_case
from tests.parity.published import SMALL, publish

WEIGHTS = HubFile("org/model", "encoder.pt", revision="main")
PUBLISHED = SMALL | {"remoteclip": "tiny_rn_resize"}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))


def state(value: float = 1.0) -> dict[str, Tensor]:
    return {key: torch.full_like(tensor, value) for key, tensor in network().state_dict().items()}


def put(root: Path, content: object, weights: HubFile = WEIGHTS) -> Path:
    path = root / weights.repo / weights.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def values(module: nn.Module) -> set[float]:
    return {float(value) for tensor in module.state_dict().values() for value in tensor.flatten()}


# --- strict loading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["encoder.pt", "model.safetensors"])
def test_a_network_is_filled_and_the_file_named(tmp_path, file):
    weights = replace(WEIGHTS, file=file)
    path = put(tmp_path, state(0.25), weights)
    module = network()
    info = Checkpoints(tmp_path, offline=True).load(weights, module)
    assert values(module) == {0.25}
    assert (info.repo, info.file, info.revision, info.sha256) == ("org/model", file, "main", sha256(path))
    assert info.verified is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda own: own.pop("0.bias"), "1 missing: 0.bias"),
        (lambda own: own.update({"2.weight": torch.ones(3)}), "1 unexpected: 2.weight"),
        (lambda own: own.update({"0.weight": torch.ones(3, 4)}), "1 misshapen: 0.weight"),
        (lambda own: own.update({"0.weight": torch.ones(2, 3)}), "1 misshapen: 0.weight"),
        (lambda own: own.clear(), "4 missing: 0.bias, 0.weight, 1.bias, 1.weight"),
        (lambda own: own.update({f"x{i}": torch.ones(1) for i in range(9)}), "9 unexpected: x0, x1, x2, x3, x4, ..."),
    ],
)
def test_keys_that_do_not_fit_are_named(tmp_path, change: Callable, says):
    own = state()
    change(own)
    put(tmp_path, own)
    module = network()
    before = values(module)
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path, offline=True).load(WEIGHTS, module)
    assert says in caught.value.message
    assert "org/model/encoder.pt" in caught.value.message
    assert "main" in caught.value.hint
    kind = says.split()[1].rstrip(":")
    assert len(caught.value.context[kind]) == int(says.split()[0])
    assert values(module) == before  # nothing is half loaded


def test_only_listed_keys_may_be_left_over():
    own = {**state(), "head.weight": torch.ones(1), "decoder_1.bias": torch.ones(1)}
    fill(network(), own, replace(WEIGHTS, unused=("head.*", "decoder*")))
    with pytest.raises(CheckpointError, match=r"unexpected: decoder_1\.bias"):
        fill(network(), own, replace(WEIGHTS, unused=("head.*",)))


def test_half_precision_files_fill_a_full_network():
    module = network()
    fill(module, {key: value.half() for key, value in state(0.5).items()}, WEIGHTS)
    assert values(module) == {0.5}
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}


# --- the way from a published file to the network's keys ---------------------------------------------------


def test_wrappers_prefixes_and_keep():
    one, two = torch.ones(1), torch.ones(2)
    content = {"epoch": 3, "model": {"state_dict": {"module.visual.a": one, "module.text.b": two}}, "args": {"a": one}}
    weights = replace(WEIGHTS, wrappers=("model", "state_dict"), prefixes=("module.", "backbone."), keep="visual.")
    assert to_network_keys(content, weights) == {"a": one}
    assert to_network_keys({"visual.a": one, "b": two}, weights) == {"a": one}
    plain = replace(WEIGHTS, prefixes=("module.",))
    assert to_network_keys({"module.a": one, "b": two}, plain).keys() == {"module.a", "b"}  # not every key has it
    assert to_network_keys({"module.module.a": one}, plain).keys() == {"module.a"}
    assert to_network_keys({"a": one, "lr": 0.1, "name": "x"}, WEIGHTS) == {"a": one}


def test_parts_are_taken_from_a_file_of_state_dicts():
    one, two = torch.ones(1), torch.ones(2)
    content = {"left": {"a": one}, "right": {"a": two, "epoch": 3}, "other": {"a": one}, "loose": one}
    weights = replace(WEIGHTS, parts=("right", "left", "absent"))
    assert to_network_keys(content, weights) == {"left.a": one, "right.a": two}
    assert to_network_keys({"model": content}, replace(weights, wrappers=("model",))).keys() == {"left.a", "right.a"}
    assert to_network_keys({"left": one}, weights) == {}  # no part, and so its keys are missing


def test_convert_has_the_last_word():
    weights = replace(WEIGHTS, convert="rs_embed_core.networks.galileo:drop_backbone")
    one = torch.ones(1)
    assert to_network_keys({"a.backbone.b": one}, weights) == {"a.b": one}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_layout_fills_the_network(model, tmp_path):
    card = publish(load_case(model, PUBLISHED[model]), tmp_path)
    variant = card.variants[card.default_variant]
    weights = variant.weights
    module, function = card.network.split(":")
    build = vars(importlib.import_module(module))[function]
    first, second = build(**dict(variant.build)), build(**dict(variant.build))
    checkpoints = Checkpoints(tmp_path, offline=True)
    info = checkpoints.load(weights, first)
    assert info.sha256 == sha256(tmp_path / weights.repo / weights.file)
    checkpoints.load(weights, second)
    for (key, value), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(value, other), key  # every entry comes from the file, none from the constructor
    content = to_network_keys(read(tmp_path / weights.repo / weights.file), weights)
    lost = next(key for key in first.state_dict() if not key.startswith(("norm.", "fc_norm.")))
    content.pop(lost)
    with pytest.raises(CheckpointError, match="1 missing"):
        fill(first, content, weights)


# --- files that are no checkpoints -------------------------------------------------------------------------


class _Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("was_run"),))


@pytest.mark.parametrize("name", ["encoder.pt", "model.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"<!DOCTYPE html><html>Not found</html>", b"version https://git-lfs.github.com/spec/v1\n"],
)
def test_what_is_not_a_checkpoint_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable checkpoint") as caught:
        read(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_was_cut_is_refused(tmp_path):
    path = put(tmp_path, state())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read(path)


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), 3])
def test_something_else_than_a_state_dict_is_refused(tmp_path, content):
    with pytest.raises(CheckpointError, match="not a state dict"):
        read(put(tmp_path, content))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_not_run(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _Code()}, "code.pt", _use_new_zipfile_serialization=not legacy)
    Path("plain.pt").write_bytes(pickle.dumps({"a": _Code()}, protocol=2))
    for name in ("code.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="only tensors are accepted") as caught:
            read(Path(name))
        assert "two options" not in caught.value.message  # torch's advice on how to run it after all
    assert not Path("was_run").exists()


def test_a_file_of_an_old_torch_is_read(tmp_path):
    path = tmp_path / "old.pth"
    torch.save(state(0.5), path, _use_new_zipfile_serialization=False)
    module = network()
    fill(module, to_network_keys(read(path), WEIGHTS), WEIGHTS)
    assert values(module) == {0.5}


# --- where weights come from -------------------------------------------------------------------------------


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
