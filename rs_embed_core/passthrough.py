"""Stage forward of a precomputed product: there is no network, the samples are the result."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.release import package_version
from rs_embed_core.sample import Batch
from rs_embed_core.tokens import TokenBlock

INFO = EncoderInfo("none", "float32", None, (("rs-embed-serve", package_version()), ("numpy", version("numpy"))))


def passed(batch: Batch) -> TokenBlock:
    """The tokens of samples that are finished, vectors ``(D,)`` or grids ``(D, H, W)`` under ``image``: no copy."""
    rows = np.asarray(batch.arrays["image"], np.float32)
    cells = (rows.shape[2], rows.shape[3]) if rows.ndim == 4 else (1, 1)
    return TokenBlock(rows, (cells,) * len(rows))
