"""DOFA: a vision transformer whose patch embedding is generated from the wavelengths of the channels.

Xiong et al. 2024, "Neural Plasticity-Inspired Multimodal Foundation Model for Earth Observation",
arXiv:2403.15356. State-dict names are those of the published checkpoints (code zhu-xlab/DOFA; on the Hub
``earthflow/DOFA`` and ``torchgeo/dofa``).
"""

from __future__ import annotations

from typing import Final

import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.generated import GeneratedPatchEmbed

_WAVE_DIM: Final = 128  # width of the weight generator (wv_planes of the published configuration)


class Dofa(nn.Module):
    """The encoder with its published pooling.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        patch_size: side of a patch in pixels.
        image_size: side of the image in pixels.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, patch_size: int, image_size: int) -> None:
        super().__init__()
        self.patch_embed = GeneratedPatchEmbed(dim, patch_size, _WAVE_DIM)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image_size // patch_size) ** 2, dim))
        # timm's LayerNorm has the published eps of 1e-6; torch's, as in the weight generator, has 1e-5.
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)
        )
        self.fc_norm = LayerNorm(dim)

    def forward(self, image: Tensor, wavelengths_um: Tensor) -> Features:
        """Features of a batch of images with the same bands.

        Args:
            image: ``[B, C, H, W]`` standardised values.
            wavelengths_um: ``[B, C]`` central wavelengths in micrometres. Only images with the same bands
                share a batch, so all rows are equal and the first one is used.

        Returns:
            ``grid`` ``[B, D, h, w]``: patch tokens of the last block, without a norm. ``pooled_mean``
            ``[B, D]``: ``fc_norm`` of their mean. The published model pools in no other way, so
            ``pooled_max`` is the same.
        """
        patches = self.patch_embed(image, wavelengths_um[0], _encode)  # [B, D, h, w]
        tokens = patches.flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(image), -1, -1)
        tokens = torch.cat([first, tokens], dim=1)  # [B, 1 + h w, D]
        for block in self.blocks:
            tokens = block(tokens)
        tokens = tokens[:, 1:]
        pooled = self.fc_norm(tokens.mean(dim=1))
        return Features(tokens.transpose(1, 2).unflatten(2, patches.shape[2:]), pooled, pooled)


def build(*, dim: int, depth: int, heads: int, patch_size: int = 16, image_size: int = 224) -> Dofa:
    """The encoder of one variant, its weights to be loaded."""
    return Dofa(dim=dim, depth=depth, heads=heads, patch_size=patch_size, image_size=image_size)


def _encode(wavelengths_um: Tensor) -> Tensor:
    """``[C, 128]`` sines, then cosines, of ``[C]`` wavelengths in nanometres at 64 frequencies."""
    exponents = torch.arange(_WAVE_DIM // 2, dtype=torch.float32, device=wavelengths_um.device)
    frequencies = 10_000 ** (-exponents / len(exponents))
    angles = 1000 * wavelengths_um.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def fill_fc_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A masked autoencoder's file has ``norm`` where the encoder wants ``fc_norm``: use it (golden/dofa/spec.md)."""
    borrowed = {
        f"fc_{key}": value for key, value in state.items() if key.startswith("norm.") and f"fc_{key}" not in state
    }
    return {**state, **borrowed}
