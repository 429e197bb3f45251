"""TerraFM (forward stage): a vision transformer with a patch convolution for every kind of Sentinel product.

Danish et al. 2025, "TerraFM: A Scalable Foundation Model for Unified Multisensor Earth Observation",
arXiv:2506.06281. State-dict names are those of the published ``TerraFM-B.pth`` (``MBZUAI/TerraFM`` on the Hub).
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rs_embed_core.networks.features import Features

type Preprocessing = Literal["rs-embed", "official"]

_S1_CHANNELS: Final = 2
_S2_CHANNELS: Final = 12
_WIDENING: Final = 3  # patches are 3 D wide before the projection (golden/terrafm/spec.md)


class TerraFM(nn.Module):
    """The encoder.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        patch_size: side of a patch in pixels.
        image_size: side of the image in pixels.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, patch_size: int, image_size: int) -> None:
        super().__init__()
        self._image_size = image_size
        self._side = image_size // patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self._side**2, dim))
        self.patch_embed = _PatchEmbed(dim, patch_size)
        # timm's LayerNorm has the published eps of 1e-6; torch's, as in the projection, has 1e-5.
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)
        )
        self.norm = LayerNorm(dim)

    def forward(self, image: Tensor, *, preprocessing: Preprocessing = "rs-embed") -> Features:
        """Features of a batch of images of one sensor.

        Args:
            image: ``[B, 12, H, W]`` Sentinel-2 or ``[B, 2, H, W]`` Sentinel-1, values 0 to 1.
            preprocessing: ``official`` embeds Sentinel-2 with the convolution that was trained on surface
                reflectance (L2A); ``rs-embed`` with the one for top of atmosphere (L1C), the only one that the
                published forward reaches. Sentinel-1 has one convolution.

        Returns:
            ``grid`` ``[B, D, h, w]``: normalised patch tokens of the last block. ``pooled_mean`` and ``pooled_max``
            ``[B, D]``: its class token, for the published model pools in no other way.

        Raises:
            ValueError: another number of channels, or another size than the position embedding is for.
        """
        self._check(image)
        patches = self.patch_embed(image, official=preprocessing == "official")  # [B, h w, D]
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        pooled = tokens[:, 0]
        grid = tokens[:, 1:].transpose(1, 2).unflatten(2, (self._side, self._side))
        return Features(grid, pooled, pooled)

    def _check(self, image: Tensor) -> None:
        side = self._image_size
        if image.ndim != 4 or image.shape[1] not in (_S1_CHANNELS, _S2_CHANNELS) or image.shape[2:] != (side, side):
            raise ValueError(f"image must be [B, 12 or 2, {side}, {side}], got {list(image.shape)}")


class _PatchEmbed(nn.Module):
    """Patches of either sensor, brought to the width of the tokens."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        wide = _WIDENING * dim
        self.s2_l2a_embed = nn.Parameter(torch.zeros(1, wide))
        self.s2_l1c_embed = nn.Parameter(torch.zeros(1, wide))
        self.s1_embed = nn.Parameter(torch.zeros(1, wide))
        self.conv2d_s2_l2a = nn.Conv2d(_S2_CHANNELS, wide, patch_size, patch_size)
        self.conv2d_s2_l1c = nn.Conv2d(_S2_CHANNELS, wide, patch_size, patch_size)
        self.conv2d_s1 = nn.Conv2d(_S1_CHANNELS, wide, patch_size, patch_size)
        self.projection = _Projection(dim, wide)

    def forward(self, image: Tensor, *, official: bool) -> Tensor:
        """``[B, h w, D]`` embedded patches, row by row."""
        if image.shape[1] == _S1_CHANNELS:
            convolution, kind = self.conv2d_s1, self.s1_embed
        elif official:
            convolution, kind = self.conv2d_s2_l2a, self.s2_l2a_embed
        else:
            convolution, kind = self.conv2d_s2_l1c, self.s2_l1c_embed
        patches = convolution(image).flatten(2).transpose(1, 2)  # [B, h w, 3 D]
        projected: Tensor = self.projection(patches + kind)
        return projected


class _Projection(nn.Module):
    """Three linear layers without an activation between them."""

    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.proj1 = nn.Linear(wide, wide, bias=False)
        self.norm_input = nn.LayerNorm(wide)
        self.proj2 = nn.Linear(wide, wide)
        self.proj3 = nn.Linear(wide, dim)

    def forward(self, patches: Tensor) -> Tensor:
        """``[B, N, 3 D] -> [B, N, D]``."""
        projected: Tensor = self.proj3(self.proj2(self.norm_input(self.proj1(patches))))
        return projected


def build(*, dim: int, depth: int, heads: int, patch_size: int = 16, image_size: int = 224) -> TerraFM:
    """The encoder of one size, its weights to be loaded."""
    return TerraFM(dim=dim, depth=depth, heads=heads, patch_size=patch_size, image_size=image_size)
