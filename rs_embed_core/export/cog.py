"""A grid as a Cloud-Optimized GeoTIFF: one band per dimension of the embedding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import InvalidInput


def write_cog(path: str | Path, embedding: Embedding) -> Path:
    """Write a georeferenced grid; its meta goes into the tag ``RS_EMBED_META`` as JSON.

    Raises:
        InvalidInput: a vector, or a grid without a place.
    """
    import rasterio  # noqa: PLC0415 - GDAL is slow to load, and only this needs it
    from rasterio.transform import Affine  # noqa: PLC0415 - loaded with it

    values = np.asarray(embedding.data, np.float32)
    crs, transform = embedding.meta.get("crs"), embedding.meta.get("transform")
    if values.ndim != 3 or not isinstance(crs, str) or not crs or not isinstance(transform, list):
        msg = f"the embedding has the shape {values.shape} and the CRS {crs!r}."
        raise InvalidInput(msg, hint="Give a grid of a place: ask with OutputSpec.grid().")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="COG",
        count=count,
        height=height,
        width=width,
        dtype="float32",
        crs=crs,
        transform=Affine(*transform),
        compress="ZSTD",
        predictor="YES",
        interleave="TILE",
        overviews="NONE",
    ) as file:
        file.write(values)
        file.update_tags(RS_EMBED_META=json.dumps(embedding.meta))
    return path
