"""Copernicus-FM (forward stage): a ViT for any spectral sensor, and for other variables that have a description.

Wang et al. 2025, "Towards a Unified Copernicus Foundation Model for Earth Vision", arXiv:2503.11849. State-dict names
are those of the published checkpoint (``torchgeo/copernicus-fm``; code zhu-xlab/Copernicus-FM). It grew out of DOFA:
the code of a channel knows its bandwidth too, or is that of a text; place, day and area of a patch join the positions.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.flexi import Kept
from rs_embed_core.networks.generated import GeneratedPatchEmbed
from rs_embed_core.networks.vit import blocks, patch_grid

# Shortest and longest wavelength of each Fourier code (golden/copernicusfm/spec.md, "Network").
_WAVELENGTH_NM: Final = (100.0, 1e9)
_BANDWIDTH_NM: Final = (1.0, 1e9)
_DEGREES: Final = (1e-4, 720.0)
_DAYS: Final = (1.0, 365.25)
_KM2: Final = (1e-3, 5.1e8)

_LANGUAGE_DIM: Final = 2048  # of the text embeddings that it was trained with (Llama 3.2 1B)
_EPS: Final = 1e-5
_GRIDS_KEPT: Final = 4


class CopernicusFM(nn.Module):
    """The encoder with its published pooling.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        code_dim: width of the codes of the channels.
        patch_size: side of a patch in pixels where the caller says nothing else.
        image_size: side of the images that the positions were learned for.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, code_dim: int, patch_size: int, image_size: int) -> None:
        super().__init__()
        self._code_dim = code_dim
        self.patch_embed_spectral = GeneratedPatchEmbed(dim, patch_size, code_dim)
        self.patch_embed_variable = GeneratedPatchEmbed(dim, patch_size, code_dim)
        self.patch_embed_variable.language_proj = nn.Linear(_LANGUAGE_DIM, code_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image_size // patch_size) ** 2, dim))
        self.coord_token, self.scale_token, self.time_token = (
            nn.Parameter(torch.zeros(1, 1, dim)) for _ in range(3)
        )  # where place, area or day is not known
        self.coord_fc, self.scale_fc, self.time_fc = (nn.Linear(dim, dim) for _ in range(3))
        self.blocks = blocks(dim=dim, depth=depth, heads=heads, eps=_EPS)
        self.fc_norm = nn.LayerNorm(dim, _EPS)
        self._kept = Kept(_GRIDS_KEPT)

    def forward(
        self,
        image: Tensor,
        lonlat: Tensor,
        day: Tensor,
        patch_km2: Tensor,
        wavelengths_nm: Tensor | None = None,
        bandwidths_nm: Tensor | None = None,
        language_embed: Tensor | None = None,
        kernel_size: int | None = None,
    ) -> Features:
        """Features of a batch of images of the same bands, or of the same variable.

        Args:
            image: ``[B, C, H, W]`` standardised values; ``[B, 1, H, W]`` of a variable.
            lonlat: ``[B, 2]`` longitude and latitude in degrees. NaN, here and below, where it is not known: unlike
                in the published code, of that sample alone.
            day: ``[B]`` days since 1970-01-01.
            patch_km2: ``[B]`` area of one patch.
            wavelengths_nm: ``[B, C]`` central wavelengths of spectral bands, the same in all rows.
            bandwidths_nm: ``[B, C]`` their bandwidths.
            language_embed: ``[B, 2048]`` embedding of a variable's description instead, the same in all rows.
            kernel_size: side of a patch in pixels; None for the network's own.

        Returns:
            ``grid`` ``[B, D, h, w]``: patch tokens of the last block, without a norm. ``pooled_mean`` ``[B, D]``:
            ``fc_norm`` of their mean.

        Raises:
            ValueError: shapes that do not fit, or rows that differ.
        """
        size = kernel_size or self.patch_embed_spectral.patch_size
        _check_image(image, size)
        if language_embed is not None:
            patches = self._variable(image, language_embed, size)
        else:
            patches = self._spectral(image, wavelengths_nm, bandwidths_nm, size)
        cells = (patches.shape[2], patches.shape[3])
        known = self._known(lonlat, day, patch_km2).to(patches.dtype)  # [B, 1, D]
        positions = self._positions(cells)  # [1, 1 + h w, D]
        tokens = patches.flatten(2).transpose(1, 2) + positions[:, 1:]
        first = (self.cls_token + positions[:, :1]).expand(len(image), -1, -1)
        tokens = self.blocks(torch.cat([first, tokens], dim=1) + known)[:, 1:]
        return Features(patch_grid(tokens, cells), self.fc_norm(tokens.mean(dim=1)))

    def _spectral(
        self, image: Tensor, wavelengths_nm: Tensor | None, bandwidths_nm: Tensor | None, size: int
    ) -> Tensor:
        if wavelengths_nm is None or bandwidths_nm is None:
            raise ValueError("wavelengths_nm and bandwidths_nm must be given, or language_embed")
        channels = torch.stack([_common(wavelengths_nm, image), _common(bandwidths_nm, image)], dim=1)  # [C, 2]
        patches: Tensor = self.patch_embed_spectral(image, channels, partial(_encode, width=self._code_dim), size)
        return patches

    def _variable(self, image: Tensor, language_embed: Tensor, size: int) -> Tensor:
        if image.shape[1] != 1 or language_embed.shape != (len(image), _LANGUAGE_DIM):
            given = f"{list(image.shape)} and {list(language_embed.shape)}"
            raise ValueError(f"a variable is one channel with [B, {_LANGUAGE_DIM}] language_embed, got {given}")
        _check_rows(language_embed)
        project = self.patch_embed_variable.get_submodule("language_proj")
        patches: Tensor = self.patch_embed_variable(image, language_embed[:1], project, size)
        return patches

    def _known(self, lonlat: Tensor, day: Tensor, patch_km2: Tensor) -> Tensor:
        """What place, area and day of each sample add to all of its tokens: ``[B, 1, D]``."""
        dim = self.cls_token.shape[-1]
        east, north, days, km2 = torch.column_stack([lonlat + lonlat.new_tensor([180, 90]), day, patch_km2]).cpu().T
        place = torch.cat([_fourier(axis, _DEGREES, dim // 2) for axis in (east, north)], dim=1)
        codes = torch.stack([place, _fourier(km2, _KM2, dim), _fourier(days, _DAYS, dim)])[:, :, None]
        codes = codes.to(self.cls_token)  # [3, B, 1, D]
        tokens = torch.stack([self.coord_token, self.scale_token, self.time_token])  # [3, 1, 1, D]
        place, area, time = torch.where(codes.isnan().any(dim=3, keepdim=True), tokens, codes)
        known: Tensor = self.coord_fc(place) + self.scale_fc(area) + self.time_fc(time)
        return known

    def _positions(self, cells: tuple[int, int]) -> Tensor:
        """The learned positions ``[1, 1 + h w, D]`` of a grid of cells, the class token's first."""
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if cells == (side, side):
            return self.pos_embed
        table = self.pos_embed
        resized: Tensor = self._kept.get(cells, [table], lambda: resample_abs_pos_embed(table, list(cells)))
        return resized


def build(
    *, dim: int, depth: int, heads: int, code_dim: int = 128, patch_size: int = 16, image_size: int = 224
) -> CopernicusFM:
    """The encoder of one size, its weights to be loaded."""
    return CopernicusFM(
        dim=dim, depth=depth, heads=heads, code_dim=code_dim, patch_size=patch_size, image_size=image_size
    )


def _encode(channels: Tensor, width: int) -> Tensor:
    """Codes ``[C, width]`` of the wavelengths and bandwidths ``[C, 2]`` of channels."""
    wavelengths, bandwidths = channels.cpu().T
    code = _fourier(wavelengths, _WAVELENGTH_NM, width) + _fourier(bandwidths, _BANDWIDTH_NM, width)
    return code.to(channels.device)


def _fourier(values: Tensor, span: tuple[float, float], width: int) -> Tensor:
    """``[N, width]`` sines, then cosines, of ``[N]`` values at wavelengths evenly spaced in the logarithm.

    In float64, for a value may be millions of wavelengths long: values on the CPU, for not every device has that.
    """
    low, high = (math.log10(limit) for limit in span)
    wavelengths = torch.logspace(low, high, width // 2, dtype=torch.float64, device="cpu")
    angles = values.double()[:, None] * (2 * math.pi / wavelengths)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def _common(rows: Tensor, image: Tensor) -> Tensor:
    """The row ``[C]`` that all samples share."""
    if rows.shape != image.shape[:2]:
        raise ValueError(f"wavelengths_nm and bandwidths_nm must be {list(image.shape[:2])}, got {list(rows.shape)}")
    _check_rows(rows)
    return rows[0]


def _check_rows(rows: Tensor) -> None:
    if not torch.equal(rows, rows[:1].expand_as(rows)):
        raise ValueError("only images of the same bands or variable share a batch, got rows that differ")


def _check_image(image: Tensor, size: int) -> None:
    if image.ndim != 4:
        raise ValueError(f"image must be [B, C, H, W], got {list(image.shape)}")
    height, width = image.shape[2:]
    if height % size or width % size or not height or not width:
        raise ValueError(f"height and width must be multiples of {size} pixels, got {height} x {width}")


def fill_fc_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published file has no ``fc_norm``: it stays as it began (golden/copernicusfm/spec.md, "Checkpoint")."""
    token = state.get("cls_token")
    if token is None:
        return state  # another file: what is missing will be named
    start = {"fc_norm.weight": token.new_ones(token.shape[-1]), "fc_norm.bias": token.new_zeros(token.shape[-1])}
    return start | state
