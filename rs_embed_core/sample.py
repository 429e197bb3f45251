"""Stages prepare and batch: ``Sample``, one input of a network; ``Batch``, equal samples side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.geo import Inset
from rs_embed_core.notice import Notice
from rs_embed_core.specs.request import ModelConfig
from rs_embed_core.tiling import TileLayout

type Array = NDArray[np.generic]
type Arrays = Mapping[str, Array]
type Extent = tuple[float, float, float, float]
"""Rows and columns (row0, row1, col0, col1) of an image, fractional, beyond it where it was padded."""
type Signature = tuple[tuple[tuple[str, tuple[int, ...], str], ...], ModelConfig, tuple[str, ...]]


@dataclass(frozen=True)
class View:
    """What of a sample's features is asked for; everything else stays on the device.

    Attributes:
        output: one vector, or the cells.
        pooling: how cells become one vector.
        head: take the network's own image vector where it has one; else pool the cells of ``inset``.
        inset: the ROI in fractions of the sample's cells; None keeps all.
        tile: the layout that the sample is a tile of and its index, for ``grid``: only owned cells leave.
    """

    output: Literal["pooled", "grid"] = "pooled"
    pooling: Literal["mean", "max"] = "mean"
    head: bool = True
    inset: Inset | None = None
    tile: tuple[TileLayout, int] | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """Named arrays for a network, without a batch axis.

    While a chain prepares it, ``arrays["image"]`` is float32 ``[T, C, H, W]``; the last steps give it the
    network's own axes.

    Attributes:
        arrays: the network's arguments.
        bands: names of the C axis of ``image``.
        valid: bool ``[T, H, W]``, False where a pixel is missing; single values may be non-finite besides. None
            when every value is there.
        params: fixed arguments of the network's forward (a patch size); equal within a batch.
        view: what is asked of its features.
        notices: caveats found while preparing.
        scale_m: side of a pixel in metres, as it was asked of the provider.
        tiled: whether it is a tile, be it the only one.
        extent: what is left of the image that the chain was given, where a step chose it by itself; None where
            the card's ``Shape`` says it.
    """

    arrays: Arrays
    bands: tuple[str, ...] = ()
    valid: NDArray[np.bool_] | None = None
    params: ModelConfig = ()
    view: View = field(default_factory=View)
    notices: tuple[Notice, ...] = ()
    scale_m: float = 10.0
    tiled: bool = False
    extent: Extent | None = None

    @property
    def image(self) -> NDArray[np.float32]:
        """The pixels."""
        return self.arrays["image"]  # type: ignore[return-value]  # float32 until a step says otherwise

    def with_image(self, image: Array) -> Sample:
        """The same sample with other pixels."""
        return replace(self, arrays={**self.arrays, "image": image})

    @property
    def signature(self) -> Signature:
        """Shapes, dtypes, params and bands: only equal ones share a forward."""
        shapes = ((name, array.shape, array.dtype.str) for name, array in sorted(self.arrays.items()))
        return tuple(shapes), self.params, self.bands


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of equal signature: every array has a leading batch axis."""

    arrays: Arrays
    params: ModelConfig
    views: tuple[View, ...]
    bands: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.views)

    @property
    def signature(self) -> Signature:
        """The signature of each of its samples."""
        shapes = ((name, array.shape[1:], array.dtype.str) for name, array in sorted(self.arrays.items()))
        return tuple(shapes), self.params, self.bands

    def take(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop``, without copying."""
        arrays = {name: array[start:stop] for name, array in self.arrays.items()}
        return Batch(arrays, self.params, self.views[start:stop], self.bands)


def collate(samples: Sequence[Sample]) -> Batch:
    """The batch of samples of equal signature, in order.

    Raises:
        ValueError: no sample, or signatures that differ.
    """
    first = samples[0].signature
    if any(sample.signature != first for sample in samples[1:]):
        msg = "only samples of equal signature share a batch"
        raise ValueError(msg)
    arrays = {name: np.stack([sample.arrays[name] for sample in samples]) for name in samples[0].arrays}
    return Batch(arrays, samples[0].params, tuple(sample.view for sample in samples), samples[0].bands)


def join(batches: Sequence[Batch]) -> Batch:
    """One batch out of several of equal signature, in order."""
    if len(batches) == 1:
        return batches[0]
    arrays = {name: np.concatenate([batch.arrays[name] for batch in batches]) for name in batches[0].arrays}
    views = tuple(view for batch in batches for view in batch.views)
    return Batch(arrays, batches[0].params, views, batches[0].bands)


def group_by_signature(samples: Sequence[Sample]) -> dict[Signature, list[int]]:
    """Indices of the samples that share a forward, in order of first appearance."""
    groups: dict[Signature, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.signature, []).append(index)
    return groups
