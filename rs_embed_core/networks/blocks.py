"""Transformers in the arrangement of vit-pytorch (forward stage), which Clay and FoMo-Net share.

Norms stand inside the attention and feed-forward parts, projections have no bias, and the width of a head is free of
that of the tokens. timm's ``Block`` is another arrangement with other keys.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional


class Transformer(nn.Module):
    """Pairs of an attention and a feed-forward part, each with its residual, and a last norm.

    Args:
        dim: width D of the tokens.
        layers: the pairs, to be stored as ``layers.<i>.0`` and ``layers.<i>.1``.
    """

    def __init__(self, dim: int, layers: Iterable[tuple[Attention, FeedForward]]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(nn.ModuleList(pair) for pair in layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``."""
        for layer in self.layers:
            for part in layer.children():
                tokens = tokens + part(tokens)
        normed: Tensor = self.norm(tokens)
        return normed


class Attention(nn.Module):
    """Multi-head self-attention behind a norm.

    Args:
        dim: width D of the tokens.
        heads: attention heads.
        head_dim: width of a head.
        to_out: from ``heads * head_dim`` back to D, as the checkpoint stores it.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, *, to_out: nn.Module) -> None:
        super().__init__()
        self.heads = heads
        self._shape = (3, heads, head_dim)
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.to_out = to_out

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``, without the residual."""
        joined = self.to_qkv(self.norm(tokens)).unflatten(-1, self._shape)  # [B, N, 3, heads, d]
        query, key, value = joined.permute(2, 0, 3, 1, 4)  # each [B, heads, N, d]
        mixed = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return projected


class FeedForward(nn.Module):
    """A norm, a linear layer, an exact GELU and a linear layer, in the places that the checkpoint gives them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``, without the residual."""
        projected: Tensor = self.net(tokens)
        return projected
