"""SatMAE++ (forward stage): a plain transformer for RGB, and one with three channel groups for Sentinel-2.

Noman et al. 2024, "Rethinking Transformers Pre-training for Multi-Spectral Satellite Imagery", arXiv:2403.05419.
State-dict names are those of the encoders in the published checkpoints (code techmn/satmae_pp).
"""

from __future__ import annotations

from itertools import chain
from typing import Final, Literal

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from rs_embed_core.networks import vit
from rs_embed_core.networks.features import Features

# Channels of each group: B2 B3 B4 B8 | B5 B6 B7 B8A | B11 B12, in the order B2 .. B8, B8A, B11, B12 of the input.
_GROUPS: Final = ((0, 1, 2, 6), (3, 4, 5, 7), (8, 9))
_CHANNELS: Final = sum(map(len, _GROUPS))


class GroupedVit(nn.Module):
    """A transformer over the patches of every channel group at once.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        eps: of every layer norm.
        channel_dim: channels of D that tell the group; the others tell the place.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels.
    """

    def __init__(
        self, *, dim: int, depth: int, heads: int, eps: float, channel_dim: int, image_size: int, patch_size: int
    ) -> None:
        super().__init__()
        self.image_size = image_size
        side = image_size // patch_size
        self.grid_size = (side, side)
        self.patch_embed = nn.ModuleList(PatchEmbed(image_size, patch_size, len(group), dim) for group in _GROUPS)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        # Tables of sines, stored in the checkpoint. The first row of positions is the decoder's class token's.
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**2, dim - channel_dim))
        self.channel_embed = nn.Parameter(torch.zeros(1, len(_GROUPS), channel_dim))
        self.blocks = vit.blocks(dim=dim, depth=depth, heads=heads, eps=eps)
        self.norm = nn.LayerNorm(dim, eps=eps)
        self._order: Tensor
        self.register_buffer("_order", torch.tensor(list(chain(*_GROUPS))), persistent=False)

    def forward(self, image: Tensor) -> Features:
        """Features of a batch of images.

        Args:
            image: ``[B, 10, H, W]``, channels B2 B3 B4 B5 B6 B7 B8 B8A B11 B12.

        Returns:
            ``grid`` ``[B, D, h, w]``, the mean over the groups at each place; ``pooled_max`` ``[B, D]``, the maximum
            over the tokens of all groups, which the grid does not have any more. Their mean is the grid's mean.

        Raises:
            ValueError: The image has another shape than the positions were made for.
        """
        vit.check_image(image, _CHANNELS, (self.image_size, self.image_size))
        tokens = self._embed(image)  # [B, G, N, D]
        layout = tokens.shape[1:3]
        first = self.cls_token.expand(len(image), -1, -1)  # it has no position
        tokens = torch.cat([first, tokens.flatten(1, 2)], dim=1)  # [B, 1 + G * N, D]
        tokens = self.norm(self.blocks(tokens))[:, 1:]
        places = tokens.unflatten(1, layout).mean(dim=1)  # [B, N, D]
        return Features(vit.patch_grid(places, self.grid_size), pooled_max=tokens.amax(dim=1))

    def _embed(self, image: Tensor) -> Tensor:
        """Patch tokens ``[B, G, N, D]`` with their positions and groups."""
        groups = torch.split(image[:, self._order], [len(group) for group in _GROUPS], dim=1)
        patches = [embed(group) for embed, group in zip(self.patch_embed, groups, strict=True)]  # G of [B, N, D]
        tokens = torch.stack(patches, dim=1)
        shape = (1, *tokens.shape[1:3], -1)
        place = self.pos_embed[:, None, 1:].expand(shape)
        group = self.channel_embed[:, :, None].expand(shape)
        return tokens + torch.cat([place, group], dim=-1)


def build(
    *, modality: Literal["rgb", "s2_10b"], dim: int, depth: int, heads: int, eps: float, channel_dim: int = 256
) -> vit.Vit | GroupedVit:
    """The encoder of one modality, untrained.

    Args:
        modality: ``rgb`` takes 224 pixels in patches of 16, ``s2_10b`` 96 pixels in patches of 8.
        dim: Width D of the tokens.
        depth: Number of transformer blocks.
        heads: Attention heads per block.
        eps: Of every layer norm.
        channel_dim: Of ``s2_10b``: channels of D that tell the group.
    """
    if modality == "rgb":
        return vit.build(dim=dim, depth=depth, heads=heads, eps=eps)
    return GroupedVit(dim=dim, depth=depth, heads=heads, eps=eps, channel_dim=channel_dim, image_size=96, patch_size=8)
