"""TerraMind (forward stage): the encoder of a generative multimodal model, fed with Sentinel-2 L2A alone.

Jakubik et al. 2025, "TerraMind: Large-Scale Generative Multimodality for Earth Observation", arXiv:2504.11171.
State-dict names are those of the published files (code terrastackai/terratorch), which hold the whole encoder and
decoder with every modality.
"""

from __future__ import annotations

import re
from typing import Final

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.pos_embed import sincos_2d
from rs_embed_core.networks.vit import check_image, patch_grid

_MODALITY: Final = "untok_sen2l2a@224"  # the published name of pixels of Sentinel-2 L2A
_CHANNELS: Final = 12
_IMAGE_SIZE: Final = 224
_PATCH_SIZE: Final = 16
_CELLS: Final = (_IMAGE_SIZE // _PATCH_SIZE, _IMAGE_SIZE // _PATCH_SIZE)
_EPS: Final = 1e-6  # of every layer norm
_GAIN: Final = re.compile(r"(encoder\.\d+\.norm[12]\.|encoder_norm\.)weight")


class TerraMind(nn.Module):
    """The encoder. It has no class token and no vector of its own.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        gated: blocks without biases whose MLP is gated (base and large), or plain ones (tiny and small).
    """

    def __init__(self, *, dim: int, depth: int, heads: int, gated: bool) -> None:
        super().__init__()
        self.encoder_embeddings = nn.ModuleDict({_MODALITY: _Embedding(dim)})
        mlp = _GatedMlp if gated else Mlp
        self.encoder = nn.ModuleList(
            Block(dim, heads, qkv_bias=not gated, proj_bias=not gated, norm_layer=_Norm, mlp_layer=mlp)
            for _ in range(depth)
        )
        self.encoder_norm = _Norm(dim)

    def forward(self, image: Tensor, layer_index: int = -1) -> Features:
        """Features of ``image [B, 12, 224, 224]``, bands B1 to B12 without B10.

        Args:
            image: standardised values.
            layer_index: the block whose output is taken, counted from 0 or, below 0, from the end. Only that of the
                last block goes through the final norm.

        Returns:
            ``grid`` ``[B, D, 14, 14]``.

        Raises:
            ValueError: The image has another shape, or there is no such block.
        """
        check_image(image, _CHANNELS, (_IMAGE_SIZE, _IMAGE_SIZE))
        depth = len(self.encoder)
        if not -depth <= layer_index < depth:
            raise ValueError(f"layer_index must lie in {-depth}..{depth - 1}, got {layer_index}")
        last = layer_index % depth
        tokens = self.encoder_embeddings[_MODALITY](image)  # [B, 196, D]
        for block in self.encoder[: last + 1]:
            tokens = block(tokens)
        if last == depth - 1:
            tokens = self.encoder_norm(tokens)
        return Features(patch_grid(tokens, _CELLS))


class _Embedding(nn.Module):
    """Linear projection of patches, plus the codes of their place and of the modality."""

    pos_emb: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(_CHANNELS * _PATCH_SIZE**2, dim, bias=False)
        self.mod_emb = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("pos_emb", _positions(dim))  # fixed, and in the published file all the same

    def forward(self, image: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, h w, D]``."""
        rows, columns = _CELLS
        blocks = image.view(-1, _CHANNELS, rows, _PATCH_SIZE, columns, _PATCH_SIZE)
        pixels = blocks.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # [B, h w, p p C], bands fastest
        tokens: Tensor = self.proj(pixels) + (self.pos_emb + self.mod_emb)
        return tokens


class _Norm(nn.Module):
    """A layer norm that learns no bias, though the published files name one: a buffer of zeros."""

    bias: Tensor

    def __init__(self, dim: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, device=device, dtype=dtype))
        self.register_buffer("bias", torch.zeros(dim, device=device, dtype=dtype))

    def forward(self, tokens: Tensor) -> Tensor:
        """``[..., D] -> [..., D]``."""
        return F.layer_norm(tokens, self.weight.shape, self.weight, self.bias, _EPS)


class _GatedMlp(nn.Module):
    """``fc2(silu(fc1(x)) * fc3(x))``: timm's ``SwiGLU`` under other names, two thirds as wide as a plain MLP."""

    def __init__(self, in_features: int, hidden_features: int, *, bias: bool, **_unused: object) -> None:
        super().__init__()
        width = 2 * hidden_features // 3
        self.fc1 = nn.Linear(in_features, width, bias=bias)
        self.fc2 = nn.Linear(width, in_features, bias=bias)
        self.fc3 = nn.Linear(in_features, width, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[..., D] -> [..., D]``."""
        mixed: Tensor = self.fc2(F.silu(self.fc1(tokens)) * self.fc3(tokens))
        return mixed


def build(*, dim: int, depth: int, heads: int, gated: bool) -> TerraMind:
    """The encoder of one variant, its weights to be loaded."""
    return TerraMind(dim=dim, depth=depth, heads=heads, gated=gated)


def _positions(dim: int) -> Tensor:
    """The codes ``[1, 196, D]`` of the patches, row by row: half of the channels for the row, then the column."""
    counted = torch.arange(_CELLS[0], dtype=torch.float32)
    across, down = sincos_2d(counted, counted, dim).chunk(2, dim=-1)
    return torch.cat([down, across], dim=-1)[None]


def zero_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with the zero biases of the encoder's norms, if it has none of them."""
    gains = {match[1]: value for key, value in state.items() if (match := _GAIN.fullmatch(key))}
    biases = {f"{norm}bias": torch.zeros_like(gain) for norm, gain in gains.items()}
    return state if state.keys() & biases.keys() else {**state, **biases}
