"""Shifted windows by hand: which tokens lie together, and which of those see each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rs_embed_core.networks.windows import Cut, Remembered, clip, cut, neighbours, offsets

CPU = torch.device("cpu")


def _numbered(*size: int, batch: int = 1) -> Tensor:
    """Maps ``[B, *size, 1]`` of tokens that are their own numbers."""
    return torch.arange(1.0, batch * math.prod(size) + 1).view(batch, *size, 1)


def _seen(windows: Cut) -> dict[int, set[int]]:
    """For every token of the padded map those that it sees."""
    found = {}
    for span, mask in zip(windows.spans, windows.masks, strict=True):
        for tokens in windows.tokens[span]:
            for token, row in zip(tokens, mask, strict=True):
                found[int(token)] = {int(other) for other in tokens[row == 0]}
    return found


def test_an_axis_no_longer_than_the_window_is_one_window() -> None:
    assert clip((2, 14, 7), (8, 7, 7), shifted=True) == ((2, 7, 7), (0, 3, 0))
    assert clip((9, 3, 8), (8, 7, 7), shifted=True) == ((8, 3, 7), (4, 0, 3))
    assert clip((16, 16), (8, 8), shifted=True) == ((8, 8), (4, 4))
    assert clip((16, 16), (8, 8), shifted=False) == ((8, 8), (0, 0))


def test_windows_are_cut_row_by_row() -> None:
    windows = cut((4, 4), (2, 2), (0, 0), CPU)
    assert windows.tokens.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert windows.spans == (slice(0, 4),)
    assert not windows.masks[0].any()


def test_only_neighbours_see_each_other_in_shifted_windows() -> None:
    seen = _seen(cut((4, 4), (2, 2), (1, 1), CPU))
    assert seen.keys() == set(range(16))
    assert seen[5] == seen[10] == {5, 6, 9, 10}  # the middle
    assert seen[1] == {1, 2}  # cut off by the upper edge
    assert seen[7] == {7, 11}
    assert [seen[corner] for corner in (0, 3, 12, 15)] == [{0}, {3}, {12}, {15}]


def test_windows_of_equal_mask_lie_side_by_side() -> None:
    windows = cut((16, 112, 112), (8, 7, 7), (4, 3, 3), CPU)
    assert len(windows.masks) == len(windows.spans) == 8  # inside, or at the end, of each axis
    assert windows.spans[0].start == 0
    assert windows.spans[-1].stop == len(windows.tokens) == 2 * 16 * 16
    assert sorted(windows.tokens.flatten().tolist()) == list(range(16 * 112 * 112))
    assert {value for mask in windows.masks for value in mask.unique().tolist()} == {-100, 0}


@pytest.mark.parametrize(
    ("size", "window", "shift"),
    [((4, 4), (2, 2), (1, 1)), ((5, 7), (2, 3), (1, 1)), ((3, 5, 2), (2, 2, 2), (1, 1, 0)), ((3, 3), (3, 3), (0, 0))],
)
def test_what_was_gathered_is_put_back(size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> None:
    windows, maps = cut(size, window, shift, CPU), _numbered(*size, batch=3)
    gathered = windows.gather(maps)
    assert gathered.shape == (3 * len(windows.tokens), math.prod(window), 1)
    assert torch.equal(windows.scatter(gathered, maps), maps)
    padding = gathered.numel() - maps.numel()
    assert int((gathered == 0).sum()) == padding


def test_attention_keeps_to_the_window_and_its_span() -> None:
    windows = cut((4, 4), (2, 2), (1, 1), CPU)
    value = windows.gather(_numbered(4, 4, batch=2))[:, None]  # [W * B, 1 head, N, 1]
    blind = torch.zeros_like(value)
    mixed = windows.attend((blind, blind, value), [mask[None] for mask in windows.masks])
    means = windows.scatter(mixed, _numbered(4, 4, batch=2))[..., 0]
    for token, others in _seen(windows).items():
        wanted = 1 + sum(others) / len(others)
        assert means[:, token // 4, token % 4].tolist() == pytest.approx([wanted, 16 + wanted])


def test_offsets_are_numbered_from_the_most_negative() -> None:
    assert offsets((1, 3), 3, CPU).view(3, 3).tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    whole = offsets((2, 2), 4, CPU).view(4, 4)
    assert whole[0].tolist() == [4, 3, 1, 0]
    assert torch.equal(offsets((2, 2), 3, CPU).view(3, 3), whole[:3, :3])


def test_four_neighbours_lie_side_by_side_column_after_column() -> None:
    squares = neighbours(_numbered(3, 4)[0])
    assert squares[0].tolist() == [[1, 5, 2, 6], [3, 7, 4, 8]]
    assert squares[1].tolist() == [[9, 0, 10, 0], [11, 0, 12, 0]]  # a row of zeros below an odd one


def test_a_cut_made_in_inference_mode_serves_training() -> None:
    with torch.inference_mode():
        windows = cut((6, 6), (3, 3), (1, 1), CPU)
    maps = _numbered(6, 6).requires_grad_()
    windows.scatter(windows.gather(maps), maps).sum().backward()
    assert maps.grad is not None
    assert torch.equal(maps.grad, torch.ones_like(maps))


def test_a_value_is_remembered_until_a_parameter_changes() -> None:
    layer, calls = nn.Linear(2, 2), []

    def compute() -> tuple[Tensor, ...]:
        calls.append(1)
        return (2 * layer.weight,)

    held = Remembered()
    parameters = (layer.weight, layer.bias)
    with torch.inference_mode():
        first = held.of(parameters, 1, compute)
        assert held.of(parameters, 1, compute) is first
        held.of(parameters, 2, compute)  # about something else
        assert len(calls) == 2
    with torch.no_grad():
        layer.bias.add_(1)
        held.of(parameters, 2, compute)
    layer.load_state_dict({name: torch.ones_like(value) for name, value in layer.state_dict().items()})
    with torch.inference_mode():
        (value,) = held.of(parameters, 2, compute)
        assert torch.equal(value, torch.full((2, 2), 2.0))
        assert len(calls) == 4
    layer.double()
    with torch.inference_mode():
        assert held.of(parameters, 2, compute)[0].dtype == torch.float64
    (value,) = held.of(parameters, 2, compute)
    assert value.requires_grad
    assert len(calls) == 6
