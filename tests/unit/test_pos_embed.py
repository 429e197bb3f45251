"""Sine-cosine codes, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from rs_embed_core.networks.pos_embed import sincos, sincos_2d


def test_all_sines_come_before_all_cosines():
    code = sincos(torch.tensor([0.0, 3.0]), 4)  # frequencies 1 and 10000 ** (-1 / 2)
    expected = [[0, 0, 1, 1], [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]]
    torch.testing.assert_close(code, torch.tensor(expected))


def test_a_grid_is_coded_row_by_row_the_column_first():
    rows, columns = torch.tensor([0.0, 1.0]), torch.tensor([5.0, 6.0, 7.0])
    code = sincos_2d(rows, columns, 8)
    assert code.shape == (6, 8)
    torch.testing.assert_close(code[:, :4], sincos(columns, 4).repeat(2, 1))
    torch.testing.assert_close(code[:, 4:], sincos(rows, 4).repeat_interleave(3, dim=0))


def test_every_sample_may_have_its_own_scale():
    steps = torch.arange(3.0)
    scales = torch.tensor([[1.0], [0.3]])  # [B, 1]
    together = sincos_2d(steps * scales, steps * scales, 8)
    assert together.shape == (2, 9, 8)
    for scale, code in zip(scales[:, 0], together, strict=True):
        torch.testing.assert_close(code, sincos_2d(steps * scale, steps * scale, 8))


def test_the_positions_precision_is_kept():
    assert sincos(torch.arange(3, dtype=torch.float64), 4).dtype == torch.float64
    assert sincos_2d(torch.arange(3.0), torch.arange(2.0), 4).dtype == torch.float32


def test_channels_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="even number of channels, got 5"):
        sincos(torch.zeros(1), 5)
    with pytest.raises(ValueError, match="multiple of 4 channels, got 6"):
        sincos_2d(torch.zeros(1), torch.zeros(1), 6)
