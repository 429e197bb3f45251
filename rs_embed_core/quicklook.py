"""Pictures to look at: a grid as PCA false colour beside the imagery behind it in natural colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.errors import InvalidInput
from rs_embed_core.plan import plan
from rs_embed_core.providers.base import Provider
from rs_embed_core.specs.request import EmbedRequest

if TYPE_CHECKING:
    import xarray as xr

type Picture = NDArray[np.uint8]
"""Colours ``[h, w, 3]``, row 0 north."""

NATURAL_COLOUR = ("B4", "B3", "B2")
_SENTINEL_2 = "COPERNICUS/S2_SR_HARMONIZED"
_STRETCH = (2.0, 98.0)  # percentiles: a few bright roofs or dark lakes do not take the whole range
_NEGLIGIBLE = 1e-9  # share of the variance below which a component is rounding noise, not a picture
_GREY = 0.5


def pca_rgb(grid: NDArray[np.float32] | xr.DataArray, *, stretch: tuple[float, float] = _STRETCH) -> Picture:
    """The first three principal components of a grid ``(D, h, w)`` as red, green and blue.

    The sign of a component is fixed (its largest score is positive), so equal grids give equal pictures. A
    component without variance is mid-grey; cells that are not finite are black.

    Args:
        grid: what ``OutputSpec.grid()`` gave.
        stretch: percentiles of each component that become 0 and 255.

    Raises:
        InvalidInput: not three axes, or no finite cell.
    """
    values = np.asarray(grid, np.float64)
    if values.ndim != 3 or 0 in values.shape:
        msg = f"the grid has the shape {values.shape}."
        raise InvalidInput(msg, hint="Give (D, h, w): ask with OutputSpec.grid().")
    depth, height, width = values.shape
    cells = values.reshape(depth, height * width).T  # [N, D]
    finite = np.isfinite(cells).all(axis=1)
    if not finite.any():
        msg = "no cell of the grid is finite."
        raise InvalidInput(msg, hint="Look at the notices in the embedding's meta.")
    colours = np.zeros((height * width, 3), np.uint8)
    scores = _components(cells[finite])
    colours[finite] = np.stack([_stretched(scores[:, [k]], stretch)[:, 0] for k in range(3)], axis=1)
    return colours.reshape(height, width, 3)


def _components(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores ``[N, 3]`` of the first three principal components of ``[N, D]``; absent ones are zero."""
    centred = cells - cells.mean(axis=0)
    count, depth = centred.shape
    if depth <= count:
        variances, axes = np.linalg.eigh(centred.T @ centred)  # ascending
        scores = centred @ axes[:, ::-1][:, :3]
    else:  # the same scores from the smaller matrix
        variances, axes = np.linalg.eigh(centred @ centred.T)
        scores = axes[:, ::-1][:, :3] * np.sqrt(np.maximum(variances[::-1][:3], 0.0))
    kept = variances[::-1][:3] > _NEGLIGIBLE * max(float(variances.sum()), np.finfo(np.float64).tiny)
    out = np.zeros((count, 3))
    for k in np.flatnonzero(kept):
        largest = np.argmax(np.abs(scores[:, k]))
        out[:, k] = scores[:, k] * np.sign(scores[largest, k])
    return out


def rgb(
    image: NDArray[np.generic] | xr.DataArray,
    bands: Sequence[str] = NATURAL_COLOUR,
    *,
    wanted: tuple[str, str, str] = NATURAL_COLOUR,
    stretch: tuple[float, float] = _STRETCH,
) -> Picture:
    """An image ``[C, H, W]`` of raw sensor values in natural colour; missing pixels are black.

    The three bands share one stretch, so that hues stay as they are.

    Args:
        image: the pixels.
        bands: names of its C axis.
        wanted: the bands for red, green and blue.
        stretch: percentiles that become 0 and 255.

    Raises:
        InvalidInput: not three axes, or a band is missing.
    """
    values = np.asarray(image, np.float64)
    missing = [band for band in wanted if band not in bands]
    if values.ndim != 3 or values.shape[0] != len(bands) or missing:
        msg = f"the image has the shape {values.shape} and the bands {list(bands)}."
        raise InvalidInput(msg, hint=f"Give [C, H, W] with the bands {', '.join(wanted)} among them.")
    chosen = np.stack([values[list(bands).index(band)] for band in wanted], axis=-1)  # [H, W, 3]
    finite = np.isfinite(chosen).all(axis=-1)
    picture = np.zeros(chosen.shape, np.uint8)
    if finite.any():
        picture[finite] = _stretched(chosen[finite], stretch)
    return picture


def _stretched(values: NDArray[np.float64], percentiles: tuple[float, float]) -> Picture:
    """Values between two percentiles of all of them as 0..255; mid-grey where they are all the same."""
    low, high = np.percentile(values, percentiles)
    if high > low:
        scaled = np.clip((values - low) / (high - low), 0.0, 1.0)
    else:
        scaled = np.clip(_GREY + np.sign(values - low) * _GREY, 0.0, 1.0)
    picture: Picture = np.rint(255 * scaled).astype(np.uint8)
    return picture


def input_rgb(request: EmbedRequest, provider: Provider) -> Picture:
    """The ROI of a request in natural colour: one Sentinel-2 composite of its window.

    It is read whatever the model itself reads, so that every quicklook shows the place.

    Raises:
        SpecError, ModelError: the request cannot be planned.
        ProviderError: the provider has no such imagery.
    """
    resolved = plan(request)
    read = replace(
        resolved.fetch,
        collection=_SENTINEL_2,
        bands=NATURAL_COLOUR,
        frames=(resolved.window,),
        composite="median",
    )
    chip = provider.fetch(read)
    pixels = chip.data[0].astype(np.float64)  # [C, H, W]
    if chip.valid is not None:
        pixels[:, ~chip.valid[0]] = np.nan
    y0, y1, x0, x1 = resolved.roi
    height, width = pixels.shape[1:]
    rows = slice(round(y0 * height), max(round(y1 * height), round(y0 * height) + 1))
    columns = slice(round(x0 * width), max(round(x1 * width), round(x0 * width) + 1))
    return rgb(pixels[:, rows, columns])


def save_png(path: str | Path, *pictures: Picture, height: int = 512, gap: int = 12) -> Path:
    """Write pictures side by side, each scaled to one height by nearest neighbour, white between them.

    Raises:
        InvalidInput: no picture, or one that is not uint8 ``[h, w, 3]``.
    """
    from PIL import Image  # noqa: PLC0415 - only pictures need it

    if not pictures or any(one.ndim != 3 or one.shape[2] != 3 or one.dtype != np.uint8 for one in pictures):
        msg = f"the pictures have the shapes {[one.shape for one in pictures]}."
        raise InvalidInput(msg, hint="Give uint8 [h, w, 3], from pca_rgb() or rgb().")
    scaled = []
    for one in pictures:
        width = max(1, round(one.shape[1] * height / one.shape[0]))
        scaled.append(Image.fromarray(one).resize((width, height), Image.Resampling.NEAREST))
    total = sum(image.width for image in scaled) + gap * (len(scaled) - 1)
    sheet = Image.new("RGB", (total, height), "white")
    left = 0
    for image in scaled:
        sheet.paste(image, (left, 0))
        left += image.width + gap
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")
    return path
