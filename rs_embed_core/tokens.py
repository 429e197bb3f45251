"""Stage forward: ``Tokens``, what leaves the device for one sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Tokens:
    """The part of a sample's features that its ``View`` asked for.

    Attributes:
        data: float32 ``(D,)`` pooled, or ``(D, h, w)`` the kept cells, row 0 north.
        cells: rows and columns of the sample's whole token grid.
    """

    data: NDArray[np.float32]
    cells: tuple[int, int]


@dataclass(frozen=True, eq=False)
class TokenBlock:
    """Tokens of several samples, packed for another process: one array where the shapes agree."""

    data: NDArray[np.float32] | tuple[NDArray[np.float32], ...]
    cells: tuple[tuple[int, int], ...]

    @classmethod
    def pack(cls, tokens: Sequence[Tokens]) -> TokenBlock:
        """The block of these tokens, in order."""
        cells = tuple(token.cells for token in tokens)
        if len({token.data.shape for token in tokens}) == 1:
            return cls(np.stack([token.data for token in tokens]), cells)
        return cls(tuple(token.data for token in tokens), cells)

    def unpack(self) -> list[Tokens]:
        """The tokens again, in order, as views."""
        return [Tokens(data, cells) for data, cells in zip(self.data, self.cells, strict=True)]
