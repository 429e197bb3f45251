"""THOR v1 (forward stage): a transformer that takes every band at its own resolution, for any patch size.

The authors' code is at github.com/FM4CS/THOR (MIT); facts: golden/thor/spec.md. The checkpoint holds the patch
embeddings of all bands that THOR was trained on, so all are built here and load strictly; Sentinel-2 and Sentinel-1
have some of them. State-dict names are those of the published ``thor_v1_vit_*.pt`` below ``encoder.``.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.flexi import Kept, resize_kernel
from rs_embed_core.networks.pos_embed import sincos
from rs_embed_core.networks.vit import patch_grid

type Merge = Literal["mean", "sum", "concat"]

_KERNEL: Final = 16  # side of the stored patch kernels
_REFERENCE_M: Final = 40  # the unit of the size code: patch 4 at 10 m (golden/thor/spec.md, "Network", step 4)
_MOST_TOKENS: Final = 8192  # their bias alone takes 4 GB in the large variant
_ROW: Final = 8  # numbers; fused attention on a GPU copies a bias whose rows are no multiple of them

# All bands of the checkpoint, in the spelling of its authors (golden/thor/variant_base_network.keys.json)
_BANDS: Final = (
    *(f"S1:{name}" for name in ("HH", "HV", "VH", "VV")),
    *(f"S2:{name}" for name in ("CoastAerosal", "Blue", "Green", "Red", "RE1", "RE2", "RE3", "NIR", "RE4")),
    *(f"S2:{name}" for name in ("WaterVapor", "SWIR1", "SWIR2")),
    *(f"S3:Oa{number:02}_reflectance" for number in range(1, 22)),
    *(f"S3:S{number}_reflectance_an" for number in range(1, 7)),
    *(f"S3:S{number}_BT_in" for number in range(7, 10)),
)
_BAND_CODES: Final = 10  # band_embed.group0 to group9


class _Group(NamedTuple):
    """Bands that share their tokens.

    Attributes:
        gsd: metres of a pixel of theirs.
        bands: the channel of the image that holds each band.
    """

    name: str
    gsd: int
    bands: dict[str, int]


# Groups in the order of their tokens, by the channels of the image (golden/thor/spec.md, "Network")
_GROUPS: Final = {
    10: (
        _Group("group0", 10, {"S2:Red": 2, "S2:Green": 1, "S2:Blue": 0, "S2:NIR": 6}),
        _Group("group1", 20, {"S2:RE1": 3, "S2:RE2": 4, "S2:RE3": 5, "S2:RE4": 7, "S2:SWIR1": 8, "S2:SWIR2": 9}),
    ),
    2: (_Group("group3", 10, {"S1:VH": 1, "S1:VV": 0}),),
}


class Thor(nn.Module):
    """The encoder.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        band_embed: channels at the end of D that say which group of bands a token is of.
    """

    encoder_slopes: Tensor

    def __init__(self, *, dim: int, depth: int, heads: int, band_embed: int) -> None:
        super().__init__()
        self._size_code = dim - band_embed
        self.ind_patch_embed = _PatchEmbed(dim)
        self.band_embed = nn.ParameterDict({f"group{i}": torch.zeros(band_embed) for i in range(_BAND_CODES)})
        self.register_buffer("encoder_slopes", torch.tensor(_slopes(heads), device="cpu"))
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)
        )
        self.norm = LayerNorm(dim)  # published, but the features are read before it
        self._codes = Kept(4)
        self._bias = Kept(1)  # as large as all scores of a sample

    def forward(
        self, image: Tensor, *, ground_cover_m: int, patch_size: int = 8, group_merge: Merge = "mean"
    ) -> Features:
        """Features of a batch of images of one sensor.

        Args:
            image: ``[B, 10, H, H]`` Sentinel-2, channels B2 B3 B4 B5 B6 B7 B8 B8A B11 B12, or ``[B, 2, H, H]``
                Sentinel-1, VV VH.
            ground_cover_m: side of the image in metres.
            patch_size: side of a patch in pixels of its bands: 10 m, and 20 m from B5, B6, B7, B8A, B11 and B12.
            group_merge: how the maps of the groups become one grid; ``concat`` puts their channels side by side.

        Returns:
            ``grid`` ``[B, D, h, w]``: the groups' maps at the size of the finest, merged. ``pooled_mean`` and
            ``pooled_max`` ``[B, D]``: over the tokens of all groups.

        Raises:
            ValueError: the image has another shape, or its ground cover is not made of whole patches, or of too many.
        """
        groups = _groups_of(image)
        sides = [_side(group, ground_cover_m, patch_size) for group in groups]
        counts = [side**2 for side in sides]
        if sum(counts) > _MOST_TOKENS:
            msg = f"{ground_cover_m} m in patches of {patch_size} pixels are {sum(counts)} tokens, over {_MOST_TOKENS}"
            raise ValueError(msg)
        tokens = torch.cat([self._embed(image, *each, patch_size) for each in zip(groups, sides, strict=True)], dim=1)
        bias = self._attention_bias(tokens, sides, [patch_size * group.gsd for group in groups])
        for block in self.blocks:
            tokens = block(tokens, attn_mask=bias)
        maps = [
            patch_grid(part, (side, side)) for part, side in zip(torch.split(tokens, counts, dim=1), sides, strict=True)
        ]
        return Features(_merged(maps, group_merge), tokens.mean(dim=1), tokens.amax(dim=1))

    def _embed(self, image: Tensor, group: _Group, side: int, size: int) -> Tensor:
        """The tokens ``[B, side * side, D]`` of a group, row by row."""
        pixels = functional.interpolate(
            image[:, list(group.bands.values())], size=(side * size, side * size), mode="bilinear", align_corners=False
        )
        known: Tensor = self.band_embed[group.name]

        def code() -> Tensor:  # the size of a patch on the ground, and its bands
            metres = torch.tensor(size * group.gsd / _REFERENCE_M, device=known.device)
            return torch.cat([sincos(metres, self._size_code), known])

        tokens: Tensor = self.ind_patch_embed(pixels, tuple(group.bands), size)
        return tokens + self._codes.get((group.name, size), [known], code)

    def _attention_bias(self, tokens: Tensor, sides: list[int], metres: list[int]) -> Tensor:
        """What is added to the scores, ``[1, heads, N, N]``: the farther apart two tokens lie, the less they see."""
        slopes, dtype = self.encoder_slopes, _compute_dtype(tokens)

        def make() -> Tensor:
            distances = _distances(sides, metres, slopes.device)
            count = len(distances)
            padded = slopes.new_zeros((1, len(slopes), count, count + -count % _ROW), dtype=dtype)
            bias = padded[..., :count]
            torch.mul(-slopes[:, None, None], distances, out=bias[0])  # in place: it may take gigabytes
            return bias

        return self._bias.get((*sides, *metres, dtype), [slopes], make)


class _PatchEmbed(nn.Module):
    """Patches of several bands as one token: the mean of the bands' own embeddings, their kernels resized."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({band: nn.Conv2d(1, dim, _KERNEL, _KERNEL) for band in _BANDS})
        self._kept = Kept(4)

    def forward(self, pixels: Tensor, bands: tuple[str, ...], size: int) -> Tensor:
        """``[B, C, h * size, w * size] -> [B, h * w, D]``, row by row.

        A mean of convolutions is one convolution, and one whose stride is its kernel size is a matrix product.
        """
        weights: list[Tensor] = [
            self.patch_embed.get_parameter(f"{band}.weight") for band in bands
        ]  # each [D, 1, 16, 16]
        biases: list[Tensor] = [self.patch_embed.get_parameter(f"{band}.bias") for band in bands]  # each [D]

        def mean_kernel() -> Tensor:
            return resize_kernel(torch.cat(weights, dim=1), size).flatten(1) / len(bands)  # [D, C * size * size]

        kernel = self._kept.get((bands, size), weights, mean_kernel)
        bias = self._kept.get(bands, biases, lambda: torch.stack(biases).mean(dim=0))
        batch, channels, height, width = pixels.shape
        cut = pixels.view(batch, channels, height // size, size, width // size, size).permute(0, 2, 4, 1, 3, 5)
        return functional.linear(cut.reshape(batch, -1, kernel.shape[1]), kernel, bias)


def _groups_of(image: Tensor) -> tuple[_Group, ...]:
    if image.ndim != 4 or image.shape[1] not in _GROUPS or image.shape[2] != image.shape[3]:
        raise ValueError(f"image must be [B, 10 or 2, H, H], got {list(image.shape)}")
    return _GROUPS[image.shape[1]]


def _side(group: _Group, ground_cover_m: int, patch_size: int) -> int:
    """Patches along the side of a group's map."""
    metres = patch_size * group.gsd
    if ground_cover_m < metres or ground_cover_m % metres:
        msg = f"{ground_cover_m} m are no whole number of patches of {patch_size} pixels of {group.gsd} m"
        raise ValueError(msg)
    return ground_cover_m // metres


def _distances(sides: list[int], metres: list[int], device: torch.device) -> Tensor:
    """Distances ``[N, N]`` between the centres of all tokens, in the largest of the patch sizes."""
    centres = []
    for side, step in zip(sides, metres, strict=True):
        along = (torch.arange(side, device=device) + 0.5) * (step / max(metres))
        centres.append(torch.cartesian_prod(along, along))
    rows, columns = torch.cat(centres).unbind(dim=1)
    return torch.hypot(rows[:, None] - rows, columns[:, None] - columns)


def _merged(maps: list[Tensor], how: Merge) -> Tensor:
    """One grid ``[B, D, h, w]`` of the groups' maps; ``concat`` gives as many times D."""
    size = max(each.shape[-2:] for each in maps)
    same = [functional.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in maps]
    if how == "concat":
        return torch.cat(same, dim=1)
    stacked = torch.stack(same)
    return stacked.mean(dim=0) if how == "mean" else stacked.sum(dim=0)


def _slopes(heads: int) -> list[float]:
    """ALiBi's slope of every head (arXiv:2108.12409): those of a power of two, then every other of the next one."""
    known = 1 << (heads.bit_length() - 1)  # the largest power of two in ``heads``
    own = [2.0 ** (-8 * (i + 1) / known) for i in range(known)]
    between = [2.0 ** (-4 * (i + 1) / known) for i in range(0, 2 * known, 2)]
    return [*own, *between][:heads]


def _compute_dtype(tokens: Tensor) -> torch.dtype:
    """What attention computes in: a bias of another type would be cast again in every block."""
    kind = tokens.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):  # "meta" knows no autocast
        return torch.get_autocast_dtype(kind)
    return tokens.dtype


def build(*, dim: int, depth: int, heads: int, band_embed: int) -> Thor:
    """The encoder of one size, its weights to be loaded."""
    return Thor(dim=dim, depth=depth, heads=heads, band_embed=band_embed)
