from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rs_embed_core.checkpoints import Checkpoints, fill, read, to_network_keys
from rs_embed_core.errors import CheckpointError
from tests.parity.golden import load_case
from tests.parity.published import publish
from tests.unit.weight_files import PUBLISHED, WEIGHTS, network, put, sha256, state, values

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
