"""Stage fetch, synthetic imagery: smooth random fields and random bits, as pure functions of the place.

A chip must not depend on the window it was read through, bit for bit. Elementwise arithmetic gives that by
itself; a matrix product does not, because BLAS orders its sums (and fuses multiply and add) by shape. Here
every factor of a product is a whole number and every sum stays below 2**24, where float32 is exact: nothing
is rounded, so no order can be seen, on any machine, with any number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float32]
type Bits = NDArray[np.uint32]

SPACINGS_M = (100.0, 390.0, 1500.0, 6000.0, 23000.0, 90000.0)  # of the octaves' lattices, in Mercator metres
_OCTAVES = len(SPACINGS_M)
_DISTANCE = 4096  # fixed-point steps per node spacing: places up to the antimeridian fit 32 bits
# one for each octave's lattice in x, then in y
_NODE_SEEDS = np.arange(2 * _OCTAVES, dtype=np.uint32) * np.uint32(0x9E3779B1)
_ROW_SEED = 0x2545F491  # tells rows from columns
_NYQUIST = 2.5  # pixels per node that an octave needs; a finer one would alias
_WEIGHT = 4096  # spline weights are multiples of 1 / _WEIGHT
_HALFWAY = 2  # steps per unit of the values interpolated along one axis only
_SHIFTS = np.array([0, 8, 16], np.uint32)[:, None, None]


def mix(bits: Bits) -> Bits:
    """Random bits of any bits (Wellons' ``lowbias32``)."""
    out = stir(bits ^ (bits >> np.uint32(16)), 0x7FEB352D)
    out *= np.uint32(0x846CA68B)
    out ^= out >> 16
    return out


def stir(bits: Bits, factor: int) -> Bits:
    """Other random bits of random bits, for an odd factor: half the work of ``mix``."""
    out = bits * np.uint32(factor)
    out ^= out >> 15
    return out


def pixel_bits(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Bits:
    """Random bits ``[H, W]`` of the pixels in these rows and columns of a lattice."""
    lines = mix(np.concatenate((rows + _ROW_SEED, columns)).astype(np.uint32))
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


def axes(first: tuple[int, int], count: tuple[int, int], *, scale_m: tuple[float, float]) -> tuple[Axis, Axis]:
    """The axes (x, y) of so many pixels of a lattice, from these numbers; y counts southward.

    Both are computed as one array, up to the longer count: half the calls, which is what small windows cost.
    """
    nodes: list[int] = []
    octaves: list[int] = []  # those of y follow those of x
    ends = []
    for side in (0, 1):
        for octave in range(_finest(scale_m[side]), _OCTAVES):
            low, high = _reach(first[side], count[side], scale_m[side] / SPACINGS_M[octave])
            nodes.extend(range(low, high))
            octaves.extend([octave + side * _OCTAVES] * (high - low))
        ends.append(len(nodes))
    node, octave_of = np.array(nodes, np.int32), np.array(octaves)
    pixels = np.array([[[first[0] + 0.5]], [[first[1] + 0.5]]]) + np.arange(max(count))
    places = pixels * _steps_per_pixel(scale_m)  # [side, octave, pixels]
    distance = np.rint(places, out=places).astype(np.int32).reshape(2 * _OCTAVES, -1)[octave_of]
    distance -= node[:, None] * _DISTANCE
    np.abs(distance, out=distance)
    weights = _SPLINE.take(distance, mode="clip")
    bits = mix(node.view(np.uint32) + _NODE_SEEDS[octave_of])
    split, octave_of = ends[0], octave_of % _OCTAVES
    return (
        Axis(octave_of[:split], bits[:split], weights[:split, : count[0]]),
        Axis(octave_of[split:], bits[split:], weights[split:, : count[1]]),
    )


def _finest(scale_m: float) -> int:
    """The finest octave that pixels of this size can show (the coarsest always counts)."""
    return next((i for i, s in enumerate(SPACINGS_M) if s >= _NYQUIST * scale_m), _OCTAVES - 1)


def _reach(first: int, pixels: int, per_pixel: float) -> tuple[int, int]:
    """The nodes whose splines reach the pixels: from the first number to before the second."""
    low = math.floor((first + 0.5) * per_pixel + 0.5) - 1
    return low, math.floor((first + pixels - 0.5) * per_pixel + 0.5) + 2


@lru_cache(maxsize=64)
def _steps_per_pixel(scale_m: tuple[float, float]) -> NDArray[np.float64]:
    """Fixed-point steps per pixel ``[side, octave, 1]``."""
    return (np.array(scale_m)[:, None] * (_DISTANCE / np.array(SPACINGS_M)))[:, :, None]


def _spline() -> Floats:
    """The quadratic B-spline 0, 1, 2, ... fixed-point steps from its node, in whole units of 1 / 4096."""
    distance = np.arange(3 * _DISTANCE // 2 + 1) / _DISTANCE
    near, far = 0.75 - distance**2, (1.5 - distance) ** 2 / 2
    far[: _DISTANCE // 2] = near[: _DISTANCE // 2]
    return np.rint(_WEIGHT * far).astype(np.float32)


_SPLINE = _spline()


def smooth(rows: Axis, columns: Axis, *, amplitudes: Floats) -> Floats:
    """Random fields ``[F, H, W]`` of mean about zero: whole numbers below 2**24.

    The lattices of all octaves are one block-diagonal matrix, so two products interpolate everything.

    Args:
        rows: the y axis.
        columns: the x axis.
        amplitudes: ``[F, octaves]``, whole numbers that sum to at most 15 per field: 128 * 15 * 2 * 4096
            and some rounding are just below 2**24. At most 6 fields: each takes one signed byte of a node's
            two hashes.
    """
    hashed = np.empty((2, len(columns.bits), len(rows.bits)), np.uint32)  # [2, nodes x, nodes y]
    np.add(columns.bits[:, None], rows.bits, out=hashed[0])
    np.invert(hashed[0], out=hashed[1])
    octets = (mix(hashed)[:, None] << _SHIFTS).view(np.int32)  # [2, 3, nodes x, nodes y]
    octets >>= 24
    lattice = octets.astype(np.float32).reshape(6, *hashed.shape[1:])[: len(amplitudes)]
    lattice *= amplitudes[:, columns.octaves, None] * (columns.octaves[:, None] == rows.octaves)
    fields, nodes_x, nodes_y = lattice.shape
    halfway = lattice.reshape(fields * nodes_x, nodes_y) @ rows.weights  # [F * nodes x, H]
    halfway *= np.float32(_HALFWAY / _WEIGHT)
    np.rint(halfway, out=halfway)
    out: Floats = np.matmul(halfway.reshape(fields, nodes_x, -1).transpose(0, 2, 1), columns.weights)
    return out


def deviation(amplitudes: Floats) -> Floats:
    """Standard deviation ``[F]`` of ``smooth`` fields in their own units, where every octave is present."""
    # a byte deviates by 73.9 from its mean; squared B-spline weights sum to 0.55 on average, along each axis
    unit = 73.9 * 0.55 * _HALFWAY * _WEIGHT
    return (np.sqrt((amplitudes.astype(np.float64) ** 2).sum(axis=1)) * unit).astype(np.float32)
