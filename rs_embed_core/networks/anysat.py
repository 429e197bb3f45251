"""AnySat encoder (forward stage): the Sentinel-2 path of the multi-sensor transformer.

Astruc et al. 2025, "AnySat: One Earth Observation Model for Many Resolutions, Scales, and Modalities",
arXiv:2412.14123. Facts: golden/anysat/spec.md. State-dict names are those of the published checkpoint, less the
projectors of the other sensors. Every pixel's series becomes one vector (``projector_s2``), the pixels of a patch one
token (``spatial_encoder``), and the patches see each other (``blocks``).

The first two treat pixels and patches one by one and hold by far the widest arrays, so they go through in parts:
the memory of a batch is then that of the last one.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Final, Literal

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.networks import vit
from rs_embed_core.networks.features import Features
from rs_embed_core.networks.pos_embed import sincos_2d

type GridMode = Literal["dense", "patch"]
type PooledSource = Literal["patch", "tile"]

_CHANNELS: Final = 10
_TIME_HEADS: Final = 16  # of the attention over time, and groups of the norms around it
_KEY_DIM: Final = 8
_VECTOR_GROUPS: Final = 4  # of the norms between the layers of one vector
_DATE_BASE: Final = 367  # of the slowest wavelength of the date code
_MLP_RATIO: Final = 4
_PIXEL_EPS: Final = 1e-5  # of the layer norms inside patches
_PATCH_EPS: Final = 1e-6  # of those between patches
_BUCKETS: Final = 8
_CLASS_BUCKET: Final = 7  # of any pair with the class token
_BUCKET_OF: Final = (3, 4, 5, 5, 6)  # by rounded distance; the last one also for all that is farther

# Vectors that go through at a time. 2^11 to 2^14 take the same time on the CPU; a batch of 16 images of 8 frames takes
# 23 MB a sample in such parts, and 57 MB in one.
_PART: Final = 1 << 12


class AnySat(nn.Module):
    """The encoder, fed with Sentinel-2 only.

    Args:
        dim: width D of the tokens.
        depth: transformer blocks inside patches, and as many between patches (and one more of another kind).
        heads: attention heads per block.
    """

    def __init__(self, *, dim: int, depth: int, heads: int) -> None:
        if dim % (2 * _TIME_HEADS) or dim % heads:
            raise ValueError(f"dim must be a multiple of {2 * _TIME_HEADS} and of heads={heads}, got {dim}")
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.projector_s2 = _Projector(dim)
        self.spatial_encoder = _SpatialEncoder(dim, depth, heads)
        plain = vit.blocks(dim=dim, depth=depth, heads=heads, eps=_PATCH_EPS)
        self.blocks = nn.ModuleList([*plain, _CrossBlock(dim, heads)])

    def forward(
        self,
        image: Tensor,
        s2_dates: Tensor,
        offsets_m: Tensor,
        *,
        grid_feature_mode: GridMode = "dense",
        pooled_source: PooledSource = "patch",
    ) -> Features:
        """Features of a batch of series.

        Args:
            image: ``[B, T, 10, S, S]`` standardised, channels B2 B3 B4 B5 B6 B7 B8 B8A B11 B12.
            s2_dates: ``[B, T]`` day of the year of each frame, from 0.
            offsets_m: ``[B, p]`` where the pixels of a patch lie along its side, in metres; p divides S. The same for
                all samples of a batch.
            grid_feature_mode: ``dense`` has a cell per pixel, its patch's token and then its own; ``patch`` one a
                patch.
            pooled_source: what the vectors are: the mean or maximum over the patches, or the ``tile``'s class token.

        Returns:
            ``grid`` ``[B, 2 D, S, S]`` (dense) or ``[B, D, S / p, S / p]`` (patch), both vectors ``[B, D]``, and the
            ``cells`` of which vectors are made.

        Raises:
            ValueError: shapes that do not fit.
        """
        _check(image, s2_dates, offsets_m)
        inside = offsets_m.shape[1]
        side = image.shape[-1] // inside
        pixels = self.projector_s2(_by_patch(image, side), s2_dates)  # [B, n n, p p, D]
        patches, pixels = self.spatial_encoder(pixels, offsets_m[0])  # [B, n n, D] and [B, n n, p p, D]
        code = _codes(side, inside, patches.shape[-1], str(patches.device))
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1) + code
        *plain, last = self.blocks
        for block in plain:
            tokens = block(tokens)
        tokens = last(tokens, code)  # [B, 1 + n n, D]
        tile, patches = tokens[:, 0], tokens[:, 1:]
        mean, most = (tile, tile) if pooled_source == "tile" else (patches.mean(dim=1), patches.amax(dim=1))
        cells = vit.patch_grid(patches, (side, side))
        grid = _dense(patches, pixels, side) if grid_feature_mode == "dense" else cells
        if pooled_source == "tile":
            cells = tile[:, :, None, None]  # one cell, which any part of the image keeps
        return Features(grid, mean, most, cells=cells)


class _Projector(nn.Module):
    """What makes tokens of one sensor's pixels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pad_parameter = nn.Parameter(torch.zeros(()))  # stands for masked values in training: none here
        self.patch_embed = _SeriesEncoder(dim)
        self._date_dim = dim // _TIME_HEADS

    def forward(self, series: Tensor, dates: Tensor) -> Tensor:
        """``[B, N, q, T, 10]`` and ``[B, T]`` to ``[B, N, q, D]``."""
        batch, frames = dates.shape
        code = _date_code(dates, self._date_dim)[:, None]  # [B, 1, T, d]
        parts = torch.split(series.flatten(1, 2), max(1, _PART // (batch * frames)), dim=1)
        vectors = torch.cat([self.patch_embed(part, code) for part in parts], dim=1)
        return vectors.view(*series.shape[:3], -1)


class _SeriesEncoder(nn.Module):
    """A lightweight temporal attention encoder (Garnot and Landrieu 2020, arXiv:2007.00586), pixel by pixel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = (_CHANNELS, dim // 8, dim // 2, dim, 2 * dim, dim)
        layers: list[nn.Module] = []
        for wide, out in itertools.pairwise(widths):
            # the fourth is the dropout of training
            layers += [nn.Linear(wide, out), _VectorNorm(_VECTOR_GROUPS, out), nn.ReLU(inplace=True), nn.Identity()]
        self.inconv = nn.Sequential(*layers)
        self.in_norm = nn.GroupNorm(_TIME_HEADS, dim)
        self.attention_heads = _TimeAttention(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), _VectorNorm(_VECTOR_GROUPS, dim), nn.ReLU(inplace=True))
        self.out_norm = _VectorNorm(_TIME_HEADS, dim)

    def forward(self, series: Tensor, code: Tensor) -> Tensor:
        """``[B, q, T, 10]`` and the dates' code ``[B, 1, T, d]`` to one vector each, ``[B, q, D]``."""
        vectors = self.inconv(series).unflatten(-1, (_TIME_HEADS, -1))  # [B, q, T, 16, d]
        # torch's group norm wants time last; here a group's statistics are taken where its values are
        variance, mean = torch.var_mean(vectors, dim=(-3, -1), correction=0, keepdim=True)  # [B, q, 1, 16, 1]
        weight, bias = (value.view(_TIME_HEADS, -1) for value in (self.in_norm.weight, self.in_norm.bias))
        scale = (variance + self.in_norm.eps).rsqrt() * weight
        vectors = torch.addcmul(bias - mean * scale, vectors, scale) + code.unsqueeze(-2)
        encoded: Tensor = self.out_norm(self.mlp(self.attention_heads(vectors)))
        return encoded


class _TimeAttention(nn.Module):
    """Attention over time with learned queries: a head mixes the frames of its own share of the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.Q = nn.Parameter(torch.zeros(_TIME_HEADS, _KEY_DIM))
        self.fc1_k = nn.Linear(dim, _TIME_HEADS * _KEY_DIM)

    def forward(self, vectors: Tensor) -> Tensor:
        """``[..., T, 16, d] -> [..., 16 d]``.

        As the queries are fixed, keys and their products with them are one projection to 16 numbers. The bias of the
        keys adds the same to every frame's, which the softmax takes out again.
        """
        kernel = self.fc1_k.weight.view(_TIME_HEADS, _KEY_DIM, -1)  # [16, 8, D]
        kernel = torch.einsum("hk,hkc->hc", self.Q * _KEY_DIM**-0.5, kernel)
        shares = functional.linear(vectors.flatten(-2), kernel).softmax(dim=-2)  # [..., T, 16]
        return (vectors * shares.unsqueeze(-1)).sum(dim=-3).flatten(-2)


class _SpatialEncoder(nn.Module):
    """A transformer over the pixels of each patch, which do not see other patches."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.predictor_blocks = nn.ModuleList(_PixelBlock(dim, heads) for _ in range(depth))
        self.predictor_norm = nn.LayerNorm(dim, eps=_PIXEL_EPS)

    def forward(self, pixels: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, N, p p, D]`` and ``[p]`` to the patches ``[B, N, D]`` and their pixels ``[B, N, p p, D]``."""
        pixels = pixels + sincos_2d(offsets.float(), offsets.float(), pixels.shape[-1]).to(pixels.dtype)
        buckets = _buckets(len(offsets), str(pixels.device))
        parts = torch.split(pixels.flatten(0, 1), max(1, _PART // len(buckets)))
        done = torch.cat([self._encode(part, buckets) for part in parts])  # [B N, 1 + p p, D]
        tokens = done.view(*pixels.shape[:2], *done.shape[1:])
        return tokens[:, :, 0], tokens[:, :, 1:]

    def _encode(self, pixels: Tensor, buckets: Tensor) -> Tensor:
        tokens = torch.cat([self.cls_token.expand(len(pixels), -1, -1), pixels], dim=1)
        for block in self.predictor_blocks:
            tokens = block(tokens, buckets)
        normed: Tensor = self.predictor_norm(tokens)
        return normed


class _PixelBlock(nn.Module):
    """A pre-norm transformer block whose attention knows distances."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_PIXEL_EPS)
        self.attn = _PixelAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=_PIXEL_EPS)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)

    def forward(self, tokens: Tensor, buckets: Tensor) -> Tensor:
        """``[N, L, D] -> [N, L, D]``."""
        tokens = tokens + self.attn(self.norm1(tokens), buckets)
        summed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return summed


class _PixelAttention(nn.Module):
    """Multi-head self-attention with a term for the distance."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rpe_k = _DistanceTerm(dim // heads)
        self._shape = (3, heads, dim // heads)

    def forward(self, tokens: Tensor, buckets: Tensor) -> Tensor:
        """``[N, L, D] -> [N, L, D]``."""
        query, key, value = self.qkv(tokens).unflatten(-1, self._shape).permute(2, 0, 3, 1, 4)  # [N, heads, L, d]
        term = self.rpe_k(query, buckets) * self._shape[-1] ** -0.5  # unlike that of the last block
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=term)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class _CrossBlock(nn.Module):
    """The last block: learned queries at every place; its attention replaces the tokens rather than adding to them."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_PATCH_EPS)
        self.attn = _CrossAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=_PATCH_EPS)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)

    def forward(self, tokens: Tensor, code: Tensor) -> Tensor:
        """``[B, 1 + n n, D] -> [B, 1 + n n, D]``; the places' code is ``[1 + n n, D]``."""
        tokens = self.attn(self.norm1(tokens), code)
        summed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return summed


class _CrossAttention(nn.Module):
    """Multi-head attention of places to tokens, with a term for the distance."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.q_learned = nn.Parameter(torch.zeros(1, 1, dim))
        self.wk = nn.Linear(dim, dim)
        self.wv = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.rpe_k = _DistanceTerm(dim // heads)
        self._heads = heads

    def forward(self, tokens: Tensor, code: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``; the queries, and so the term, are those of all samples."""
        query, key, value = (
            part.unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for part in (self.q_learned + code, self.wk(tokens), self.wv(tokens))
        )  # [1 or B, heads, N, d]
        term = self.rpe_k(query, _buckets(round((len(code) - 1) ** 0.5), str(tokens.device)))
        query, term = query.to(key.dtype).expand_as(key), term.to(key.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=term)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class _DistanceTerm(nn.Module):
    """What the distance of two tokens adds to their attention."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.lookup_table_weight = nn.Parameter(torch.zeros(1, head_dim, _BUCKETS))

    def forward(self, query: Tensor, buckets: Tensor) -> Tensor:
        """``[N, heads, L, d]`` and ``[L, L]`` to ``[N, 1, L, L]``.

        The published code takes the query of the first head for all of them, and so the weights were trained.
        """
        answers = query[:, :1] @ self.lookup_table_weight[0]  # [N, 1, L, 8]
        return answers.gather(-1, buckets.expand(*answers.shape[:-1], -1))


class _VectorNorm(nn.GroupNorm):
    """A group norm of single vectors; a layer norm of every group is the same, and faster than torch's own."""

    def forward(self, vectors: Tensor) -> Tensor:
        """``[..., C] -> [..., C]``."""
        groups = vectors.view(*vectors.shape[:-1], self.num_groups, -1)
        normed = functional.layer_norm(groups, groups.shape[-1:], eps=self.eps).flatten(-2)
        return normed.mul_(self.weight).add_(self.bias)  # in place: these are the widest arrays of all


def build(*, dim: int, depth: int, heads: int) -> AnySat:
    """The encoder of one size, its weights to be loaded."""
    return AnySat(dim=dim, depth=depth, heads=heads)


def _check(image: Tensor, dates: Tensor, offsets: Tensor) -> None:
    """Refuse what the published network cannot embed."""
    if image.ndim != 5 or image.shape[2] != _CHANNELS or not image.shape[1]:
        raise ValueError(f"image must be [B, T, {_CHANNELS}, S, S], got {list(image.shape)}")
    if dates.shape != image.shape[:2]:
        raise ValueError(f"s2_dates must be {list(image.shape[:2])}, got {list(dates.shape)}")
    if offsets.ndim != 2 or len(offsets) != len(image) or not offsets.shape[1]:
        raise ValueError(f"offsets_m must be [{len(image)}, p], got {list(offsets.shape)}")
    height, width = image.shape[3:]
    if height != width or not height or height % offsets.shape[1]:
        raise ValueError(
            f"the image must be square, its side whole patches of {offsets.shape[1]} pixels, got {height} x {width}"
        )


def _by_patch(image: Tensor, side: int) -> Tensor:
    """``[B, T, C, S, S]`` as the pixels of ``side`` x ``side`` patches, ``[B, n n, p p, T, C]``."""
    inside = image.shape[-1] // side
    cut = image.reshape(*image.shape[:3], side, inside, side, inside)  # [B, T, C, n, p, n, p]
    return cut.permute(0, 3, 5, 4, 6, 1, 2).flatten(3, 4).flatten(1, 2)


def _dense(patches: Tensor, pixels: Tensor, side: int) -> Tensor:
    """``[B, n n, D]`` and ``[B, n n, p p, D]`` side by side at every pixel, ``[B, 2 D, n p, n p]``."""
    inside = round(pixels.shape[2] ** 0.5)
    own = pixels.reshape(len(pixels), side, side, inside, inside, -1).permute(0, 5, 1, 3, 2, 4)
    shared = vit.patch_grid(patches, (side, side))[:, :, :, None, :, None].expand_as(own)
    return torch.cat([shared, own], dim=1).flatten(4, 5).flatten(2, 3)


def _date_code(dates: Tensor, width: int) -> Tensor:
    """``[B, T, width]``: sines at even and cosines at odd places of falling frequencies."""
    order = torch.arange(width, dtype=torch.float32, device=dates.device)
    angles = dates[..., None] / _DATE_BASE ** (2 * (order // 2) / width)
    return torch.where(order % 2 == 0, angles.sin(), angles.cos())


@lru_cache(maxsize=32)
def _codes(side: int, step: int, dim: int, device: str) -> Tensor:
    """Codes of a class token (zeros) and of ``side`` x ``side`` places ``step`` apart, ``[1 + n n, D]``.

    They depend on no weight, so one copy serves every model in the process.
    """
    # A tensor made in inference mode could never be used in training again, and this one outlives the call.
    with torch.inference_mode(mode=False), torch.no_grad():
        places = torch.arange(side, dtype=torch.float32, device="cpu") * step
        codes = sincos_2d(places, places, dim)
        return torch.cat([torch.zeros(1, dim, device="cpu"), codes]).to(device)


@lru_cache(maxsize=32)
def _buckets(side: int, device: str) -> Tensor:
    """Bucket of the distance of any two of a class token and ``side`` x ``side`` places, int64 ``[1 + n n] * 2``."""
    with torch.inference_mode(mode=False), torch.no_grad():
        line = torch.arange(side, dtype=torch.float32, device="cpu")
        places = torch.cartesian_prod(line, line)  # row, column
        distances = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist").round().long()
        buckets = torch.full((1 + side * side,) * 2, _CLASS_BUCKET, device="cpu")
        buckets[1:, 1:] = torch.tensor(_BUCKET_OF, device="cpu")[distances.clamp(max=len(_BUCKET_OF) - 1)]
        return buckets.to(device)
