"""Plain vision transformers (forward stage), and what several of their kind share.

timm's ``VisionTransformer`` and ``Block`` are the published networks of many masked autoencoders, key for key, so
they are used as they are; this file chooses where features are read.
"""

from __future__ import annotations

from functools import partial

from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from rs_embed_core.networks.features import Features


class Vit(VisionTransformer):
    """A vision transformer whose grid is its patch tokens after the final norm, less the class token."""

    def forward(self, image: Tensor) -> Features:  # type: ignore[override]  # timm's returns class scores
        """Features of ``image [B, C, H, W]``: grid ``[B, D, h, w]``.

        Raises:
            ValueError: The position embedding does not fit the image.
        """
        check_image(image, self.in_chans, self.patch_embed.img_size)
        tokens = self.forward_features(image)[:, self.num_prefix_tokens :]  # [B, h * w, D]
        return Features(grid=patch_grid(tokens, self.patch_embed.grid_size))


def build(
    *, dim: int, depth: int, heads: int, eps: float, image_size: int = 224, patch_size: int = 16, channels: int = 3
) -> Vit:
    """A plain transformer with a class token, learned positions, MLPs of 4 D and exact GELU, untrained.

    Args:
        dim: Width D of the tokens.
        depth: Number of transformer blocks.
        heads: Attention heads per block.
        eps: Of every layer norm: 1e-6 in timm and most published code, 1e-5 where torch's default was left.
        image_size: Side of the image in pixels.
        patch_size: Side of a patch in pixels.
        channels: Bands of the image.
    """
    return Vit(
        img_size=image_size,
        patch_size=patch_size,
        in_chans=channels,
        num_classes=0,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        norm_layer=partial(nn.LayerNorm, eps=eps),
    )


def blocks(*, dim: int, depth: int, heads: int, eps: float, layer_scale: bool = False) -> nn.Sequential:
    """``depth`` pre-norm blocks (MLP of 4 D, biased projections, exact GELU), to be stored as ``blocks``.

    ``layer_scale`` multiplies what a block adds by a learned gain per channel, as DINOv2 does.
    """
    norm, start = partial(nn.LayerNorm, eps=eps), 1.0 if layer_scale else None
    return nn.Sequential(
        *(Block(dim, heads, qkv_bias=True, norm_layer=norm, init_values=start) for _ in range(depth))  # type: ignore[arg-type]  # timm's gap
    )


def patch_grid(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Patch tokens ``[B, h * w, D]``, row by row, as the grid ``[B, D, h, w]``."""
    batch, _, dim = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, dim, *size)


def check_image(image: Tensor, channels: int, size: tuple[int, int]) -> None:
    """Refuse an image that a network with stored positions does not fit.

    Raises:
        ValueError: ``image`` is not ``[B, channels, *size]``.
    """
    if image.ndim != 4 or tuple(image.shape[1:]) != (channels, *size):
        raise ValueError(f"image must be [B, {channels}, {size[0]}, {size[1]}], got {list(image.shape)}")
