"""Stage fetch: one tessera tile: its name, where it lies and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.errors import ProviderError


@dataclass(frozen=True)
class TileKey:
    """One tile: its year and its centre in degrees."""

    year: int
    lon: float
    lat: float

    @property
    def name(self) -> str:
        """As geotessera names it."""
        return f"grid_{self.lon:.2f}_{self.lat:.2f}"

    @property
    def mask(self) -> Path:
        """The land mask, which places the tile, in geotessera's layout."""
        return Path("global_0.1_degree_tiff_all", f"{self.name}.tiff")

    @property
    def quantized(self) -> Path:
        """The int8 values."""
        return Path("global_0.1_degree_representation", str(self.year), self.name, f"{self.name}.npy")

    @property
    def scales(self) -> Path:
        """What the values are multiplied by."""
        return self.quantized.with_name(f"{self.name}_scales.npy")


@dataclass(frozen=True)
class TileFrame:
    """Where a tile lies: its projection, and (a, b, c, d, e, f) from there to fractional columns and rows."""

    crs: str
    to_pixels: tuple[float, ...]

    @classmethod
    def read(cls, mask: Path) -> TileFrame:
        """The frame of a land mask.

        Raises:
            ProviderError: ``bad_tile``.
        """
        import rasterio
        from rasterio.errors import RasterioError

        try:
            with rasterio.open(mask) as file:
                crs, transform = file.crs, file.transform
        except RasterioError as error:
            raise _bad(f"{mask} is not a readable GeoTIFF.") from error
        if not crs:
            raise _bad(f"{mask} has no projection.")
        return cls(crs.to_string(), tuple(~transform)[:6])


@dataclass(frozen=True, eq=False)
class Tile:
    """The values of a tile: int8 ``[H, W, D]`` and float32 scales ``[H, W]`` or ``[H, W, D]``, mapped from disk.

    Raises:
        ProviderError: ``bad_tile``, for other shapes.
    """

    name: str
    quantized: NDArray[np.int8]
    scales: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = self.quantized.shape
        if len(shape) != 3 or self.scales.shape not in (shape, shape[:2]):
            raise _bad(f"{self.name} has values of the shape {shape} and scales of the shape {self.scales.shape}.")

    @classmethod
    def read(cls, name: str, quantized: Path, scales: Path) -> Tile:
        """The tile of two files; only the pixels asked for later are read from them.

        Raises:
            ProviderError: ``bad_tile``.
        """
        try:
            return cls(name, np.load(quantized, mmap_mode="r"), np.load(scales, mmap_mode="r"))
        except (OSError, ValueError, EOFError) as error:
            raise _bad(f"{quantized} or its scales are no readable arrays.") from error

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.quantized.shape[0], self.quantized.shape[1]

    @property
    def dim(self) -> int:
        """How many bands."""
        return int(self.quantized.shape[2])

    def values(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """The embeddings ``[n, D]`` of some pixels; NaN where a scale is not finite (water, no data)."""
        scales = self.scales[rows, columns].astype(np.float32)
        scales[~np.isfinite(scales)] = np.nan
        return self.quantized[rows, columns].astype(np.float32) * scales.reshape(len(rows), -1)  # [n, 1] or [n, D]


def _bad(msg: str) -> ProviderError:
    return ProviderError(msg, code="bad_tile", hint="Remove the tile's files and fetch them again.", retryable=False)
