"""Fixed sine-cosine position tables (forward stage), as masked autoencoders use them.

To bring a learned table to another grid there is ``timm.layers.resample_abs_pos_embed``.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BASE = 10_000  # of the slowest wavelength; Vaswani et al. 2017, arXiv:1706.03762, section 3.5


def sincos(positions: Tensor, dim: int) -> Tensor:
    """The code ``[..., dim]`` of positions ``[...]``: all sines, then all cosines, in the positions' precision.

    Frequency ``k`` of ``dim / 2`` is ``10000 ** (-k / (dim / 2))``.

    Raises:
        ValueError: ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"a sine-cosine code has an even number of channels, got {dim}")
    count = dim // 2
    frequencies = _BASE ** (-torch.arange(count, dtype=positions.dtype, device=positions.device) / count)
    angles = positions[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def sincos_2d(rows: Tensor, columns: Tensor, dim: int) -> Tensor:
    """The codes ``[..., h * w, dim]`` of a grid, row by row: half of the channels for the column, then the row.

    Args:
        rows: ``[..., h]`` positions of the rows, in floating point: counted, or in metres for a network that is
            told its scale (then each sample of a batch may have its own).
        columns: ``[..., w]`` positions of the columns.
        dim: Channels of the code, a multiple of four.

    Raises:
        ValueError: ``dim`` is no multiple of four.
    """
    if dim % 4:
        raise ValueError(f"a sine-cosine code of rows and columns has a multiple of 4 channels, got {dim}")
    height, width = rows.shape[-1], columns.shape[-1]
    across = sincos(columns, dim // 2)[..., None, :, :]  # [..., 1, w, dim / 2]
    down = sincos(rows, dim // 2)[..., :, None, :]  # [..., h, 1, dim / 2]
    shape = (*rows.shape[:-1], height, width, dim // 2)
    return torch.cat([across.expand(shape), down.expand(shape)], dim=-1).flatten(-3, -2)
