"""Results as the service sends them: NPY, GeoTIFF and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely

from rs_embed_core.errors import JSONValue
from rs_embed_core.geo import Grid
from tests.emulator.functions.collections import Query, listed
from tests.emulator.images import Image, as_type
from tests.emulator.limits import STATUS_NAMES, Refused
from tests.emulator.pixels import Array


@dataclass(frozen=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes
    content_type: str = "application/json; charset=UTF-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def in_json(value: JSONValue) -> Reply:
    """A JSON document."""
    return Reply(200, json.dumps(value).encode())


def refusal(status: int, message: str, *, reason: str | None = None) -> Reply:
    """An error as the service words it; ``reason`` is what the client looks at in a 403."""
    error: dict[str, JSONValue] = {"code": status, "message": message, "status": STATUS_NAMES.get(status, "UNKNOWN")}
    if reason is not None:
        error["errors"] = [{"message": message, "domain": "usageLimits", "reason": reason}]
    return Reply(status, json.dumps({"error": error}).encode())


def npy(image: Image, grid: Grid) -> Reply:
    """A structured array ``[H, W]``, one little-endian field per band, masked pixels 0."""
    kind = image.dtype.newbyteorder("<")
    out = np.empty((grid.height, grid.width), np.dtype([(name, kind) for name in image.names]))
    for name, band in zip(image.names, _filled(image, grid), strict=True):
        out[name] = band
    buffer = io.BytesIO()
    np.save(buffer, out, allow_pickle=False)
    return Reply(200, buffer.getvalue(), "application/octet-stream")


def geotiff(image: Image, grid: Grid) -> Reply:
    """One file with the bands' names as descriptions."""
    from affine import Affine  # noqa: PLC0415 - GDAL is slow to load, and few ask for this format
    from rasterio.io import MemoryFile  # noqa: PLC0415

    bands = _filled(image, grid)
    profile = {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": len(bands),
        "dtype": bands.dtype,
        "crs": grid.crs,
        "transform": Affine(*grid.transform),
        "compress": "deflate",
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(bands)
            file.descriptions = image.names
        return Reply(200, memory.read(), "image/tiff")


def _filled(image: Image, grid: Grid) -> Array:
    pixels = image.all_bands(grid)
    values = as_type(pixels.values, image.dtype)
    return values if pixels.mask is None else np.where(pixels.mask, values, values.dtype.type(0))


def described(value: object) -> JSONValue:
    """A computed value as JSON; images and collections by what they are, as ``getInfo`` shows them."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Image():
            bands = [{"id": name, "data_type": {"type": "PixelType"}} for name in value.names]
            return {"type": "Image", "bands": bands, "properties": dict(value.properties)}
        case Query():
            return {"type": "ImageCollection", "features": [described(image) for image in listed(value)]}
        case shapely.Geometry():
            return dict(shapely.geometry.mapping(value))
        case Mapping():
            return {str(name): described(item) for name, item in value.items()}
        case Sequence():
            return [described(item) for item in value]
    raise Refused(f"The emulator cannot send a {type(value).__name__}.")
