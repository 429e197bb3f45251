"""What Galileo and OlmoEarth share (forward stage): blocks and codes of transformers over every patch of every frame.

Their sequences are long, tens of thousands of tokens, so what is as wide as several sequences goes through in parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

_MLP_RATIO: Final = 4  # the same in every published size of both
# Rows that go through at a time where much is held for each: enough to fill a GPU, and the hidden layer of a million
# tokens would take four times their own memory.
_ROWS: Final = 1 << 14


def sines(positions: Tensor, width: int) -> Tensor:
    """The sine code of ``positions``: ``[n] -> [n, width]``, all sines before all cosines.

    The exponent is ``k / (2 * width)``, not the usual ``2 * k / width``: the published tables were made so.
    """
    order = torch.arange(width // 2, device=positions.device, dtype=torch.float32)
    angle = positions.float()[:, None] * torch.pow(10_000.0, -order / (2 * width))
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def place_code(size: tuple[int, int], step: int, width: int, device: torch.device) -> Tensor:
    """The code of places ``step`` apart, ``[h, w, width]``: half of the width for the column, half for the row."""
    rows, columns = (sines(torch.arange(count, device=device) * step, width // 2) for count in size)
    shape = (*size, width // 2)
    return torch.cat([columns.expand(shape), rows[:, None].expand(shape)], dim=-1)


def in_parts(run: Callable[[Tensor], Tensor], rows: Tensor, *, at_most: int = _ROWS) -> Tensor:
    """``run(rows)`` for something that treats every row alone, some thousand rows at a time: ``[N, ...] -> [N, D]``."""
    if len(rows) <= at_most:
        return run(rows)
    return torch.cat([run(part) for part in torch.split(rows, at_most)])


class Attention(nn.Module):
    """Multi-head self-attention with separate query, key and value projections."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, *places: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``."""
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)) for layer in (self.q, self.k, self.v)
        )  # each [B, N, heads, D / heads]
        query, key = self.turn(query, key, *places)
        # Without a mask every device has a kernel that keeps no N x N scores.
        mixed = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        del query, key, value
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected

    def turn(self, query: Tensor, key: Tensor, *places: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys ``[B, N, heads, d]`` that know their places: as they are, where the tokens know them."""
        del places
        return query, key


class Mlp(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, _MLP_RATIO * dim)
        self.fc2 = nn.Linear(_MLP_RATIO * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[N, D] -> [N, D]``."""
        projected: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return projected


class Block(nn.Module):
    """Pre-norm transformer block, without the drop path of training, which has no entry in the checkpoints."""

    def __init__(self, dim: int, attention: Attention) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, tokens: Tensor, *places: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``; ``places`` are for the attention."""
        tokens = tokens + self.attn(self.norm1(tokens), *places)
        rows = in_parts(lambda part: self.mlp(self.norm2(part)), tokens.flatten(0, 1))
        return tokens + rows.view_as(tokens)
