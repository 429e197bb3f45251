"""Panopticon (forward stage): DINOv2's ViT behind an attention over the channels of each patch, for any sensor.

Waldmann et al. 2025, "Panopticon: Advancing Any-Sensor Foundation Models for Earth Observation", arXiv:2503.10845.
State-dict names are those of the published teacher (``lewaldm/panopticon``).

As published, every channel of a patch is projected to 2304 values, is given the code of its wavelength, and is
projected to keys and to values, before the channels become one token: more work than the ViT itself. But the query is
a constant, and everything before and after the softmax is linear. So here the matrices are multiplied first, once for
each set of channels (``_PatchEmbed.fold``), and a patch takes two small products: the same numbers, rounding aside.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.flexi import Kept
from rs_embed_core.networks.vit import blocks, patch_grid

_PATCH: Final = 14  # vit_base_patch14_dinov2
_EPS: Final = 1e-6
_CHANNEL_HEADS: Final = 16  # of the attention over channels (golden/panopticon/spec.md, "Network")
_FOLDED_KEPT: Final = 8  # one per set of channels in use: 10 MB each
_GRIDS_KEPT: Final = 4

# Radar channels -1 to -12: four polarisations, for an unknown, an ascending and a descending orbit.
_TRANSMIT: Final = (0, 0, 1, 1)  # VV VH HH HV: 0 is vertical
_RECEIVE: Final = (0, 1, 1, 0)
_RADAR_IDS: Final = tuple(range(-12, 0))


class Panopticon(nn.Module):
    """The encoder.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        channel_dim: width of the attention over channels.
        image_size: side of the images that the positions were learned for.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, channel_dim: int, image_size: int) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(dim, channel_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image_size // _PATCH) ** 2, dim))
        self.blocks = blocks(dim=dim, depth=depth, heads=heads, eps=_EPS, layer_scale=True)
        self.norm = nn.LayerNorm(dim, _EPS)
        self._kept = Kept(_GRIDS_KEPT)

    def forward(self, image: Tensor, chn_ids: Tensor, vector: Literal["patches", "class"] = "patches") -> Features:
        """Features of a batch of images with the same channels.

        Args:
            image: ``[B, C, H, W]`` standardised values; 14 divides H and W.
            chn_ids: ``[B, C]`` wavelength in nanometres, of which the fraction is dropped, or the number of a radar
                channel, -1 to -12; the same in all rows.
            vector: pool the patch tokens, or take the class token, for mean and max alike.

        Returns:
            ``grid`` ``[B, D, h, w]``: patch tokens after the last norm. ``pooled_mean`` ``[B, D]``: the class token,
            if asked for.

        Raises:
            ValueError: shapes that do not fit, rows that differ, or a number that no channel has.
        """
        cells = _check(image, chn_ids)
        patches = self.patch_embed(image, chn_ids[0])  # [B, h w, D]
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1)
        tokens = self.norm(self.blocks(tokens + self._positions(cells)))
        first = tokens[:, 0] if vector == "class" else None
        return Features(patch_grid(tokens[:, 1:], cells), first, first)

    def _positions(self, cells: tuple[int, int]) -> Tensor:
        """The learned positions ``[1, 1 + h w, D]`` of a grid of cells, the class token's first."""
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if cells == (side, side):
            return self.pos_embed
        table = self.pos_embed
        resized: Tensor = self._kept.get(cells, [table], lambda: resample_abs_pos_embed(table, list(cells)))
        return resized


class _Folded(NamedTuple):
    """What a patch embedding of given channels comes to, with A heads and p pixels to a patch."""

    score: Tensor  # [A, p]: what a patch's pixels add to the score of their channel
    score_bias: Tensor  # [C, A]
    kernel: Tensor  # [D, A (p + C)]: from pixels mixed over the channels, and the shares of the channels, to the token


class _PatchEmbed(nn.Module):
    """One token for all channels of a patch: each channel's projection, mixed by attention."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.conv3d = _Conv3d(width)
        self.chnfus = _ChannelAttention(width)
        self.proj = nn.Linear(width, dim)
        self._kept = Kept(_FOLDED_KEPT)

    def forward(self, image: Tensor, channels: Tensor) -> Tensor:
        """``[B, h w, D]`` tokens of ``[B, C, H, W]`` images; channels ``[C]``."""
        folded = self._kept.get(
            tuple(channels.tolist()), list(self.parameters()), lambda: self.fold(channels.to(self.proj.weight))
        )
        batch, count, height, width = image.shape
        cut = image.reshape(batch, count, height // _PATCH, _PATCH, width // _PATCH, _PATCH)
        pixels = cut.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(1, 2)  # [B, h w, C, p]
        scores = F.linear(pixels, folded.score) + folded.score_bias
        shares = scores.softmax(dim=2).transpose(2, 3)  # [B, h w, A, C]
        mixed = torch.cat([shares @ pixels, shares], dim=3)  # [B, h w, A, p + C]
        return F.linear(mixed.flatten(2), folded.kernel, self.proj.bias)

    def fold(self, channels: Tensor) -> _Folded:
        """The published matrices, multiplied.

        A channel of a patch is ``x = W pixels + e``, where ``e`` is its code and the bias of the convolution. Head
        ``a`` gives it the score ``q_a K_a x`` and the token is ``P_a V_a x``, mixed over channels, summed over heads.
        """
        attention = self.chnfus
        convolution = self.conv3d.conv3d.weight.flatten(1)  # [width, p]
        codes = attention.chnemb(channels) + self.conv3d.conv3d.bias  # [C, width]
        dim, width = self.proj.weight.shape
        query = attention.query.view(_CHANNEL_HEADS, -1)  # [A, d]
        query = query * query.shape[1] ** -0.5
        keys = attention.xattn.inproj_k.weight.view(_CHANNEL_HEADS, -1, width)  # [A, d, width]
        values = attention.xattn.inproj_v.weight.view(_CHANNEL_HEADS, -1, width)
        out = self.proj.weight.view(dim, _CHANNEL_HEADS, -1)  # [D, A, d]
        asked = torch.einsum("ad,adw->aw", query, keys)
        mixed = values @ torch.cat([convolution, codes.T], dim=1)  # [A, d, p + C]
        kernel = torch.einsum("nad,adp->nap", out, mixed)
        return _Folded(asked @ convolution, codes @ asked.T, kernel.flatten(1))


class _Conv3d(nn.Module):
    """Holds the projection of a patch of one channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        size = (1, _PATCH, _PATCH)
        self.conv3d = nn.Conv3d(1, width, size, size)


class _ChannelAttention(nn.Module):
    """Holds the attention over channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.chnemb = _ChannelCodes(width)
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.xattn = _Projections(width)


class _Projections(nn.Module):
    """Holds the projections to keys and values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inproj_k = nn.Linear(width, width, bias=False)
        self.inproj_v = nn.Linear(width, width, bias=False)


class _ChannelCodes(nn.Module):
    """The code of a channel: of its wavelength, or learned for radar."""

    def __init__(self, width: int) -> None:
        super().__init__()
        third = width // 3
        self.embed_transmit = nn.Parameter(torch.zeros(2, third))
        self.embed_receive = nn.Parameter(torch.zeros(2, third))
        self.embed_orbit = nn.Parameter(torch.zeros(2, width - 2 * third))
        self._width = width

    def forward(self, channels: Tensor) -> Tensor:
        """``[C, width]`` codes of ``[C]`` channels."""
        radar = (-channels - 1).clamp(min=0).long() % len(_RADAR_IDS)  # any for a wavelength: not used
        transmit, receive = (torch.tensor(ends, device=radar.device)[radar % 4] for ends in (_TRANSMIT, _RECEIVE))
        orbits = torch.cat([self.embed_orbit.mean(dim=0, keepdim=True), self.embed_orbit])
        learned = torch.cat([self.embed_transmit[transmit], self.embed_receive[receive], orbits[radar // 4]], dim=1)
        return torch.where(channels[:, None] < 0, learned, _sincos(channels.floor(), self._width))


def _sincos(wavelengths: Tensor, width: int) -> Tensor:
    """``pos_embed.sincos`` with the frequencies rounded as the published code does it.

    At wavelengths of 2200 the last digit of a frequency shows: it would change the tokens by 1e-5.
    """
    steps = torch.arange(width // 2, dtype=wavelengths.dtype, device=wavelengths.device) / (width // 2)
    angles = wavelengths[:, None] * (1 / 10_000**steps)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def build(*, dim: int, depth: int, heads: int, channel_dim: int = 2304, image_size: int = 518) -> Panopticon:
    """The encoder of one size, its weights to be loaded."""
    return Panopticon(dim=dim, depth=depth, heads=heads, channel_dim=channel_dim, image_size=image_size)


def _check(image: Tensor, chn_ids: Tensor) -> tuple[int, int]:
    """Rows and columns of patches; refuses what does not fit."""
    if image.ndim != 4 or chn_ids.shape != image.shape[:2]:
        raise ValueError(
            f"image must be [B, C, H, W] and chn_ids [B, C], got {list(image.shape)}, {list(chn_ids.shape)}"
        )
    height, width = image.shape[2:]
    if height % _PATCH or width % _PATCH or not height or not width:
        raise ValueError(f"height and width must be multiples of {_PATCH} pixels, got {height} x {width}")
    first, *others = chn_ids.tolist()
    if any(row != first for row in others):
        raise ValueError("only images of the same channels share a batch, got chn_ids that differ")
    if strange := [number for number in first if not (number >= 1 or number in _RADAR_IDS)]:
        raise ValueError(f"chn_ids are wavelengths in nm or radar channels -1 to -12, got {strange}")
    return height // _PATCH, width // _PATCH
