"""Stage fetch, synthetic imagery: smooth random fields and random bits, as pure functions of the place.

A chip must not depend on the window it was read through, bit for bit. Elementwise arithmetic gives that by
itself; a matrix product does not, because BLAS orders its sums (and fuses multiply and add) by the shapes. Here
every factor of a product is a whole number and every sum stays below 2**24, where float32 is exact: nothing is
rounded, so no order can be seen, on any machine, with any number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float32]
type Bits = NDArray[np.uint32]

SPACINGS_M = (100.0, 390.0, 1500.0, 6000.0, 23000.0, 90000.0)  # of the octaves' lattices, in Mercator metres
_PER_METRE = 1.0 / np.array(SPACINGS_M)
_OCTAVE_SEED, _Y_SEED = 0x9E3779B1, 0x2545F491  # any large odd numbers
_NYQUIST = 2.5  # pixels per node that an octave needs; a finer one would alias
_WEIGHT = 4096  # spline weights are multiples of 1 / _WEIGHT
_HALFWAY = 2  # steps per unit of the values interpolated along one axis only
_SHIFTS = np.arange(0, 32, 8, dtype=np.uint32)[:, None, None]
AMPLITUDE_LIMIT = 15  # of a field's amplitudes in sum: (128 * 15 * 2 + 4) * (4096 + 2) < 2**24, see above


def mix(bits: Bits) -> Bits:
    """Random bits of any bits (Wellons' ``lowbias32``)."""
    out = bits ^ (bits >> 16)
    out *= np.uint32(0x7FEB352D)
    out ^= out >> 15
    out *= np.uint32(0x846CA68B)
    out ^= out >> 16
    return out


def pixel_bits(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Bits:
    """Random bits ``[H, W]`` of the pixels in these rows and columns of a lattice."""
    lines = mix(np.concatenate((rows + _Y_SEED, columns)).astype(np.uint32))
    return mix(lines[: len(rows), None] + lines[len(rows) :])


@dataclass(frozen=True, eq=False)
class Axis:
    """The spline weights of the pixels along one side of a window.

    Attributes:
        octaves: ``[N]`` octave of each lattice node within reach.
        bits: ``[N]`` random bits of each node.
        weights: ``[N, pixels]`` quadratic B-spline weights, whole numbers that sum to about 4096 per octave.
    """

    octaves: NDArray[np.int64]
    bits: Bits
    weights: Floats

    def part(self, start: int, stop: int) -> Self:
        """The axis of some of its pixels, with the nodes that they need."""
        weights = self.weights[:, start:stop]
        if weights.shape == self.weights.shape:
            return self
        near = weights.any(axis=1)
        return type(self)(self.octaves[near], self.bits[near], weights[near])


def axes(first: tuple[int, int], count: tuple[int, int], scale_m: tuple[float, float]) -> tuple[Axis, Axis]:
    """The axes (x, y) of so many pixels of the lattice of ``scale_m``, from these numbers; y counts southward.

    Both are computed as one array, up to the longer count: half the calls, which is what small windows cost.
    """
    nodes: list[int] = []
    octaves: list[int] = []
    ends = []
    for start, pixels, scale in zip(first, count, scale_m, strict=True):
        for octave in range(_finest(scale), len(SPACINGS_M)):
            low, high = _reach(start, pixels, scale / SPACINGS_M[octave])
            nodes.extend(range(low, high))
            octaves.extend([octave] * (high - low))
        ends.append(len(nodes))
    split = ends[0]
    octave_of, node = np.array(octaves), np.array(nodes)
    per_pixel = _PER_METRE[octave_of]
    per_pixel[:split] *= scale_m[0]
    per_pixel[split:] *= scale_m[1]
    origin = np.full(len(node), first[1] + 0.5)
    origin[:split] = first[0] + 0.5
    distance = (origin[:, None] + np.arange(max(count))) * per_pixel[:, None]
    distance -= node[:, None]
    weights = _spline(distance.astype(np.float32))
    seeds = octave_of * _OCTAVE_SEED
    seeds[split:] += _Y_SEED
    bits = mix((node + seeds).astype(np.uint32))
    return (
        Axis(octave_of[:split], bits[:split], weights[:split, : count[0]]),
        Axis(octave_of[split:], bits[split:], weights[split:, : count[1]]),
    )


def _finest(scale_m: float) -> int:
    """The finest octave that pixels of this size can show (the coarsest always counts)."""
    return next((i for i, s in enumerate(SPACINGS_M) if s >= _NYQUIST * scale_m), len(SPACINGS_M) - 1)


def _reach(first: int, pixels: int, per_pixel: float) -> tuple[int, int]:
    """The nodes whose splines reach the pixels: from the first number to before the second."""
    low = math.floor((first + 0.5) * per_pixel + 0.5) - 1
    return low, math.floor((first + pixels - 0.5) * per_pixel + 0.5) + 2


def _spline(distance: Floats) -> Floats:
    """The quadratic B-spline of distances in node spacings, in units of 1 / 4096, rounded."""
    np.abs(distance, out=distance)
    # closed form of its three pieces: (3/2 - |t|)**2 / 2, less 3 (1/2 - |t|)**2 / 2 near the node
    outer = np.maximum(np.float32(1.5) - distance, np.float32(0))
    inner = np.maximum(np.float32(0.5) - distance, np.float32(0))
    outer *= outer
    inner *= inner
    inner *= np.float32(3)
    outer -= inner
    outer *= np.float32(_WEIGHT / 2)
    return np.rint(outer, out=outer)


def smooth(rows: Axis, columns: Axis, amplitudes: Floats) -> Floats:
    """Random fields ``[F, H, W]`` of mean about zero, for ``amplitudes [F, octaves]``; whole numbers below 2**24.

    At most 8 fields: each takes one byte of two hashes of a lattice node. The lattices of all octaves together
    are one block-diagonal matrix, so two products interpolate everything.
    """
    hashed = np.empty((2, len(columns.bits), len(rows.bits)), np.uint32)  # [2, nodes x, nodes y]
    np.add(columns.bits[:, None], rows.bits, out=hashed[0])
    np.invert(hashed[0], out=hashed[1])
    octets = mix(hashed)[:, None] << _SHIFTS  # [2, 4, nodes x, nodes y], one signed byte at the top
    lattice = (octets.view(np.int32) >> 24).astype(np.float32).reshape(8, *hashed.shape[1:])[: len(amplitudes)]
    lattice *= amplitudes[:, columns.octaves][:, :, None] * (columns.octaves[:, None] == rows.octaves)
    fields, nodes_x, nodes_y = lattice.shape
    halfway = lattice.reshape(fields * nodes_x, nodes_y) @ rows.weights  # [F * nodes x, H]
    halfway *= np.float32(_HALFWAY / _WEIGHT)
    np.rint(halfway, out=halfway)
    return np.matmul(halfway.reshape(fields, nodes_x, -1).transpose(0, 2, 1), columns.weights)


def deviation(amplitudes: Floats) -> Floats:
    """Standard deviation ``[F]`` of ``smooth`` fields in their own units, where every octave is present."""
    # a byte deviates by 73.9 from its mean; squared B-spline weights sum to 0.55 on average, along each axis
    unit = 73.9 * 0.55 * _HALFWAY * _WEIGHT
    return (np.sqrt((amplitudes.astype(np.float64) ** 2).sum(axis=1)) * unit).astype(np.float32)
