"""Galileo encoder (forward stage): the Sentinel-2 path of the multi-sensor series transformer.

Published at github.com/nasaharvest/galileo (MIT). The checkpoint holds the embeddings of every sensor Galileo
was trained on, so all of them are built here and load strictly. Only the five Sentinel-2 channel groups take
part in the forward: the published network masks the other tokens out of the sequence before the first block.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.flexi import Kept, resize_kernel
from rs_embed_core.networks.series import Attention, Block, place_code, sines

# Channel groups and their channel counts, in the order of the rows of the channel embeddings. Source: shapes
# in data/models/nano/encoder.pt at nasaharvest/galileo commit 0f0b5b95ac81acef4b74cf4686dc877202f4541b.
_SPACE_TIME_GROUPS: Final = {
    "S1": 2,
    "S2_RGB": 3,
    "S2_Red_Edge": 3,
    "S2_NIR_10m": 1,
    "S2_NIR_20m": 1,
    "S2_SWIR": 2,
    "NDVI": 1,
}
_SPACE_GROUPS: Final = {"SRTM": 2, "DW": 9, "WC": 5}
_TIME_GROUPS: Final = {"ERA5": 2, "TC": 3, "VIIRS": 1}
_STATIC_GROUPS: Final = {"LS": 1, "location": 3, "DW_static": 9, "WC_static": 5}

# The order of the groups is the order of our channels: B2 B3 B4 | B5 B6 B7 | B8 | B8A | B11 B12.
_S2_GROUPS: Final = ("S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR")
_S2_CHANNELS: Final = sum(_SPACE_TIME_GROUPS[name] for name in _S2_GROUPS)
_FIRST_S2_ROW: Final = tuple(_SPACE_TIME_GROUPS).index(_S2_GROUPS[0])

_MONTHS: Final = 12


def _month_table(width: int) -> Tensor:
    """The fixed month code ``[12, width]``: one sine and one cosine, each repeated over half of the width."""
    angle = torch.arange(_MONTHS, dtype=torch.float32, device="cpu")[:, None] * (2 * math.pi / _MONTHS)
    return torch.cat([angle.sin().expand(-1, width // 2), angle.cos().expand(-1, width // 2)], dim=-1)


class _PatchEmbedding(nn.Module):
    """Projection of square patches, for any patch size: the kernel is resized to it."""

    def __init__(self, channels: int, dim: int, size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=size, stride=size)
        self._kept = Kept(2)

    def forward(self, patches: Tensor) -> Tensor:
        """Tokens ``[..., D]`` of ``patches [..., C, p, p]``.

        A convolution whose stride is its kernel size is a matrix product over cut patches. Written as one, it
        stays in full float32 on GPUs, where torch lets convolutions, but not matrix products, use TF32.
        """
        weight, size = self.proj.weight, patches.shape[-1]  # [D, C, s, s]
        kernel = self._kept.get(size, [weight], lambda: resize_kernel(weight, size))
        return functional.linear(patches.flatten(-3), kernel.flatten(1), self.proj.bias)


class GalileoEncoder(nn.Module):
    """Galileo's encoder, fed with Sentinel-2 only."""

    def __init__(self, *, dim: int, depth: int, heads: int, max_frames: int, max_patch_size: int) -> None:
        if dim % 16 or dim % heads:
            # Four quarters of encoding, the last cut into row and column, each into sine and cosine.
            raise ValueError(f"dim must be a multiple of 16 and of heads={heads}, got {dim}")
        super().__init__()
        self.max_frames = max_frames
        quarter = dim // 4

        def patch_embeddings(groups: dict[str, int]) -> nn.ModuleDict:
            return nn.ModuleDict({name: _PatchEmbedding(n, dim, max_patch_size) for name, n in groups.items()})

        def vector_embeddings(groups: dict[str, int]) -> nn.ModuleDict:
            return nn.ModuleDict({name: nn.Linear(n, dim) for name, n in groups.items()})

        def channel_rows(groups: dict[str, int]) -> nn.Parameter:
            return nn.Parameter(torch.zeros(len(groups), quarter))

        self.space_time_embed = patch_embeddings(_SPACE_TIME_GROUPS)
        self.space_embed = patch_embeddings(_SPACE_GROUPS)
        self.time_embed = vector_embeddings(_TIME_GROUPS)
        self.static_embed = vector_embeddings(_STATIC_GROUPS)

        # Named after what a group varies in: space and time, space, time, neither.
        self.s_t_channel_embed = channel_rows(_SPACE_TIME_GROUPS)
        self.sp_channel_embed = channel_rows(_SPACE_GROUPS)
        self.t_channel_embed = channel_rows(_TIME_GROUPS)
        self.st_channel_embed = channel_rows(_STATIC_GROUPS)

        # Fixed tables, yet entries of the checkpoint. Computed on the CPU whatever the default device is: on
        # "meta", where a loader may build, the first arithmetic makes torch import its compiler (7 s).
        slots = torch.arange(max_frames, device="cpu")
        self.pos_embed = nn.Parameter(sines(slots, quarter), requires_grad=False)
        table = _month_table(quarter)
        self.month_embed = nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]  # torch's gap

        self.blocks = nn.ModuleList(Block(dim, Attention(dim, heads)) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor, months: Tensor, *, patch_size: int = 8, exit_norm: bool = True) -> Features:
        """Patch features of a batch of Sentinel-2 series.

        Args:
            image: ``[B, T, 10, H, W]``, channels B2 B3 B4 B5 B6 B7 B8 B8A B11 B12, square, pixels of 10 m.
            months: ``[B, T]`` int64 calendar months, 0 (January) to 11.
            patch_size: Pixels along the side of a patch; divides H and W.
            exit_norm: Whether the last LayerNorm is applied.

        Returns:
            Features with ``grid [B, D, H / patch_size, W / patch_size]``, the mean of the T * 5 tokens of a
            patch. No pooled vectors: every patch has equally many tokens, so the published mean over tokens
            is the mean over the grid, and the published maximum is one over the grid.

        Raises:
            ValueError: If a shape does not fit, or the series has more than ``max_frames`` frames.
        """
        self._check(image, months, patch_size)
        tokens = self._embed(image, patch_size)  # [B, h, w, T, 5, D]
        tokens = tokens + self._encoding(months, tokens.shape[1:3], patch_size)
        layout = tokens.shape[1:5]
        tokens = tokens.flatten(1, 4)  # [B, N, D]
        for block in self.blocks:
            tokens = block(tokens)
        if exit_norm:
            tokens = self.norm(tokens)
        grid = tokens.view(len(image), *layout, -1).mean(dim=(3, 4))  # [B, h, w, D]
        return Features(grid=grid.permute(0, 3, 1, 2).contiguous())

    def _check(self, image: Tensor, months: Tensor, patch_size: int) -> None:
        """Refuse what the published network cannot embed."""
        if image.ndim != 5 or image.shape[2] != _S2_CHANNELS:
            raise ValueError(f"image must be [B, T, {_S2_CHANNELS}, H, W], got {list(image.shape)}")
        batch, frames, _, height, width = image.shape
        if not 1 <= frames <= self.max_frames:
            raise ValueError(f"Galileo has {self.max_frames} time slots, got a series of {frames} frames")
        if months.shape != (batch, frames):
            raise ValueError(f"months must be [B, T] = {[batch, frames]}, got {list(months.shape)}")
        if height != width or not 1 <= patch_size <= height or height % patch_size:
            raise ValueError(
                f"image must be square, its side a multiple of patch_size={patch_size}, got {height}x{width}"
            )

    def _embed(self, image: Tensor, patch_size: int) -> Tensor:
        """Patch tokens without encoding, ``[B, h, w, T, 5, D]``."""
        side = image.shape[-1] // patch_size
        cut = image.reshape(*image.shape[:3], side, patch_size, side, patch_size)  # [B, T, C, h, p, w, p]
        patches = cut.permute(0, 3, 5, 1, 2, 4, 6)  # [B, h, w, T, C, p, p]
        groups = torch.split(patches, [_SPACE_TIME_GROUPS[name] for name in _S2_GROUPS], dim=4)
        embedded = [
            self.space_time_embed[name](group) for name, group in zip(_S2_GROUPS, groups, strict=True)
        ]  # five [B, h, w, T, D]
        return torch.stack(embedded, dim=4)

    def _encoding(self, months: Tensor, grid_size: torch.Size, patch_size: int) -> Tensor:
        """What is added to the tokens, ``[B, h, w, T, 5, D]``: quarters for channel, slot, month, place."""
        batch, frames = months.shape
        channel = self.s_t_channel_embed[_FIRST_S2_ROW : _FIRST_S2_ROW + len(_S2_GROUPS)]
        place = place_code((grid_size[0], grid_size[1]), patch_size, channel.shape[1], channel.device).to(channel.dtype)
        quarters = (
            channel[None, None, None, None],
            self.pos_embed[None, None, None, :frames, None],
            self.month_embed(months)[:, None, None, :, None],
            place[None, :, :, None, None],
        )
        shape = (batch, *grid_size, frames, len(_S2_GROUPS), -1)
        return torch.cat([quarter.expand(shape) for quarter in quarters], dim=-1)


def build(*, dim: int, depth: int, heads: int, max_frames: int = 24, max_patch_size: int = 8) -> GalileoEncoder:
    """A Galileo encoder with untrained weights.

    Args:
        dim: Width of a token, ``embedding_size`` of the published ``config.json``.
        depth: Number of transformer blocks.
        heads: Attention heads per block.
        max_frames: Time slots, ``max_sequence_length``.
        max_patch_size: Side of the stored patch kernels; other patch sizes resize them.

    Returns:
        The module, whose state-dict entries are those of the published ``encoder.pt``.
    """
    return GalileoEncoder(dim=dim, depth=depth, heads=heads, max_frames=max_frames, max_patch_size=max_patch_size)


def drop_backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with ``.backbone`` deleted from key names, as some exports carry it (golden/galileo/spec.md)."""
    return {key.replace(".backbone", ""): value for key, value in state.items()}
