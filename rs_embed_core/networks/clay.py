"""Clay v1.5 encoder (forward stage): a ViT with a patch embedding made for the wavelengths of the channels.

Published at github.com/Clay-foundation/model (Apache-2.0). State-dict names are those of the published checkpoint
below ``model.encoder.``. It looks like DOFA and differs in four places that all still run: micrometres, not
nanometres; frequencies to the end of the range (k / 63); the order of the generated kernel's axes; a bias that is
not scaled with the kernel.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rs_embed_core.networks.blocks import Attention, FeedForward, Transformer
from rs_embed_core.networks.features import Features
from rs_embed_core.networks.flexi import Kept
from rs_embed_core.networks.generated import KERNELS_KEPT, WeightGenerator

_WAVE_DIM: Final = 128  # width of the weight generator
_KERNEL_SCALE: Final = 0.02  # factor on the generated kernel, but not on the bias
_METADATA: Final = 8  # last channels of the position code: four of the time, four of the place


class Clay(nn.Module):
    """The encoder; its image vector is the class token.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        dim_head: width of a head.
        mlp_ratio: width of a block's hidden layer, in D.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, dim_head: int, mlp_ratio: int, patch_size: int) -> None:
        super().__init__()
        self.patch_embedding = _PatchEmbedding(dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.transformer = Transformer(dim, (_layer(dim, heads, dim_head, mlp_ratio * dim) for _ in range(depth)))

    def forward(self, image: Tensor, waves: Tensor, gsd: Tensor, time: Tensor, latlon: Tensor) -> Features:
        """Features of a batch of images with the same bands.

        Args:
            image: ``[B, C, H, W]`` standardised values; the patch size divides H and W.
            waves: ``[B, C]`` central wavelengths in micrometres. Only images with the same bands share a batch, so
                all rows are equal and the first one is used.
            gsd: ``[B]`` size of a pixel on the ground in metres.
            time: ``[B, 4]`` sine and cosine of the week and of the hour.
            latlon: ``[B, 4]`` sine and cosine of the latitude and of the longitude.

        Returns:
            ``grid`` ``[B, D, h, w]``: patch tokens after the last norm. ``pooled_mean`` ``[B, D]``: the class token;
            the published model pools in no other way, so ``pooled_max`` is the same.

        Raises:
            ValueError: an image that is not whole patches.
        """
        side = self.patch_embedding.patch_size
        height, width = image.shape[2:]
        if height % side or width % side or not height or not width:
            raise ValueError(f"height and width must be multiples of {side} pixels, got {height} x {width}")
        patches = self.patch_embedding(image, waves[0])  # [B, D, h, w]
        cells = patches.shape[2:]
        code = _positions((cells[0], cells[1]), gsd, patches.shape[1] - _METADATA)  # [B, h w, D - 8]
        metadata = torch.cat([time, latlon], dim=1)[:, None].expand(-1, code.shape[1], -1)
        tokens = patches.flatten(2).transpose(1, 2) + torch.cat([code, metadata], dim=2).to(patches.dtype)
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), tokens], dim=1)  # [B, 1 + h w, D]
        tokens = self.transformer(tokens)
        first = tokens[:, 0]
        grid = tokens[:, 1:].transpose(1, 2).reshape(patches.shape)
        return Features(grid, first, first)


class _PatchEmbedding(nn.Module):
    """Convolution with a kernel made for the wavelengths of the channels."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.fclayer = _Residual()
        self.weight_generator = WeightGenerator(_WAVE_DIM, (dim, patch_size, patch_size), dim, stored_as="encoder")
        self._kept = Kept(KERNELS_KEPT)

    def forward(self, image: Tensor, waves: Tensor) -> Tensor:
        """``[B, D, h, w]`` embedded patches of ``[B, C, H, W]`` images; wavelengths ``[C]``."""

        def generate() -> tuple[Tensor, Tensor]:
            # Without autocast: the kernel costs next to nothing and every pixel passes through it.
            with torch.autocast(image.device.type, enabled=False):
                kernel, bias = self.weight_generator(self.fclayer(_encode(waves).to(self.fclayer.l1.weight)))
                return (kernel.transpose(0, 1) * _KERNEL_SCALE).contiguous(), bias

        kernel, bias = self._kept.get(tuple(waves.tolist()), list(self.parameters()), generate)
        return F.conv2d(image, kernel.to(image.dtype), bias.to(image.dtype), stride=self.patch_size)


class _Residual(nn.Module):
    """Two layers around a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Linear(_WAVE_DIM, _WAVE_DIM)
        self.l2 = nn.Linear(_WAVE_DIM, _WAVE_DIM)

    def forward(self, code: Tensor) -> Tensor:
        return code + F.gelu(self.l2(F.gelu(self.l1(code))))


def _layer(dim: int, heads: int, dim_head: int, hidden: int) -> tuple[Attention, FeedForward]:
    to_out = nn.Linear(heads * dim_head, dim, bias=False)
    feed = FeedForward(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
    return Attention(dim, heads, dim_head, to_out=to_out), feed


def build(*, dim: int, depth: int, heads: int, dim_head: int = 64, mlp_ratio: int = 4, patch_size: int = 8) -> Clay:
    """The encoder of one size, its weights to be loaded."""
    return Clay(dim=dim, depth=depth, heads=heads, dim_head=dim_head, mlp_ratio=mlp_ratio, patch_size=patch_size)


def _encode(waves: Tensor) -> Tensor:
    """``[C, 128]`` sines, then cosines, of ``[C]`` wavelengths in micrometres at 64 frequencies from 1 to 1e-4."""
    steps = torch.arange(_WAVE_DIM // 2, dtype=torch.float32, device=waves.device)
    frequencies = 10_000 ** (-steps / (len(steps) - 1))
    angles = waves.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _positions(cells: tuple[int, int], gsd: Tensor, width: int) -> Tensor:
    """Codes ``[B, h w, width]`` of the cells' columns, then rows: quarters of sine, cosine, sine, cosine.

    The exponent is ``2 t / width`` with t from 0 to 1, where others have ``t``: all frequencies come out close to
    ``gsd``, as they did in training.
    """
    count = width // 4
    steps = torch.arange(count, dtype=torch.float32, device=gsd.device) / (count - 1)
    frequencies = gsd.float()[:, None, None] / 10_000 ** (2 * steps / width)  # [B, 1, width / 4]
    rows, columns = (
        torch.arange(length, dtype=torch.float32, device=gsd.device)[:, None] * frequencies for length in cells
    )  # [B, h, width / 4] and [B, w, width / 4]
    shape = (len(gsd), *cells, 2 * count)
    across = torch.cat([columns.sin(), columns.cos()], dim=2)[:, None].expand(shape)
    down = torch.cat([rows.sin(), rows.cos()], dim=2)[:, :, None].expand(shape)
    return torch.cat([across, down], dim=3).flatten(1, 2)


def encoder_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's entries of a training checkpoint, or of an export of the model alone (golden/clay/spec.md)."""
    trained = any(key.startswith("model.encoder.") for key in state)
    prefix = "model.encoder." if trained else "encoder."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
