"""SatVision-TOA's encoder (forward stage): a Swin transformer V2 for 14 MODIS channels.

Spradlin et al. 2024, "SatVision-TOA: A Geospatial Foundation Model for Coarse-Resolution All-Sky Remote Sensing
Imagery", arXiv:2411.17000 (code nasa-nccs-hpda/pytorch-caney); Liu et al. 2022, "Swin Transformer V2",
arXiv:2111.09883. State-dict names are those of the published checkpoint's encoder. timm's ``SwinTransformerV2`` is the
same network but for a norm after every sixth block; it computes the positions' bias anew in every block and holds the
attention weights in memory.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from timm.layers.mlp import Mlp
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.vit import check_image
from rs_embed_core.networks.windows import Cut, Remembered, clip, constant, cut, neighbours, offsets

_CHANNELS: Final = 14
_IMAGE_SIZE: Final = 128
_PATCH_SIZE: Final = 4  # "patch8" in the checkpoint's name is misleading: golden/satvision/spec.md
_WINDOW: Final = 8
_HEAD_DIM: Final = 32
_NORM_EVERY: Final = 6  # blocks of a stage
_SHARPEST: Final = math.log(100)  # of the logarithm of the scale of cosines
_FARTHEST: Final = 8  # what the largest offset counts as
_BIAS_DIM: Final = 512  # of the hidden layer behind an offset
_MOST_BIAS: Final = 16
_OWN: Final = ("patch_embed.", "layers.", "norm.")
_FIRST: Final = "patch_embed.proj.weight"
_TABLES: Final = (".relative_coords_table", ".relative_position_index", ".attn_mask")


class SatVision(nn.Module):
    """The encoder.

    Args:
        dim: width C of the first stage's tokens.
        depths: blocks of the stages.
    """

    def __init__(self, *, dim: int, depths: tuple[int, ...]) -> None:
        super().__init__()
        last = len(depths) - 1
        self.patch_embed = PatchEmbed(
            _IMAGE_SIZE, _PATCH_SIZE, _CHANNELS, dim, norm_layer=nn.LayerNorm, flatten=False, output_fmt="NHWC"
        )
        self.layers = nn.ModuleList(_Stage(dim * 2**i, depth, merge=i < last) for i, depth in enumerate(depths))
        self.norm = nn.LayerNorm(dim * 2**last)

    def forward(self, image: Tensor) -> Features:
        """Features of ``image [B, 14, 128, 128]``, values 0..1.

        Returns:
            ``grid`` ``[B, 8 C, 4, 4]``: the last stage's map, before the norm. Both pooled vectors: the mean over the
            cells after it, so it is not the mean of the grid.

        Raises:
            ValueError: the image has another shape.
        """
        check_image(image, _CHANNELS, (_IMAGE_SIZE, _IMAGE_SIZE))
        tokens = self.patch_embed(image)  # [B, h, w, C]
        for stage in self.layers:
            tokens = stage(tokens)
        pooled = self.norm(tokens).mean(dim=(1, 2))
        return Features(tokens.permute(0, 3, 1, 2).contiguous(), pooled, pooled)


class _Stage(nn.Module):
    """Blocks, every second one with shifted windows, and a merging."""

    def __init__(self, dim: int, depth: int, *, merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(dim, shifted=i % 2 == 1, normed=(i + 1) % _NORM_EVERY == 0) for i in range(depth)
        )
        self.downsample = _Merging(dim) if merge else None

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, h, w, C]`` to half of each side and twice the channels, or to the same shape."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens if self.downsample is None else self.downsample(tokens)


class _Block(nn.Module):
    """A block that norms what is added, and in some places the sum."""

    def __init__(self, dim: int, *, shifted: bool, normed: bool) -> None:
        super().__init__()
        self.attn = _Attention(dim, shifted=shifted)
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim) if normed else None

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, h, w, C]`` to the same shape."""
        tokens = tokens + self.norm1(self.attn(tokens))
        tokens = tokens + self.norm2(self.mlp(tokens))
        return tokens if self.norm3 is None else self.norm3(tokens)


class _Attention(nn.Module):
    """Attention by cosines in windows of 8 x 8 tokens, with a bias that a small network makes of the offset."""

    def __init__(self, dim: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.heads = dim // _HEAD_DIM
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.logit_scale = nn.Parameter(torch.full((self.heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, _BIAS_DIM), nn.ReLU(), nn.Linear(_BIAS_DIM, self.heads, bias=False))
        self.proj = nn.Linear(dim, dim)
        self._derived = Remembered()

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, h, w, C]`` to the same shape."""
        size = (tokens.shape[1], tokens.shape[2])
        window, shift = clip(size, (_WINDOW, _WINDOW), shifted=self.shifted)
        windows = cut(size, window, shift, tokens.device)
        parameters = (self.q_bias, self.v_bias, self.logit_scale, *self.cpb_mlp.parameters())
        joint, scale, *biases = self._derived.of(parameters, size, lambda: self._derive(windows, window))
        joined = functional.linear(windows.gather(tokens), self.qkv.weight, joint)
        split = joined.view(*joined.shape[:2], 3, self.heads, _HEAD_DIM)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each [W * B, heads, N, d]
        query, key = functional.normalize(query, dim=-1) * scale, functional.normalize(key, dim=-1)
        mixed = windows.attend((query, key, value), biases, scale=1.0)
        projected: Tensor = self.proj(windows.scatter(mixed, tokens))
        return projected

    def _derive(self, windows: Cut, window: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The joint bias of the projection, the scales of the cosines, and what each span adds to its logits."""
        joint = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        scale = self.logit_scale.clamp(max=_SHARPEST).exp()
        count, device = windows.tokens.shape[1], self.q_bias.device
        table = self.cpb_mlp(_coordinates(window, device))  # [offsets, heads]
        rows = _MOST_BIAS * table.sigmoid().index_select(0, offsets(window, count, device))
        bias = rows.view(count, count, -1).permute(2, 0, 1)
        return joint, scale, *((bias + mask).contiguous() for mask in windows.masks)


@lru_cache(maxsize=16)
def _coordinates(window: tuple[int, ...], device: torch.device) -> Tensor:
    """All offsets in a window as the bias network sees them, rows outside: float32 ``[offsets, 2]``, about -1..1."""
    along = [np.arange(1 - side, side, dtype=np.float32) * _FARTHEST / max(side - 1, 1) for side in window]
    apart = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, len(window))
    return constant(np.sign(apart) * np.log2(np.abs(apart) + 1) / np.float32(math.log2(_FARTHEST)), device)


class _Merging(nn.Module):
    """Four neighbours become one token of twice the width, normed."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, h, w, C] -> [B, h / 2, w / 2, 2 C]``."""
        merged: Tensor = self.norm(self.reduction(neighbours(tokens)))
        return merged


def build(*, dim: int, third_stage: int) -> SatVision:
    """The encoder, its weights to be loaded.

    Args:
        dim: width C of the first stage's tokens, a multiple of 32; each stage doubles it.
        third_stage: blocks of the third stage; the others have two.

    Raises:
        ValueError: the heads, of 32 channels each, do not fill the width.
    """
    if dim % _HEAD_DIM:
        raise ValueError(f"dim must be a multiple of {_HEAD_DIM}, got {dim}")
    return SatVision(dim=dim, depths=(2, 2, third_stage, 2))


def encoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's entries under its own names, without the mask token, the decoder and computed tables.

    The file is that of a training run: the encoder lies behind some prefix, as the patch embedding tells.
    """
    prefix = next((key.removesuffix(_FIRST) for key in state if key.endswith(_FIRST)), "")
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {key: value for key, value in own.items() if key.startswith(_OWN) and not key.endswith(_TABLES)}
