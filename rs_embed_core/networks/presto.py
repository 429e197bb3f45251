"""Presto encoder (forward stage): a transformer over the monthly series of single pixels, from any of its sensors.

Tseng et al. 2023, "Lightweight, Pre-trained Transformers for Remote Sensing Timeseries", arXiv:2304.14065. State-dict
names are those of the published file below ``encoder.``. A pixel is a sequence of its own: pixels of all samples lie
side by side in the batch axis, and go through the blocks in groups of bounded size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rs_embed_core.networks.features import Features

# Places of a group's channels in the published order, and the groups in the order of the rows of ``channel_embed``:
# golden/presto/spec.md, "Input" and "Network".
_GROUPS: Final = {
    "S1": (0, 1),
    "S2_RGB": (2, 3, 4),
    "S2_Red_Edge": (5, 6, 7),
    "S2_NIR_10m": (8,),
    "S2_NIR_20m": (9,),
    "S2_SWIR": (10, 11),
    "ERA5": (12, 13),
    "SRTM": (14, 15),
    "NDVI": (16,),
}
_RED, _NIR, _NDVI = 4, 8, 16
_ONCE: Final = "SRTM"  # does not change: one token, of the first step, that has neither month nor position
_NO_CLASS: Final = 9  # of Dynamic World: a step without one, and the number of classes
_MONTHS: Final = 12
_TOKENS_AT_ONCE: Final = 2**16  # 134 MB in the hidden layer of a block; attention kernels take up to 65535 sequences


class _Pixels(NamedTuple):
    """Series of ``R`` pixels.

    Attributes:
        owner: ``[R]`` the sample that a pixel is of.
        values: ``[R, T, C]`` scaled channels, group after group.
        visible: ``[R, N]`` False for a token that the sequence does without; None where it has all.
        classes: ``[R, T]`` Dynamic World classes, or None.
    """

    owner: Tensor
    values: Tensor
    visible: Tensor | None
    classes: Tensor | None

    def take(self, part: slice) -> _Pixels:
        """Some of them."""
        visible = None if self.visible is None else self.visible[part]
        classes = None if self.classes is None else self.classes[part]
        return _Pixels(self.owner[part], self.values[part], visible, classes)


class Presto(nn.Module):
    """The encoder; a pixel's vector is the norm of the mean over its tokens, as the authors take it.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        mlp_ratio: width of a block's hidden layer as a multiple of D.
        max_frames: steps of the position table.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, mlp_ratio: int, max_frames: int) -> None:
        if dim % 4 or dim % heads:
            raise ValueError(f"dim must be a multiple of 4 and of heads={heads}, got {dim}")
        super().__init__()
        self.max_frames = max_frames
        self.eo_patch_embed = nn.ModuleDict({name: nn.Linear(len(group), dim) for name, group in _GROUPS.items()})
        self.dw_embed = nn.Embedding(_NO_CLASS + 1, dim)
        self.latlon_embed = nn.Linear(3, dim)
        # Fixed tables in part, yet all entries of the checkpoint
        self.month_embed = nn.Embedding(_MONTHS, dim // 4)
        self.channel_embed = nn.Embedding(len(_GROUPS) + 1, dim // 4)  # the last is Dynamic World's
        self.pos_embed = nn.Parameter(torch.zeros(1, max_frames, dim // 2))
        # torch's LayerNorm has the published eps of 1e-5; timm's own has 1e-6.
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=mlp_ratio, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        image: Tensor,
        channels: Tensor,
        months: Tensor,
        latlon: Tensor,
        missing: Tensor | None = None,
        dynamic_world: Tensor | None = None,
    ) -> Features:
        """One vector per pixel of a batch of series.

        A group of channels gives tokens where all of it is there: B2 alone gives none.

        Args:
            image: ``[B, T, C, H, W]``, scaled as the authors do; any channels in any order.
            channels: ``[B, C]`` int64, the place of each in the published order (VV 0, VH 1, B2 2, ..., slope 15),
                the same for all samples. NDVI (16) is computed here.
            months: ``[B, T]`` int64 calendar months, 0 (January) to 11.
            latlon: ``[B, 2]`` latitude and longitude in degrees.
            missing: ``[B, T, C, H, W]`` True where a value is missing (``image`` must be finite there, too): the
                tokens made of it are left out of the pixel's sequence.
            dynamic_world: ``[B, T, H, W]`` int64 land-cover class of each step, 9 for none.

        Returns:
            ``grid`` ``[B, D, H, W]``.

        Raises:
            ValueError: shapes that do not fit, more steps than the position table has, or no complete group.
        """
        self._check(
            image, channels=channels, months=months, latlon=latlon, missing=missing, dynamic_world=dynamic_world
        )
        batch, _, _, height, width = image.shape
        keys = _shared_keys(channels)
        values, hidden = _by_pixel(image), None if missing is None else _by_pixel(missing)
        if {_RED, _NIR} <= set(keys):
            values, hidden = _with_ndvi(values, hidden, keys.index(_RED), keys.index(_NIR))
            keys.append(_NDVI)
        groups = _complete(keys)
        order = [keys.index(key) for name in groups for key in _GROUPS[name]]
        values, hidden = values[..., order], None if hidden is None else hidden[..., order]
        classes = None if dynamic_world is None else dynamic_world.permute(0, 2, 3, 1).flatten(0, 2)
        owner = torch.arange(batch, device=image.device).repeat_interleave(height * width)
        pixels = _Pixels(owner, values, _visible(groups, hidden, classes), classes)
        codes = self._codes(months, latlon, groups, classes=classes is not None)
        size = _TOKENS_AT_ONCE // codes.shape[1]
        vectors = [
            self._embed(pixels.take(slice(start, start + size)), codes, groups) for start in range(0, len(owner), size)
        ]
        grid = torch.cat(vectors).view(batch, height, width, -1)
        return Features(grid=grid.permute(0, 3, 1, 2))

    def _check(self, image: Tensor, **given: Tensor | None) -> None:
        """Refuse what would be broadcast or cut without a word."""
        if image.ndim != 5 or not all(image.shape):
            raise ValueError(f"image must be [B, T, C, H, W], got {list(image.shape)}")
        batch, frames, count, height, width = image.shape
        if frames > self.max_frames:
            raise ValueError(f"Presto has positions for {self.max_frames} steps, got a series of {frames}")
        shapes = {
            "channels": (batch, count),
            "months": (batch, frames),
            "latlon": (batch, 2),
            "missing": tuple(image.shape),
            "dynamic_world": (batch, frames, height, width),
        }
        for name, tensor in given.items():
            if tensor is not None and tensor.shape != shapes[name]:
                raise ValueError(f"{name} must be {list(shapes[name])}, got {list(tensor.shape)}")

    def _codes(self, months: Tensor, latlon: Tensor, groups: Sequence[str], *, classes: bool) -> Tensor:
        """What tokens have besides the pixels, ``[B, 1 + N, D]``: the place as a token of its own comes first."""
        rows = list(_GROUPS)
        month, position = self.month_embed(months), self.pos_embed[:, : months.shape[1]].expand(len(months), -1, -1)
        undated = torch.zeros_like(month[:, :1]), torch.zeros_like(position[:, :1])
        tokens = [self.latlon_embed(_on_sphere(latlon))[:, None]]
        for name in groups:
            when = undated if name == _ONCE else (month, position)
            code = _joined(self.channel_embed.weight[rows.index(name)], *when)
            tokens.append(code + self.eo_patch_embed.get_parameter(f"{name}.bias"))
        if classes:
            tokens.append(_joined(self.channel_embed.weight[-1], month, position))
        return torch.cat(tokens, dim=1)

    def _tokens(self, pixels: _Pixels, codes: Tensor, groups: Sequence[str]) -> Tensor:
        """Tokens ``[R, 1 + N, D]`` of some pixels: one product for all the groups that have one for each step."""
        tokens = codes[pixels.owner]  # a copy
        count, frames, _ = pixels.values.shape
        weights = [self._weight(name) for name in groups if name != _ONCE]
        first = 1 + len(weights) * frames
        if weights:
            joined = torch.block_diag(*weights)  # type: ignore[no-untyped-call]  # torch's gap; [G D, C]
            series = F.linear(pixels.values[..., : joined.shape[1]], joined).view(count, frames, len(weights), -1)
            tokens[:, 1:first].view(count, len(weights), frames, -1).add_(series.transpose(1, 2))  # [R, G, T, D]
        if _ONCE in groups:
            weight = self._weight(_ONCE)
            tokens[:, first].add_(F.linear(pixels.values[:, 0, -weight.shape[1] :], weight))
            first += 1
        if pixels.classes is not None:
            tokens[:, first:].add_(self.dw_embed(pixels.classes))
        return tokens

    def _weight(self, name: str) -> Tensor:
        """The projection ``[D, c]`` of a group."""
        return self.eo_patch_embed.get_parameter(f"{name}.weight")

    def _embed(self, pixels: _Pixels, codes: Tensor, groups: Sequence[str]) -> Tensor:
        """Vectors ``[R, D]`` of some pixels."""
        tokens = self._tokens(pixels, codes, groups)
        if pixels.visible is None:
            for block in self.blocks:
                tokens = block(tokens)
            mean = tokens.mean(dim=1)
        else:
            seen = F.pad(pixels.visible, (1, 0), value=True)  # the place always is
            for block in self.blocks:
                tokens = block(tokens, attn_mask=seen[:, None, None])
            mean = (tokens * seen[..., None]).sum(dim=1) / seen.sum(dim=1, keepdim=True)
        normed: Tensor = self.norm(mean)
        return normed


def build(*, dim: int, depth: int, heads: int, mlp_ratio: int = 4, max_frames: int = 24) -> Presto:
    """The encoder, its weights to be loaded."""
    return Presto(dim=dim, depth=depth, heads=heads, mlp_ratio=mlp_ratio, max_frames=max_frames)


def _shared_keys(channels: Tensor) -> list[int]:
    """The channels of every sample alike."""
    first: list[int]
    first, *others = channels.tolist()
    if len(set(first)) < len(first) or not set(first) <= set(range(_NDVI)):
        raise ValueError(f"channels must be different numbers 0 to {_NDVI - 1}, got {first}")
    if any(other != first for other in others):
        raise ValueError("channels must be the same for all samples of a batch")
    return first


def _complete(keys: Sequence[int]) -> list[str]:
    """The groups of which all channels are there, in published order but for the one that does not change: last."""
    groups = sorted((name for name, group in _GROUPS.items() if set(group) <= set(keys)), key=_ONCE.__eq__)
    if not groups:
        raise ValueError(f"no group of channels is complete in {list(keys)}; groups are {list(_GROUPS.values())}")
    return groups


def _by_pixel(image: Tensor) -> Tensor:
    """``[B, T, C, H, W] -> [B H W, T, C]``."""
    return image.permute(0, 3, 4, 1, 2).flatten(0, 2)


def _with_ndvi(values: Tensor, hidden: Tensor | None, red: int, nir: int) -> tuple[Tensor, Tensor | None]:
    """One more channel, the vegetation index: 0 where the sum of both is not positive, missing where one is."""
    first, second = values[..., nir], values[..., red]
    total = first + second
    index = torch.where(total > 0, (first - second) / torch.where(total > 0, total, 1), 0)
    values = torch.cat([values, index[..., None]], dim=-1)
    if hidden is None:
        return values, None
    return values, torch.cat([hidden, (hidden[..., red] | hidden[..., nir])[..., None]], dim=-1)


def _visible(groups: Sequence[str], hidden: Tensor | None, classes: Tensor | None) -> Tensor | None:
    """Which tokens a sequence has, ``[R, N]``: a token lacks if any of its channels does; None where it has all."""
    if hidden is None and classes is None:
        return None
    seen = []
    if hidden is not None:
        parts = torch.split(hidden, [len(_GROUPS[name]) for name in groups], dim=-1)
        seen = [~part.any(dim=-1) for part in parts]  # each [R, T]
    elif classes is not None:
        seen = [torch.ones_like(classes, dtype=torch.bool) for _ in groups]
    if groups[-1] == _ONCE:
        seen[-1] = seen[-1][:, :1]
    if classes is not None:
        seen.append(classes != _NO_CLASS)
    return torch.cat(seen, dim=1)


def _joined(channel: Tensor, month: Tensor, position: Tensor) -> Tensor:
    """The code ``[B, T, D]`` of a channel group's tokens: quarter, quarter and half."""
    return torch.cat([month, channel.expand(*month.shape[:2], -1), position], dim=-1)


def _on_sphere(latlon: Tensor) -> Tensor:
    """Degrees ``[B, 2]`` as points of the unit sphere ``[B, 3]``."""
    lat, lon = torch.deg2rad(latlon).unbind(dim=-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=-1)
