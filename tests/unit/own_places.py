"""Pixels that hold their own place, so that a cell tells where it was made."""

from __future__ import annotations

import numpy as np

from rs_embed_core import BBox, TemporalSpec

RECTANGLE = BBox(0, 0, 0.0115, 0.006)  # 128 by 67 pixels of 10 m, in a square of 129
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")


def places(height: int, width: int) -> np.ndarray:
    """Pixels that hold their own place: column and row of their centre, [2, H, W]."""
    rows, columns = np.indices((height, width), np.float32) + np.float32(0.5)
    return np.stack([columns, rows])
