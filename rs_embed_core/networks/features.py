"""What every network's ``forward`` returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """Patch features of a batch, and the network's own pooled vectors where it has any.

    Attributes:
        grid: ``[B, D, h, w]`` patch features, row 0 north, column 0 west.
        pooled_mean: ``[B, E]`` published image vector, or None: the mean over ``grid``.
        pooled_max: ``[B, E]`` answer to ``pooling="max"``, or None: the maximum over the cells.
        grid_max: ``[B, D, h, w]`` cells for ``pooling="max"`` where a series is reduced over time first, or None:
            ``grid``.
        cells: ``[B, E, h, w]`` what the vector of a part of the image is pooled from, or None: ``grid``.
    """

    grid: Tensor
    pooled_mean: Tensor | None = None
    pooled_max: Tensor | None = None
    grid_max: Tensor | None = None
    cells: Tensor | None = None
