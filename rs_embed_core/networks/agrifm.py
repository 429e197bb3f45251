"""AgriFM's encoder (forward stage): a Video Swin transformer over a Sentinel-2 series, whose merging halves time too.

Li et al. 2025, "AgriFM: A Multi-source Temporal Remote Sensing Foundation Model for Agriculture Mapping",
arXiv:2505.21357 (code flyakon/AgriFM). State-dict names are those of the published checkpoint, but for its
Sentinel-2 patch embedding, which is ``patch_emd`` here. The blocks equal torchvision's ``SwinTransformerBlock`` with
``ShiftedWindowAttention3d``, which holds its attention weights in memory and makes its masks anew in every block.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.windows import Cut, Remembered, clip, cut, neighbours, offsets

_CHANNELS: Final = 10
_PATCH: Final = (4, 2, 2)  # frames, rows, columns
_WINDOW: Final = (8, 7, 7)
_HEAD_DIM: Final = 32
_STAGES: Final = 4
_EPS: Final = 1e-5  # torch's default
_MOST_FRAMES: Final = _PATCH[0] * 2 ** (_STAGES - 1)  # what three mergings leave one frame of


class AgriFM(nn.Module):
    """The encoder.

    Args:
        dim: width C of the first stage's tokens.
        depths: blocks of the four stages.
    """

    def __init__(self, *, dim: int, depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.patch_emd = _PatchEmbedding(dim)
        self.backbone = _Backbone(dim, depths)

    def forward(self, image: Tensor) -> Features:
        """Features of ``image [B, T, 10, H, W]``, channels B2 B3 B4 B5 B6 B7 B8 B8A B11 B12, normalised.

        Returns:
            ``grid`` ``[B, 8 C, h, w]``, a cell for every 16 x 16 pixels.

        Raises:
            ValueError: other channels, or more frames than merge into one.
        """
        if image.ndim != 5 or image.shape[2] != _CHANNELS or not 1 <= image.shape[1] <= _MOST_FRAMES:
            raise ValueError(f"image must be [B, 1 to {_MOST_FRAMES}, {_CHANNELS}, H, W], got {list(image.shape)}")
        tokens: Tensor = self.backbone(self.patch_emd(image))  # [B, 1, h, w, 8 C]
        return Features(tokens[:, 0].permute(0, 3, 1, 2).contiguous())


class _PatchEmbedding(nn.Module):
    """Tokens of 4 frames x 2 x 2 pixels, no norm; what does not fill a patch is filled with zeros."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(_CHANNELS, dim, kernel_size=_PATCH, stride=_PATCH)

    def forward(self, image: Tensor) -> Tensor:
        """``[B, T, 10, H, W] -> [B, t, h, w, C]``: a matrix product, as the stride is the kernel's size."""
        deep, tall, wide = _PATCH
        frames, _, height, width = image.shape[1:]
        missing = (0, -width % wide, 0, -height % tall, 0, 0, 0, -frames % deep)
        if any(missing):
            image = functional.pad(image, missing)
        batch, frames, _, height, width = image.shape
        cells = image.reshape(batch, frames // deep, deep, _CHANNELS, height // tall, tall, width // wide, wide)
        patches = cells.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4)  # [B, t, h, w, 10 * 4 * 2 * 2]
        return functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class _Backbone(nn.Module):
    """Four stages and a norm."""

    def __init__(self, dim: int, depths: tuple[int, ...]) -> None:
        super().__init__()
        last = len(depths) - 1
        self.layers = nn.ModuleList(_Stage(dim * 2**i, depth, merge=i < last) for i, depth in enumerate(depths))
        self.norm = nn.LayerNorm(dim * 2**last, eps=_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, t, h, w, C] -> [B, t / 8, h / 8, w / 8, 8 C]``, each rounded up."""
        for stage in self.layers:
            tokens = stage(tokens)
        normed: Tensor = self.norm(tokens)
        return normed


class _Stage(nn.Module):
    """Blocks, every second one with shifted windows, and a merging."""

    def __init__(self, dim: int, depth: int, *, merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(dim, shifted=i % 2 == 1) for i in range(depth))
        self.downsample = _Merging(dim) if merge else None

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, t, h, w, C]`` to half of each axis and twice the channels, or to the same shape."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens if self.downsample is None else self.downsample(tokens)


class _Block(nn.Module):
    """A pre-norm block."""

    def __init__(self, dim: int, *, shifted: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = _Attention(dim, shifted=shifted)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, t, h, w, C]`` to the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class _Attention(nn.Module):
    """Attention in windows of 8 x 7 x 7 tokens, with a learned bias for every offset."""

    def __init__(self, dim: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.heads = dim // _HEAD_DIM
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        rows = math.prod(2 * side - 1 for side in _WINDOW)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, self.heads))
        self._biases = Remembered()

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, t, h, w, C]`` to the same shape, without the residual."""
        size = (tokens.shape[1], tokens.shape[2], tokens.shape[3])
        window, shift = clip(size, _WINDOW, shifted=self.shifted)
        windows = cut(size, window, shift, tokens.device)
        joined = self.qkv(windows.gather(tokens)).unflatten(-1, (3, self.heads, _HEAD_DIM))
        query, key, value = joined.permute(2, 0, 3, 1, 4)  # each [W * B, heads, N, d]
        table = self.relative_position_bias_table
        biases = self._biases.of((table,), size, lambda: self._bias(windows))
        projected: Tensor = self.proj(windows.scatter(windows.attend((query, key, value), biases), tokens))
        return projected

    def _bias(self, windows: Cut) -> tuple[Tensor, ...]:
        """What each span of windows adds to its logits, ``[heads, N, N]``.

        A clipped window has the offsets of the whole one's first places, also where it was clipped at rows or columns
        and its tokens lie elsewhere: so it is published.
        """
        count = windows.tokens.shape[1]
        rows = self.relative_position_bias_table.index_select(0, offsets(_WINDOW, count, windows.tokens.device))
        bias = rows.view(count, count, -1).permute(2, 0, 1)
        return tuple((bias + mask).contiguous() for mask in windows.masks)


class _Merging(nn.Module):
    """Two frames become their mean, four neighbours one token of twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=_EPS)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, t, h, w, C] -> [B, t / 2, h / 2, w / 2, 2 C]``, each rounded up.

        The last of an odd number of frames is averaged with zeros: a single frame is halved.
        """
        if tokens.shape[1] % 2:
            tokens = functional.pad(tokens, (0, 0, 0, 0, 0, 0, 0, 1))
        pairs = tokens.view(len(tokens), -1, 2, *tokens.shape[2:])
        merged: Tensor = self.reduction(self.norm(neighbours(pairs.mean(dim=2))))
        return merged


def build(*, dim: int, depth: int) -> AgriFM:
    """The encoder, its weights to be loaded.

    Args:
        dim: width C of the first stage's tokens, a multiple of 32; each stage doubles it.
        depth: blocks of the third stage; the others have two.

    Raises:
        ValueError: the heads, of 32 channels each, do not fill the width.
    """
    if dim % _HEAD_DIM:
        raise ValueError(f"dim must be a multiple of {_HEAD_DIM}, got {dim}")
    return AgriFM(dim=dim, depths=(2, 2, depth, 2))


def sentinel2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The Sentinel-2 encoder's entries, without the other sensors' embeddings, decoders and index tables."""
    renamed = {key.replace("S2_patch_emd", "patch_emd"): value for key, value in state.items()}
    return {
        key: value
        for key, value in renamed.items()
        if key.startswith(("patch_emd.", "backbone.")) and not key.endswith(".relative_position_index")
    }
