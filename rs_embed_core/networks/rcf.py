"""Random convolutional features (MOSAIKS): fixed random filters, rectified both ways, averaged over pixels.

Rolf et al. 2021, "A generalizable and accessible approach to machine learning with global satellite imagery",
doi:10.1038/s41467-021-24638-z. Definition and buffer names are those of ``torchgeo.models.RCF`` with
``mode="gaussian"``. Nothing is learned and nothing is downloaded.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rs_embed_core.networks.features import Features

_PIECE_BYTES = 8 * 2**20
"""Size of the piece of ``y`` computed at once; it and one rectified copy exist at a time.

``y`` takes 4 MB for a 64 px image with 512 features, 250 MB for 64 of them. Pieces of 8 MiB, two such images,
are the fastest: they stay in the processor's caches and the allocator hands out the same pages every time.
64 images of 10 channels on 2 Xeon threads: 91 ms; with pieces of 1 MiB 146 ms, of 12 to 64 MiB 157 to 257 ms.
"""


class RandomConvFeatures(nn.Module):
    """A convolution ``y`` with fixed filters; its features are ``[relu(y), relu(-y)]``.

    Args:
        weights: ``[K, C, k, k]`` filters; there are 2K features.
        biases: ``[K]`` offsets.
        cell_px: side of the grid's cells in pixels of the image.
    """

    weights: Tensor
    biases: Tensor

    def __init__(self, weights: Tensor, biases: Tensor, *, cell_px: int = 8) -> None:
        super().__init__()
        # Channels last: with the filter as the fastest axis convolution and reductions take half the time.
        self.register_buffer("weights", weights.contiguous(memory_format=torch.channels_last))
        self.register_buffer("biases", biases)
        self._cell_px = cell_px

    def forward(self, image: Tensor) -> Features:
        """Features of ``[B, C, H, W]`` images, the K of ``relu(y)`` before the K of ``relu(-y)``.

        Returns:
            ``grid`` ``[B, 2K, h, w]``: adaptive average pooling to ``h = round(H / cell_px)`` by
            ``w = round(W / cell_px)`` cells, at least one. ``pooled_mean``, ``pooled_max`` ``[B, 2K]``: the
            mean and the maximum over pixels.

        Raises:
            ValueError: the image is smaller than a filter.
        """
        height, width = image.shape[2:]
        rows, columns = self._averages(height).to(image), self._averages(width).to(image)
        image_bytes = rows.shape[1] * columns.shape[1] * len(self.biases) * image.element_size()
        chunks = torch.split(image, max(1, _PIECE_BYTES // image_bytes))
        means, maxima = zip(*(self._reduce(chunk, rows, columns) for chunk in chunks), strict=True)
        mean = torch.cat(means)  # [B, h + 1, w + 1, 2K]
        return Features(
            grid=mean[:, :-1, :-1].permute(0, 3, 1, 2),
            pooled_mean=mean[:, -1, -1],
            pooled_max=torch.cat(maxima),
        )

    def _reduce(self, images: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Means ``[n, h + 1, w + 1, 2K]`` and maxima ``[n, 2K]`` of ``[n, C, H, W]`` images."""
        count, _, size, _ = self.weights.shape
        images = images.contiguous(memory_format=torch.channels_last)
        means = images.new_zeros(len(images), len(rows), len(columns), 2 * count)
        maxima = images.new_zeros(len(images), 2 * count)  # no rectified value lies below zero
        height, cells = rows.shape[1], len(rows) - 1
        step = max(1, _PIECE_BYTES // (columns.shape[1] * count * images.element_size()))
        for top in range(0, height, step):  # once, unless a single image is larger than a piece
            bottom = min(top + step, height)
            y = F.conv2d(images[:, :, top : bottom + size - 1], self.weights, self.biases)
            maxima = torch.maximum(maxima, torch.cat([y.amax((2, 3)), -y.amin((2, 3))], dim=1))
            touched = [*range(top * cells // height, -(-bottom * cells // height)), cells]
            shares = rows[touched, top:bottom]
            # mean(relu(-y)) = mean(relu(y)) - mean(y) would save 12 % of the time, but where y > 0 nearly
            # everywhere rounding is all it leaves, and users who standardise features would blow that up.
            positive = _weighted(y.relu(), shares, columns)
            negative = _weighted(y.clamp_max_(0), shares, columns).abs()
            means[:, touched] += torch.cat([positive, negative], dim=3)
        return means, maxima

    def _averages(self, length: int) -> Tensor:
        """``[cells + 1, n]`` weights over the n filter positions of an image axis: the cells, then all of it.

        A cell's bounds are those of adaptive average pooling: floor(i n / cells) to ceil((i + 1) n / cells).
        """
        size = self.weights.shape[2]
        positions = length - size + 1
        if positions < 1:
            raise ValueError(f"{length} px are less than one filter; at least {size} px are needed.")
        cells = max(1, round(length / self._cell_px))
        bounds = torch.arange(cells + 1)[:, None] * positions
        first, stop = bounds[:-1] // cells, -(-bounds[1:] // cells)
        position = torch.arange(positions)
        everywhere = torch.ones(1, positions, dtype=torch.bool)
        inside = torch.cat([(first <= position) & (position < stop), everywhere])
        return inside / inside.sum(dim=1, keepdim=True)


def build(
    *, in_channels: int, features: int, kernel_size: int, bias: float, seed: int, cell_px: int = 8
) -> RandomConvFeatures:
    """The network with ``features / 2`` standard normal filters drawn for ``seed``.

    The filters come from NumPy's legacy ``RandomState``, because embeddings that were stored must stay
    comparable with new ones: NEP 19 freezes its stream for good, while ``torch.randn`` and
    ``numpy.random.Generator`` may change with any release. Unlike in torchgeo, 0 is a seed like any other.

    Raises:
        ValueError: ``features`` is odd.
    """
    if features % 2:
        raise ValueError(f"features={features} is odd; every filter gives two features.")
    shape = (features // 2, in_channels, kernel_size, kernel_size)
    filters = np.random.RandomState(seed).standard_normal(shape)
    weights = torch.from_numpy(filters.astype(np.float32))
    return RandomConvFeatures(weights, torch.full((features // 2,), float(bias)), cell_px=cell_px)


def _weighted(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``[n, h, w, K]`` sums of ``[n, K, H, W]`` values, weighted by ``[h, H]`` and ``[w, W]``.

    Two products of matrices instead of a pooling per output: all cells and the overall mean in one pass.
    """
    count, _, width = values.shape[1:]
    lines = values.permute(0, 2, 3, 1).flatten(2)  # [n, H, W K], a view of channels-last memory
    bands = torch.matmul(rows, lines).view(-1, len(rows), width, count)
    return torch.matmul(columns, bands)
