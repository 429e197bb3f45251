from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.networks.flexi import Kept, resize_kernel


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def resized(patch: Tensor, size: int) -> Tensor:
    return functional.interpolate(patch, (size, size), mode="bicubic", align_corners=False, antialias=True)


@pytest.mark.parametrize(("old", "new"), [(4, 8), (8, 9)])
def test_a_larger_kernel_answers_to_the_resized_patch_as_the_stored_one_did(old, new):
    kernel, patch = uniform(5, 3, old, old), uniform(1, 3, old, old, seed=1)
    before = functional.conv2d(patch, kernel)
    after = functional.conv2d(resized(patch, new), resize_kernel(kernel, new))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_a_smaller_kernel_is_the_least_squares_answer():
    kernel = uniform(2, 1, 8, 8)
    small = resize_kernel(kernel, 4)
    assert small.shape == (2, 1, 4, 4)
    units = resized(torch.eye(64).view(64, 1, 8, 8), 4).flatten(1)  # [64, 16]
    left = kernel.flatten(1) - small.flatten(1) @ units.T
    torch.testing.assert_close(left @ units, torch.zeros(2, 16), rtol=0, atol=1e-4)  # nothing of it can be explained


def test_a_kernel_of_the_size_asked_for_is_itself():
    kernel = uniform(2, 3, 16, 16)
    assert resize_kernel(kernel, 16) is kernel


class Derived:
    """Twice a weight, and how often that was computed."""

    def __init__(self, weight: Tensor, at_most: int = 2) -> None:
        self.weight, self.kept, self.count = weight, Kept(at_most), 0

    def __call__(self, key: str = "key") -> Tensor:
        return self.kept.get(key, [self.weight], self._double)

    def _double(self) -> Tensor:
        self.count += 1
        return self.weight @ torch.eye(len(self.weight)) * 2


def frozen() -> Tensor:
    return nn.Parameter(uniform(3), requires_grad=False)


def test_it_is_made_once():
    double = Derived(frozen())
    assert double() is double()
    assert double.count == 1


def test_a_changed_weight_is_noticed():
    double = Derived(frozen())
    before = double()
    double.weight.mul_(3)
    torch.testing.assert_close(double(), 3 * before)
    assert double.count == 2


def test_a_cast_weight_is_noticed():
    module = nn.Linear(3, 3, bias=False).requires_grad_(requires_grad=False)
    kept = Kept(1)
    for dtype in (torch.float32, torch.float64):
        module.to(dtype)
        assert kept.get("key", [module.weight], lambda: module.weight * 2).dtype == dtype


def test_a_replaced_weight_is_noticed():
    double = Derived(frozen())
    before = double()
    double.weight = nn.Parameter(uniform(3, seed=1), requires_grad=False)
    assert not torch.equal(double(), before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301 - our own bytes
def test_a_copy_has_weights_of_its_own(copied):
    double = Derived(frozen())
    before = double()
    other = copied(double)
    other.weight.mul_(3)
    torch.testing.assert_close(other(), 3 * before)
    assert double() is before
    assert (double.count, other.count) == (1, 2)


def test_a_weight_in_training_is_part_of_the_graph():
    double = Derived(nn.Parameter(uniform(3)))
    with torch.inference_mode():
        kept = double()
    double().sum().backward()
    assert double.weight.grad is not None
    torch.testing.assert_close(double.weight.grad, torch.full((3,), 2.0))
    with torch.no_grad():
        assert double() is kept


def test_what_was_made_in_inference_mode_may_be_used_in_training():
    double = Derived(frozen())
    with torch.inference_mode():
        double()
    image = uniform(3, seed=1).requires_grad_()
    (image * double()).sum().backward()
    assert double.count == 1


def test_weights_made_in_inference_mode_are_kept_too():
    with torch.inference_mode():
        double = Derived(uniform(3))
        assert double() is double()


def test_only_the_latest_are_kept():
    double = Derived(frozen(), at_most=2)
    for key in ("a", "b", "a", "c", "b"):
        double(key)
    assert double.count == 3
    double("a")
    assert double.count == 4


def test_it_is_made_in_full_precision():
    double = Derived(frozen())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert double().dtype == torch.float32
