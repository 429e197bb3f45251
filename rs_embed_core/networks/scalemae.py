"""Scale-MAE (forward stage): a vision transformer whose positions are distances on the ground.

Reed et al. 2023, "Scale-MAE: A Scale-Aware Masked Autoencoder for Multiscale Geospatial Representation Learning",
arXiv:2212.14532. State-dict names are those of the published checkpoint (on the Hub
``MVRL/scalemae-vitlarge-800``) below ``model.``, less its final norm, which rs-embed never applies.
"""

from __future__ import annotations

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.pos_embed import sincos_2d
from rs_embed_core.networks.vit import blocks, check_image, patch_grid


class ScaleMae(nn.Module):
    """The encoder, which is told beside the pixels how much ground one of them covers.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        patch_size: side of a patch in pixels.
        image_size: side of the image in pixels.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, patch_size: int, image_size: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(image_size, patch_size, 3, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = blocks(dim=dim, depth=depth, heads=heads, eps=1e-6)

    def forward(self, image: Tensor, scale_m: Tensor, shorter_side_px: Tensor) -> Features:
        """Features of a batch, in which every image may have its own scale.

        Args:
            image: ``[B, 3, H, W]`` standardised red, green and blue.
            scale_m: ``[B]`` size of a pixel in metres before the image was resized to H x W.
            shorter_side_px: ``[B]`` the image's shorter side in pixels before that.

        Returns:
            ``grid`` ``[B, D, h, w]``: patch tokens of the last block, without a norm.

        Raises:
            ValueError: The image has another shape than the network's.
        """
        height, width = self.patch_embed.img_size
        check_image(image, 3, (height, width))
        patches = self.patch_embed(image)  # [B, h * w, D]
        resolution_m = scale_m * shorter_side_px / width  # [B]; the product first, so that one rounding is left
        patches = patches + self._positions(resolution_m, patches.shape[-1])
        first = self.cls_token.expand(len(image), -1, -1)  # its own position is zero
        tokens = self.blocks(torch.cat([first, patches], dim=1))
        return Features(patch_grid(tokens[:, 1:], self.patch_embed.grid_size))

    def _positions(self, resolution_m: Tensor, dim: int) -> Tensor:
        """The code ``[B, h * w, D]`` of every patch: its row and column times the size of a pixel ``[B]``."""
        rows, columns = (
            resolution_m[:, None] * torch.arange(count, dtype=torch.float32, device=resolution_m.device)
            for count in self.patch_embed.grid_size
        )
        return sincos_2d(rows, columns, dim)


def build(*, dim: int, depth: int, heads: int, patch_size: int = 16, image_size: int = 224) -> ScaleMae:
    """The encoder of one variant, its weights to be loaded."""
    return ScaleMae(dim=dim, depth=depth, heads=heads, patch_size=patch_size, image_size=image_size)
