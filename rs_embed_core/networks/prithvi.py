"""Prithvi-EO 2.0 encoder (forward stage): a ViT over (time, row, column) patches that knows date and place.

Szwarcman et al. 2024, "Prithvi-EO-2.0: A Versatile Multi-Temporal Foundation Model for Earth Observation
Applications", arXiv:2412.02732. State-dict names are those of the published files below ``encoder.``. The file's
``pos_embed`` is a fixed table for four frames; here the codes are computed for the frames and the size at hand.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rs_embed_core.networks.features import Features

_CHANNELS: Final = 6  # in_chans of the published config.json
_SPACE_SHARE: Final = 6  # sixteenths of the width that code the column, and as many the row; time has the rest
_TIME_SHARE: Final = 4


class Prithvi(nn.Module):
    """The encoder; its image vector is the mean or the maximum over all patches of all frames.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        patch_size: side of a patch in pixels; a patch is one frame deep.
        image_size: side of the images it was trained on, which the codes of other sizes are stretched from.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, patch_size: int, image_size: int) -> None:
        if dim % 32 or dim % heads:
            # Sixteenths for column, row and time, each cut into sine and cosine.
            raise ValueError(f"dim must be a multiple of 32 and of heads={heads}, got {dim}")
        super().__init__()
        self.patch_embed = _PatchEmbed(dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.temporal_embed_enc = _PairCode(dim)
        self.location_embed_enc = _PairCode(dim)
        # torch's LayerNorm has the published eps of 1e-5; timm's own has 1e-6.
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self._native = image_size // patch_size

    def forward(self, image: Tensor, temporal_coords: Tensor, location_coords: Tensor) -> Features:
        """Features of a batch of series.

        Args:
            image: ``[B, T, 6, H, W]``, channels B2 B3 B4 B8A B11 B12; the patch size divides H and W.
            temporal_coords: ``[B, T, 2]`` year and day of the year (from 1) of each frame.
            location_coords: ``[B, 2]`` latitude and longitude in degrees.

        Returns:
            ``grid`` ``[B, D, h, w]``: patch tokens, averaged over the frames; their mean is the image vector.
            ``grid_max`` ``[B, D, h, w]``: their maximum over the frames.

        Raises:
            ValueError: shapes that do not fit.
        """
        self._check(image, temporal_coords, location_coords)
        patches = self.patch_embed(image)  # [B, T, D, h, w]
        frames, dim, height, width = patches.shape[1:]
        tokens = patches.flatten(3).transpose(2, 3)  # [B, T, h w, D]
        tokens = tokens + _positions(dim, frames, self._native, (height, width), str(image.device))
        tokens = tokens + self.temporal_embed_enc(temporal_coords)[:, :, None]
        tokens = tokens + self.location_embed_enc(location_coords)[:, None, None]
        first = self.cls_token.expand(len(image), -1, -1)  # knows neither date nor place
        tokens = torch.cat([first, tokens.flatten(1, 2)], dim=1)  # [B, 1 + T h w, D]
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)[:, 1:]
        series = tokens.unflatten(1, (frames, height, width)).permute(0, 4, 1, 2, 3)  # [B, D, T, h, w]
        return Features(series.mean(dim=2), grid_max=series.amax(dim=2))

    def _check(self, image: Tensor, temporal_coords: Tensor, location_coords: Tensor) -> None:
        """Refuse what would be cut or stretched without a word."""
        if image.ndim != 5 or image.shape[2] != _CHANNELS or not image.shape[1]:
            raise ValueError(f"image must be [B, T, {_CHANNELS}, H, W], got {list(image.shape)}")
        side = self.patch_embed.patch_size
        height, width = image.shape[3:]
        if height % side or width % side or not height or not width:
            raise ValueError(f"height and width must be multiples of {side} pixels, got {height} x {width}")
        if temporal_coords.shape != (*image.shape[:2], 2):
            raise ValueError(f"temporal_coords must be {[*image.shape[:2], 2]}, got {list(temporal_coords.shape)}")
        if location_coords.shape != (len(image), 2):
            raise ValueError(f"location_coords must be {[len(image), 2]}, got {list(location_coords.shape)}")


class _PatchEmbed(nn.Module):
    """Projection of square patches, frame by frame."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        size = (1, patch_size, patch_size)
        self.proj = nn.Conv3d(_CHANNELS, dim, kernel_size=size, stride=size)

    def forward(self, image: Tensor) -> Tensor:
        """``[B, T, 6, H, W] -> [B, T, D, h, w]``.

        A kernel one frame deep sees every frame alone: a 2-D convolution, with the frames in the batch axis.
        """
        kernel = self.proj.weight[:, :, 0]  # [D, 6, p, p]
        patches = F.conv2d(image.flatten(0, 1), kernel, self.proj.bias, stride=self.patch_size)
        return patches.view(*image.shape[:2], *patches.shape[1:])


class _PairCode(nn.Module):
    """Sines and cosines of two numbers, half of the width each, times a learned scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self._width = dim // 2

    def forward(self, pairs: Tensor) -> Tensor:
        """``[..., 2] -> [..., D]``."""
        # float32 whatever the network's precision: a year goes in as 2022.0 and its sine is taken as it is
        code = _sinusoid(pairs.float(), self._width).flatten(-2)
        return self.scale * code.to(self.scale.dtype)


def build(*, dim: int, depth: int, heads: int, patch_size: int = 16, image_size: int = 224) -> Prithvi:
    """The encoder of one variant, its weights to be loaded."""
    return Prithvi(dim=dim, depth=depth, heads=heads, patch_size=patch_size, image_size=image_size)


def _sinusoid(values: Tensor, width: int) -> Tensor:
    """``[..., width]`` sines, then cosines, of the values at falling frequencies, in the values' precision."""
    half = width // 2
    order = torch.arange(half, dtype=values.dtype, device=values.device) / half
    angles = values[..., None] * (1.0 / 10_000**order)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@lru_cache(maxsize=32)
def _positions(dim: int, frames: int, native: int, size: tuple[int, int], device: str) -> Tensor:
    """Codes of the patches of ``frames`` of ``size`` rows and columns, ``[T, h w, D]``.

    They depend on no weight, so one copy serves every model in the process. Another size than the ``native`` one
    stretches its codes, bicubic, corner on corner.
    """
    # A tensor made in inference mode could never be used in training again, and this one outlives the call.
    with torch.inference_mode(mode=False), torch.no_grad():
        places, times = (torch.arange(count, dtype=torch.float64, device="cpu") for count in (native, frames))
        space = _sinusoid(places, dim * _SPACE_SHARE // 16)  # [native, 6 D / 16]
        time = _sinusoid(times, dim * _TIME_SHARE // 16)  # [T, 4 D / 16]
        shape = (frames, native, native, -1)
        parts = (space[None, None], space[None, :, None], time[:, None, None])  # column, row, time
        codes = torch.cat([part.expand(shape) for part in parts], dim=-1).float()  # [T, native, native, D]
        if size != (native, native):
            stretched = F.interpolate(codes.permute(0, 3, 1, 2), size=size, mode="bicubic", align_corners=True)
            codes = stretched.permute(0, 2, 3, 1)
        return codes.flatten(1, 2).to(device)
