"""Patch kernels generated from what is known of each channel (forward stage): DOFA, Clay and Copernicus-FM.

A small transformer turns the code of every channel into its slice of the kernel. It knows no positions, so any set
of channels in any order will do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rs_embed_core.networks.flexi import Kept, resize_kernel

KERNELS_KEPT: Final = 8
"""One per set of channels in use; a base network's takes 7 MB for nine bands."""

_WEIGHT_TOKENS: Final = 128
_HIDDEN: Final = 2048  # the default of torch's layer, which all three left as it was
_HEADS: Final = 4
_SCALE: Final = 0.01  # factor on the generated kernel and bias (zhu-xlab/DOFA: scaler)


class GeneratedPatchEmbed(nn.Module):
    """DOFA's patch embedding, key for key, which Copernicus-FM has taken over.

    Args:
        dim: width D of the tokens.
        patch_size: side of a patch in pixels.
        width: of the codes of the channels.
    """

    def __init__(self, dim: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.weight_generator = WeightGenerator(width, (patch_size, patch_size, dim), dim)
        self.fclayer = _Residual(width)
        self.patch_size = patch_size
        self._kept = Kept(KERNELS_KEPT)

    def forward(
        self, image: Tensor, channels: Tensor, encode: Callable[[Tensor], Tensor], patch_size: int | None = None
    ) -> Tensor:
        """``[B, D, h, w]`` embedded patches of ``[B, C, H, W]`` images.

        Args:
            image: pixels.
            channels: ``[C, ...]`` what is known of each channel; a kernel is kept for each such set.
            encode: makes codes ``[C, width]`` of it.
            patch_size: side of a patch where it is not the network's own: the kernel is resized to it.
        """
        size = patch_size or self.patch_size

        def generate() -> tuple[Tensor, Tensor]:
            # Without autocast: the codes need float32, and a kept kernel serves every caller.
            with torch.autocast(image.device.type, enabled=False):
                kernel, bias = self.weight_generator(self.fclayer(encode(channels).to(self.fclayer.w1.weight)))
                kernel = kernel.permute(3, 0, 1, 2) * _SCALE  # [C, p, p, D] -> [D, C, p, p]
                return resize_kernel(kernel, size).contiguous(), bias * _SCALE

        key = (tuple(channels.flatten().tolist()), size)
        kernel, bias = self._kept.get(key, list(self.parameters()), generate)
        # The published padding of 1 shifts every window by a pixel; the last row and column go unused.
        return F.conv2d(image, kernel.to(image.dtype), bias.to(image.dtype), stride=size, padding=1)


class WeightGenerator(nn.Module):
    """A one-layer, post-norm transformer from the codes of the channels to a kernel and a bias.

    Args:
        width: of the codes.
        shape: axes of a channel's slice of the kernel, in the order in which it is stored.
        dim: length of the bias.
        stored_as: name of the transformer in the checkpoint.
    """

    def __init__(
        self, width: int, shape: tuple[int, int, int], dim: int, *, stored_as: str = "transformer_encoder"
    ) -> None:
        super().__init__()
        self._shape, self._transformer = shape, stored_as
        self.weight_tokens = nn.Parameter(torch.zeros(_WEIGHT_TOKENS, width))
        self.bias_token = nn.Parameter(torch.zeros(1, width))
        layer = nn.TransformerEncoderLayer(width, _HEADS, dim_feedforward=_HIDDEN, dropout=0, activation="gelu")
        self.add_module(stored_as, nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False))
        self.fc_weight = nn.Linear(width, shape[0] * shape[1] * shape[2])
        self.fc_bias = nn.Linear(width, dim)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel ``[C, *shape]`` and bias ``[D]`` for codes ``[C, width]``, neither scaled."""
        sequence = torch.cat([self.weight_tokens, codes, self.bias_token])
        tokens: Tensor = self.get_submodule(self._transformer)(sequence)
        kernel = self.fc_weight(tokens[_WEIGHT_TOKENS:-1] + codes)
        return kernel.view(-1, *self._shape), self.fc_bias(tokens[-1])


class _Residual(nn.Module):
    """Two layers around a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, width)
        self.w2 = nn.Linear(width, width)

    def forward(self, codes: Tensor) -> Tensor:
        return codes + F.relu(self.w2(F.relu(self.w1(codes))))
