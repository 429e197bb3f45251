"""FoMo-Net (forward stage): a transformer over the patches of single bands, each tagged with a spectral key.

Bountos et al. 2023, "FoMo-Bench: a multi-modal, multi-scale and multi-task Forest Monitoring Benchmark",
arXiv:2312.10114. State-dict names are those of the published ``fomo_single_embedding_layer_weights.pt``
(github.com/RolnickLab/FoMo-Bench). Its ``cls_token`` and ``mlp_head`` take no part in an embedding.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from rs_embed_core.networks.blocks import Attention, FeedForward, Transformer
from rs_embed_core.networks.features import Features

_HEAD_WIDTH: Final = 64  # of an attention head, whatever the width of the tokens (golden/fomo/spec.md)
_SPECTRAL_KEYS: Final = 38  # rows of the table: 37 kinds of band and one more that no band has


class Fomo(nn.Module):
    """The encoder.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block, each 64 wide.
        mlp_dim: width of the hidden layer of a block's feed-forward part.
        patch_size: side of a patch in pixels.
        image_size: side of the image in pixels.
        classes: outputs of the unused head, whose weights are part of the file.
    """

    def __init__(
        self, *, dim: int, depth: int, heads: int, mlp_dim: int, patch_size: int, image_size: int, classes: int
    ) -> None:
        super().__init__()
        self._image_size = image_size
        self._side = image_size // patch_size
        # Row 0 belongs to the class token; the patches begin at row 1.
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1 + self._side**2, dim))
        self.spectral_embedding = nn.Parameter(torch.zeros(1, _SPECTRAL_KEYS, dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        pixels = patch_size**2
        self.to_patch_embedding = nn.Sequential(
            _Cut(patch_size), nn.LayerNorm(pixels), nn.Linear(pixels, dim), nn.LayerNorm(dim)
        )
        self.transformer = Transformer(dim, (_layer(dim, heads, mlp_dim) for _ in range(depth)))
        self.mlp_head = nn.Linear(dim, classes)

    def forward(self, image: Tensor, spectral_keys: Tensor) -> Features:
        """Features of a batch of images.

        Args:
            image: ``[B, C, H, W]``; every patch is normalised by itself, so the scale hardly matters.
            spectral_keys: ``[B, C]`` int64, what kind of band each channel is.

        Returns:
            ``grid`` ``[B, D, h, w]``: the mean over the bands of the tokens at a patch. ``pooled_mean`` and
            ``pooled_max`` ``[B, D]``: over all C h w tokens, so the mean is that of the grid and the maximum is not.

        Raises:
            ValueError: another size than the position embedding is for, or not one key for every channel.
        """
        self._check(image, spectral_keys)
        patches = self.to_patch_embedding(image)  # [B, C, h w, D]
        kind = self.spectral_embedding[0, spectral_keys][:, :, None]  # [B, C, 1, D]
        tokens = patches + kind + self.pos_embedding[:, None, 1:]
        tokens = self.transformer(tokens.flatten(1, 2))  # [B, C h w, D], band after band
        grid = tokens.unflatten(1, (image.shape[1], self._side, self._side)).mean(dim=1)  # [B, h, w, D]
        return Features(grid.permute(0, 3, 1, 2), tokens.mean(dim=1), tokens.amax(dim=1))

    def _check(self, image: Tensor, spectral_keys: Tensor) -> None:
        side = self._image_size
        if image.ndim != 4 or image.shape[2:] != (side, side):
            raise ValueError(f"image must be [B, C, {side}, {side}], got {list(image.shape)}")
        if spectral_keys.shape != image.shape[:2]:
            raise ValueError(f"spectral_keys must be {list(image.shape[:2])}, got {list(spectral_keys.shape)}")


class _Cut(nn.Module):
    """Square patches as flat rows of pixels, each band by itself."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, image: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C, h w, p p]``."""
        batch, channels, height, width = image.shape
        size = self._size
        cut = image.reshape(batch, channels, height // size, size, width // size, size)
        return cut.transpose(3, 4).reshape(batch, channels, -1, size * size)


def _layer(dim: int, heads: int, mlp_dim: int) -> tuple[Attention, FeedForward]:
    to_out = nn.Sequential(nn.Linear(heads * _HEAD_WIDTH, dim))
    # Place 3 is the dropout of training, which has no entry in the file.
    middle = nn.Linear(dim, mlp_dim), nn.GELU(), nn.Identity(), nn.Linear(mlp_dim, dim)
    return Attention(dim, heads, _HEAD_WIDTH, to_out=to_out), FeedForward(nn.LayerNorm(dim), *middle)


def build(
    *,
    dim: int,
    depth: int,
    heads: int,
    mlp_dim: int,
    patch_size: int = 16,
    image_size: int = 64,
    classes: int = 1000,
) -> Fomo:
    """The encoder, its weights to be loaded."""
    return Fomo(
        dim=dim,
        depth=depth,
        heads=heads,
        mlp_dim=mlp_dim,
        patch_size=patch_size,
        image_size=image_size,
        classes=classes,
    )
