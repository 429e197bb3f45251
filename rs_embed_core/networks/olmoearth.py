"""OlmoEarth encoders (forward stage): the Sentinel-2 and Sentinel-1 paths of the multi-sensor series transformer.

Published by the Allen Institute for AI in families v1, v1.1 and v1.2 (facts: golden/olmoearth/spec.md). The checkpoints
hold the embeddings of every sensor OlmoEarth was trained on, so all of them are built here and load strictly. The
package ``olmoearth-pretrain-minimal`` has the same network and keys. Measured, it makes the same numbers in 1.07 times
the time (base v1.2, default input, one thread), takes 3.6 s more to import, and holds every hidden layer whole.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.series import Attention, Block, in_parts, place_code, sines

type _Sets = dict[str, tuple[int, ...]]
"""Channels of the band sets of every modality; each set is a token of its own."""

_KERNEL: Final = 8  # max_patch_size: pixels along the side of the stored patch kernels
_MONTHS: Final = 12
_DAYS_BEFORE: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)  # a month, in a year of 365 days
_YEAR_DAYS: Final = 365.25  # what a year adds
_TIME_UNIT_DAYS: Final = 30  # rope_temporal_coordinate_scale is 1 / 30

# Source: shapes in the *.keys.json of golden/olmoearth. Sentinel-2 in v1 is B2 B3 B4 B8 | B5 B6 B7 B8A B11 B12 | B1 B9.
_OTHERS: Final[_Sets] = {
    "sentinel1": (2,),
    "worldcover": (1,),
    "srtm": (1,),
    "openstreetmap_raster": (30,),
    "wri_canopy_height_map": (1,),
    "cdl": (1,),
    "worldcereal": (8,),
}
_V1_SETS: Final[_Sets] = {"sentinel2_l2a": (4, 6, 2), "landsat": (1, 10), **_OTHERS}
_LATER_SETS: Final[_Sets] = {"sentinel2_l2a": (12,), "landsat": (11,), **_OTHERS}
_MODALITIES: Final = {12: "sentinel2_l2a", 2: "sentinel1"}  # by the channels of the image
_PATCHES: Final = 1 << 12  # that are embedded at a time: their pixels' features are five times as many as a token's


class OlmoEarth(nn.Module):
    """The encoder.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        pixel_features: width of the layer over single pixels before they are cut into patches, v1.1 and v1.2; 0 for
            v1, whose patches are convolved and come in three band sets.
        rotary: queries and keys are rotated by time and place (v1.2) instead of tokens coded by them.
    """

    days_before: Tensor

    def __init__(self, *, dim: int, depth: int, heads: int, pixel_features: int = 0, rotary: bool = False) -> None:
        if dim % 16 or dim % heads or dim // heads % 2:
            # Four quarters of code, the last cut into row and column, each into sine and cosine; pairs in a head.
            raise ValueError(f"dim must be a multiple of 16 and of 2 * heads={2 * heads}, got {dim}")
        if rotary and not pixel_features:
            raise ValueError("a rotary network has pixel_features: no published one convolves its patches")
        super().__init__()
        self._rotary = rotary
        self._sets = _LATER_SETS if pixel_features else _V1_SETS
        self.patch_embeddings = _PatchEmbeddings(dim, self._sets, pixel_features)
        self.composite_encodings = _Encodings(dim // 4, self._sets)
        kind = _RotaryAttention if rotary else Attention
        self.blocks = nn.ModuleList(Block(dim, kind(dim, heads)) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.project_and_aggregate = _Projection(dim)  # of training: in the checkpoint, and not used
        self.register_buffer("days_before", torch.tensor(_DAYS_BEFORE, device="cpu"), persistent=False)

    def forward(self, image: Tensor, timestamps: Tensor, *, patch_size: int = 4) -> Features:
        """Features of a batch of series of one sensor.

        Args:
            image: ``[B, T, 12, H, W]`` Sentinel-2, channels B2 B3 B4 B8 B5 B6 B7 B8A B11 B12 B1 B9, or
                ``[B, T, 2, H, W]`` Sentinel-1, VV VH; normalised, pixels of 10 m.
            timestamps: ``[B, T, 3]`` int64 day of the month (from 1), month (from 0) and year of each frame.
            patch_size: pixels along the side of a patch, 1 to 8; divides H and W.

        Returns:
            ``grid`` ``[B, D, h, w]``: the tokens of a patch, averaged over frames and band sets; their mean is the
            image vector. ``grid_max`` ``[B, D, h, w]``: their maximum.

        Raises:
            ValueError: shapes that do not fit.
        """
        self._check(image, timestamps, patch_size)
        modality = _MODALITIES[image.shape[2]]
        tokens = self.patch_embeddings(image, self._sets[modality], modality, patch_size)  # [B, h, w, T, S, D]
        self.composite_encodings.add_to(tokens, modality, timestamps, None if self._rotary else patch_size)
        places = self._places(tokens.shape, timestamps, patch_size) if self._rotary else ()
        layout = tokens.shape[1:5]
        tokens = tokens.flatten(1, 4)  # [B, N, D]
        for block in self.blocks:
            tokens = block(tokens, *places)
        tokens = self.norm(tokens).unflatten(1, layout)
        if layout[2] * layout[3] == 1:
            return Features(tokens[:, :, :, 0, 0].permute(0, 3, 1, 2))
        mean, most = tokens.mean(dim=(3, 4)), tokens.amax(dim=(3, 4))  # [B, h, w, D]
        return Features(mean.permute(0, 3, 1, 2), grid_max=most.permute(0, 3, 1, 2))

    def _check(self, image: Tensor, timestamps: Tensor, patch_size: int) -> None:
        """Refuse what the published network cannot embed."""
        if image.ndim != 5 or image.shape[2] not in _MODALITIES or not image.shape[1]:
            raise ValueError(f"image must be [B, T, 12 or 2, H, W], got {list(image.shape)}")
        if timestamps.shape != (*image.shape[:2], 3):
            raise ValueError(f"timestamps must be {[*image.shape[:2], 3]}, got {list(timestamps.shape)}")
        height, width = image.shape[3:]
        if not 1 <= patch_size <= _KERNEL:
            raise ValueError(f"patch_size must be 1 to {_KERNEL}, got {patch_size}")
        if height % patch_size or width % patch_size or not height or not width:
            raise ValueError(f"height and width must be multiples of {patch_size} pixels, got {height} x {width}")

    def _places(self, layout: torch.Size, timestamps: Tensor, patch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Times ``[1 or B, T]``, rows ``[h]`` and columns ``[w]`` of the tokens.

        Attention sees differences alone, so time counts from the first frame: whole years would cost digits of an
        angle's sine, and single frames are at the same time in all samples.
        """
        _, height, width, frames, _, _ = layout
        rows, columns = (
            torch.arange(count, dtype=torch.float32, device=timestamps.device) * patch_size for count in (height, width)
        )
        if frames == 1:
            return rows.new_zeros(1, 1), rows, columns
        day, month, year = timestamps.unbind(-1)  # each [B, T]
        days = year * _YEAR_DAYS + self.days_before[month] + day
        return (days - days[:, :1]).float() / _TIME_UNIT_DAYS, rows, columns


class _PatchEmbeddings(nn.Module):
    """What makes tokens of the patches of every modality."""

    def __init__(self, dim: int, sets: _Sets, pixel_features: int) -> None:
        super().__init__()

        def embedding(channels: int) -> nn.Module:
            return _PixelsFirst(channels, dim, pixel_features) if pixel_features else _Convolution(channels, dim)

        self.per_modality_embeddings = nn.ModuleDict(
            {
                modality: nn.ModuleDict(
                    {f"{modality}__{index}": embedding(channels) for index, channels in enumerate(counts)}
                )
                for modality, counts in sets.items()
            }
        )

    def forward(self, image: Tensor, sets: tuple[int, ...], modality: str, patch_size: int) -> Tensor:
        """Tokens ``[B, h, w, T, S, D]`` of ``image [B, T, C, H, W]``."""
        batch, frames, _, height, width = image.shape
        size = (height // patch_size, width // patch_size)
        frame = image.flatten(0, 1)
        if patch_size != _KERNEL:  # the image is brought to the kernel's size, not the kernel to the patch's
            enlarged = (size[0] * _KERNEL, size[1] * _KERNEL)
            frame = functional.interpolate(frame, enlarged, mode="bicubic", align_corners=False, antialias=True)
        embeddings = self.per_modality_embeddings[modality].children()
        embedded = [
            in_parts(embedding, _cut(part, size), at_most=_PATCHES)
            for embedding, part in zip(embeddings, torch.split(frame, list(sets), dim=1), strict=True)
        ]  # each [B T h w, D]
        tokens = torch.stack(embedded, dim=1).view(batch, frames, *size, len(sets), -1)  # [B, T, h, w, S, D]
        return tokens.permute(0, 2, 3, 1, 4, 5).float().contiguous()


def _cut(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """``[n, C, H, W]`` as a row of patches ``[n h w, 8, 8, C]``."""
    cut = frames.reshape(*frames.shape[:2], size[0], _KERNEL, size[1], _KERNEL)  # [n, C, h, 8, w, 8]
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(0, 2)


class _Convolution(nn.Module):
    """v1: a convolution whose stride is its kernel's size, which is a matrix product over cut patches."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=_KERNEL, stride=_KERNEL)

    def forward(self, patches: Tensor) -> Tensor:
        """``[N, 8, 8, C] -> [N, D]``; in full float32 on GPUs, where torch lets convolutions use TF32."""
        kernel = self.proj.weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(patches.flatten(1), kernel, self.proj.bias)


class _PixelsFirst(nn.Module):
    """v1.1 and v1.2: a layer over every pixel, then one over all features of a patch."""

    def __init__(self, channels: int, dim: int, features: int) -> None:
        super().__init__()
        self.pixel_proj = nn.Sequential(nn.Linear(channels, features), nn.ReLU(inplace=True))
        self.proj = nn.Linear(_KERNEL * _KERNEL * features, dim)

    def forward(self, patches: Tensor) -> Tensor:
        """``[N, 8, 8, C] -> [N, D]``."""
        projected: Tensor = self.proj(self.pixel_proj(patches).flatten(1))
        return projected


class _Encodings(nn.Module):
    """What is added to tokens: a quarter of the width each for band set, frame, month and place."""

    def __init__(self, quarter: int, sets: _Sets) -> None:
        super().__init__()
        self.per_modality_channel_embeddings = nn.ParameterDict(
            {modality: nn.Parameter(torch.zeros(len(counts), quarter)) for modality, counts in sets.items()}
        )
        self.month_embed = nn.Embedding(_MONTHS, quarter)

    def add_to(self, tokens: Tensor, modality: str, timestamps: Tensor, patch_size: int | None) -> None:
        """Add the codes to ``tokens [B, h, w, T, S, D]``; frame and place where there is a ``patch_size``."""
        quarters = tokens.view(*tokens.shape[:-1], 4, -1)  # [B, h, w, T, S, 4, D / 4]
        quarters[..., 0, :] += self.per_modality_channel_embeddings[modality]  # [S, D / 4]
        quarters[..., 2, :] += self.month_embed(timestamps[..., 1])[:, None, None, :, None]  # [B, T, D / 4]
        if patch_size is None:
            return
        height, width, frames, _, dim = tokens.shape[1:]
        quarters[..., 1, :] += sines(torch.arange(frames, device=tokens.device), dim // 4)[:, None]
        place = place_code((height, width), patch_size, dim // 4, tokens.device)
        quarters[..., 3, :] += place[:, :, None, None]


class _RotaryAttention(Attention):
    """Attention whose queries and keys are rotated by time, row and column, at frequencies learned per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.rope_mixed_freqs = nn.Parameter(torch.zeros(3, heads, dim // heads // 2))

    def turn(self, query: Tensor, key: Tensor, *places: Tensor) -> tuple[Tensor, Tensor]:
        """Neighbours ``(2j, 2j + 1)`` rotated, as complex numbers are by their product with one of length 1.

        The rotations by time, row and column are made one by one: their product has more digits than the sine and
        cosine of the sum, and takes a fraction of the time.
        """
        times, rows, columns = (
            _unit(angle[..., None, None] * frequency.float())
            for angle, frequency in zip(places, self.rope_mixed_freqs, strict=True)
        )  # [1 or B, T, heads, d / 2], [h, heads, d / 2], [w, heads, d / 2]
        space = rows[:, None] * columns  # [h, w, heads, d / 2]
        turns = (space[:, :, None] * times[:, None, None]).flatten(1, 3)  # [1 or B, N, heads, d / 2]
        return _turned(query, turns), _turned(key, turns)


def _unit(angles: Tensor) -> Tensor:
    """Complex numbers of length 1."""
    return torch.polar(torch.ones_like(angles), angles)


def _turned(values: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(values.float().reshape(*values.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2).to(values.dtype)


class _Projection(nn.Module):
    """The projection of training."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(dim, dim))


def build(*, dim: int, depth: int, heads: int, pixel_features: int = 0, rotary: bool = False) -> OlmoEarth:
    """The encoder of one size and family, its weights to be loaded."""
    return OlmoEarth(dim=dim, depth=depth, heads=heads, pixel_features=pixel_features, rotary=rotary)
