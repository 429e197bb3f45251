"""Results into files: GeoParquet, NumPy, GeoTIFF, by the name's ending."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import InvalidRequest
from rs_embed_core.specs.spatial import Spatial

_ENDINGS = {".parquet": ("pooled",), ".npy": ("pooled", "grid"), ".tif": ("grid",)}


def check_format(out: str, output: str) -> None:
    """Refuse a file that could not hold the output, before anything is computed.

    Raises:
        InvalidRequest: an unknown ending, or one for the other kind of output.
    """
    outputs = _ENDINGS.get(Path(out).suffix.lower())
    if outputs is None:
        msg = f"--out {out} is of no known format."
        raise InvalidRequest(msg, hint=f"The name ends in one of {', '.join(_ENDINGS)}.")
    if output not in outputs:
        fitting = ", ".join(ending for ending, kinds in _ENDINGS.items() if output in kinds)
        msg = f"--out {out} does not hold --output {output}."
        raise InvalidRequest(msg, hint=f"Use a name that ends in {fitting}.")


def write(path: Path, embeddings: Sequence[Embedding], spatials: Sequence[Spatial], indices: Sequence[int]) -> None:
    """Write results; ``indices`` are their places in the request.

    Raises:
        InvalidRequest: more grids than the file holds, or of different shapes.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        from rs_embed_core.export.geoparquet import write_geoparquet

        write_geoparquet(path, embeddings, spatials, indices=indices)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if ending == ".tif":
        if len(embeddings) > 1:
            msg = f"{path} would have to hold {len(embeddings)} grids."
            raise InvalidRequest(msg, hint="Ask for one ROI at a time, or write .npy.")
        from rs_embed_core.export.cog import write_cog

        write_cog(path, embeddings[0])
        return
    arrays = [np.asarray(embedding.data) for embedding in embeddings]
    if len({array.shape for array in arrays}) > 1:
        msg = f"the {len(arrays)} grids have different shapes."
        raise InvalidRequest(msg, hint="One array cannot hold them: ask for ROIs of one size.")
    np.save(path, arrays[0] if len(arrays) == 1 else np.stack(arrays))
