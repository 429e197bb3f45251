"""CROMA (forward stage): transformers for Sentinel-2, for Sentinel-1 and for both, with attention biased by distance.

Fuller et al. 2023, "CROMA: Remote Sensing Representations with Contrastive Radar-Optical Masked Autoencoders",
arXiv:2311.00566. State-dict names are those of the parts of the published checkpoints (``torchgeo/croma`` on the Hub),
each behind the name of its part. Nothing is learned about places, so an image may have any size.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.flexi import Kept
from rs_embed_core.networks.vit import patch_grid

type Modality = Literal["s2", "s1", "joint"]

_S2_CHANNELS: Final = 12
_S1_CHANNELS: Final = 2
_CHANNELS: Final = {"s2": _S2_CHANNELS, "s1": _S1_CHANNELS, "joint": _S2_CHANNELS + _S1_CHANNELS}
_PATCH: Final = 8  # side in pixels, of both sizes
_HEADS: Final = 16  # of both sizes: the published encoders have it fixed (golden/croma/spec.md, "Pitfall")
_BIASES_KEPT: Final = 2  # 3 MB each for images of 120 pixels, 1 GB for 504


class Croma(nn.Module):
    """The encoders that one modality needs.

    Args:
        modality: ``s2``, ``s1``, or ``joint`` for both.
        dim: width D of the tokens.
        depth: blocks of the optical encoder; the radar and the joint one have half as many.
    """

    def __init__(self, *, modality: Modality, dim: int, depth: int) -> None:
        super().__init__()
        if dim % _HEADS:
            raise ValueError(f"dim must be a multiple of {_HEADS}, the number of heads, got {dim}")
        self._modality = modality
        self._biases = Kept(_BIASES_KEPT)
        half = max(1, depth // 2)
        if modality != "s1":
            self.s2_encoder = _Encoder(_S2_CHANNELS, dim, depth)
        if modality != "s2":
            self.s1_encoder = _Encoder(_S1_CHANNELS, dim, half)
        if modality == "s2":
            self.s2_GAP_FFN = _head(dim)
        elif modality == "s1":
            self.s1_GAP_FFN = _head(dim)
        else:
            self.joint_encoder = _JointTransformer(dim, half)

    def forward(self, image: Tensor) -> Features:
        """Features of a batch of images.

        Args:
            image: ``[B, C, H, H]``, values 0 to 1. ``s2``: B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12; ``s1``: VV VH;
                ``joint``: the former, then the latter.

        Returns:
            ``grid`` ``[B, D, h, h]``: the tokens after the last norm. ``pooled_mean`` ``[B, D]`` of ``s2`` and
            ``s1``: their mean through the published head. Of ``joint`` the published vector is the mean itself.

        Raises:
            ValueError: another number of channels, or no square of whole patches.
        """
        self._check(image)
        side = image.shape[-1] // _PATCH
        weight = next(self.parameters())  # the bias follows from none, but goes with them to another device
        bias = self._biases.get(side, (weight,), lambda: distance_bias(side, weight.device))
        if self._modality == "joint":
            optical, radar = image[:, :_S2_CHANNELS], image[:, _S2_CHANNELS:]
            tokens = self.joint_encoder(self.s1_encoder(radar, bias), self.s2_encoder(optical, bias), bias)
            return Features(patch_grid(tokens, (side, side)))
        if self._modality == "s2":
            encoder, head = self.s2_encoder, self.s2_GAP_FFN
        else:
            encoder, head = self.s1_encoder, self.s1_GAP_FFN
        tokens = encoder(image, bias)  # [B, h h, D]
        return Features(patch_grid(tokens, (side, side)), pooled_mean=head(tokens.mean(dim=1)))

    def _check(self, image: Tensor) -> None:
        channels, side = _CHANNELS[self._modality], image.shape[-1]
        if image.ndim != 4 or image.shape[1:] != (channels, side, side) or side % _PATCH or not side:
            wanted = f"[B, {channels}, H, H] with H a multiple of {_PATCH}"
            raise ValueError(f"image must be {wanted}, got {list(image.shape)}")


def distance_bias(side: int, device: torch.device) -> Tensor:
    """What distance takes off the attention between the patches of a square: ``[1, heads, N, N]``, N = side * side.

    Head h of 16 has the slope ``2 ** (-(h + 1) / 2)`` per patch of Euclidean distance.
    """
    along = torch.arange(side, dtype=torch.float64, device=device)
    places = torch.cartesian_prod(along, along)  # [N, 2], row by row
    distance = (places[:, None] - places).square().sum(dim=-1).sqrt()  # [N, N]
    slopes = 2.0 ** (-(torch.arange(_HEADS, dtype=torch.float64, device=device) + 1) * 8 / _HEADS)
    return (-slopes[:, None, None] * distance).float()[None]


class _Encoder(nn.Module):
    """Patches of one sensor and a transformer over them."""

    def __init__(self, channels: int, dim: int, depth: int) -> None:
        super().__init__()
        self.linear_input = nn.Linear(channels * _PATCH**2, dim)
        self.transformer = _Transformer(dim, depth)

    def forward(self, image: Tensor, bias: Tensor) -> Tensor:
        """``[B, C, H, H] -> [B, N, D]``."""
        patches = functional.unfold(image, _PATCH, stride=_PATCH).transpose(1, 2)  # [B, N, C p p]
        tokens: Tensor = self.transformer(self.linear_input(patches), bias)
        return tokens


class _Transformer(nn.Module):
    """Pairs of an attention and a feed-forward part, each with its residual, and a last norm."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([_Attention(dim), _FeedForward(dim)]) for _ in range(depth))
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``."""
        for layer in self.layers:
            attention, feed = layer.children()
            tokens = tokens + attention(tokens, bias)
            tokens = tokens + feed(tokens)
        normed: Tensor = self.norm_out(tokens)
        return normed


class _JointTransformer(nn.Module):
    """Radar tokens that look at themselves and then at the optical ones."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([_Attention(dim), _CrossAttention(dim), _FeedForward(dim)]) for _ in range(depth)
        )
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, radar: Tensor, optical: Tensor, bias: Tensor) -> Tensor:
        """``[B, N, D]`` of each to ``[B, N, D]`` of both."""
        tokens = radar
        for layer in self.layers:
            attention, cross, feed = layer.children()
            tokens = tokens + attention(tokens, bias)
            tokens = tokens + cross(tokens, optical, bias)
            tokens = tokens + feed(tokens)
        normed: Tensor = self.norm_out(tokens)
        return normed


class _Attention(nn.Module):
    """Multi-head self-attention behind a norm, without the residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``."""
        query, key, value = self.to_qkv(self.input_norm(tokens)).chunk(3, dim=-1)
        mixed: Tensor = self.to_out(_attend(query, key, value, bias))
        return mixed


class _CrossAttention(nn.Module):
    """Attention of some tokens to others, both behind the same norm, without the residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, others: Tensor, bias: Tensor) -> Tensor:
        """``[B, N, D]`` of each to ``[B, N, D]``."""
        others = self.input_norm(others)
        query = self.to_q(self.input_norm(tokens))
        mixed: Tensor = self.to_out(_attend(query, self.to_k(others), self.to_v(others), bias))
        return mixed


class _FeedForward(nn.Module):
    """A norm, a linear layer, an exact GELU and a linear layer, without the residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(dim)
        # Place 2 is the dropout of training, which has no entry in the file.
        self.net = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``."""
        projected: Tensor = self.net(self.input_norm(tokens))
        return projected


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention of all heads, ``[B, N, D]`` of each to ``[B, N, D]``."""
    shape = (*query.shape[:2], _HEADS, -1)
    query, key, value = (part.reshape(shape).transpose(1, 2) for part in (query, key, value))  # [B, heads, N, d]
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
    return mixed.transpose(1, 2).flatten(2)


def _head(dim: int) -> nn.Sequential:
    """From the mean of the tokens to the image vector of one sensor."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))


def build(*, modality: Modality, dim: int, depth: int) -> Croma:
    """The encoders of one modality and size, their weights to be loaded."""
    return Croma(modality=modality, dim=dim, depth=depth)
