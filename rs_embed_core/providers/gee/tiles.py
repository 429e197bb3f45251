"""Stage fetch, Earth Engine: a read cut into requests that the service's size limits allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rs_embed_core.geo import Grid

# earth_engine.md 2.1: 48 MiB, counted as width * height * sum(bytes of a band + 1 for its mask). A little stays free.
MOST_BYTES = 48 * 2**20 * 49 // 50
MOST_BANDS = 1024
MOST_PIXELS = 32_768  # of one side
_BYTES = 5  # float32 and its mask
_SMALLEST_SIDE = 32  # a request of one frame this small that is still too much work will not get easier


@dataclass(frozen=True)
class Tile:
    """One request: half-open ranges of rows, columns and frames of the whole read."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    frames: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        (f0, f1), (r0, r1), (c0, c1) = self.frames, self.rows, self.columns
        return f1 - f0, r1 - r0, c1 - c0

    @property
    def place(self) -> tuple[slice, slice, slice, slice]:
        """Where it lies in the whole array ``[T, C, H, W]``."""
        return slice(*self.frames), slice(None), slice(*self.rows), slice(*self.columns)

    def bytes(self, bands: int) -> int:
        """What the service counts for it."""
        frames, rows, columns = self.shape
        return frames * bands * rows * columns * _BYTES

    def grid(self, whole: Grid) -> Grid:
        """Its pixels: a part of the same lattice."""
        return whole.crop(*self.rows, *self.columns)

    def halves(self) -> tuple[Tile, Tile] | None:
        """Two requests with half the work each, frames first (each is a composite of its own); None if too small."""
        frames, rows, columns = self.shape
        if frames > 1:
            first, second = _parts(self.frames, -(-frames // 2))
            return replace(self, frames=first), replace(self, frames=second)
        if max(rows, columns) <= _SMALLEST_SIDE:
            return None
        if rows >= columns:
            first, second = _parts(self.rows, -(-rows // 2))
            return replace(self, rows=first), replace(self, rows=second)
        first, second = _parts(self.columns, -(-columns // 2))
        return replace(self, columns=first), replace(self, columns=second)


def tiles_of(grid: Grid, frames: int, bands: int) -> tuple[Tile, ...]:
    """The requests of a read, as few and as equal as the limits allow.

    Rows are parted first, so that a series stays together; frames where not even one row of all would fit, or
    together they have too many bands; columns where not even one row of one frame fits.
    """
    most_columns = min(MOST_PIXELS, MOST_BYTES // (bands * _BYTES))
    column_parts = _parts((0, grid.width), most_columns)
    widest = max(stop - start for start, stop in column_parts)
    most_frames = max(1, min(MOST_BANDS // bands, MOST_BYTES // (widest * bands * _BYTES)))
    frame_parts = _parts((0, frames), most_frames)
    longest = max(stop - start for start, stop in frame_parts)
    most_rows = min(MOST_PIXELS, MOST_BYTES // (widest * longest * bands * _BYTES))
    row_parts = _parts((0, grid.height), most_rows)
    return tuple(Tile(rows, columns, part) for part in frame_parts for rows in row_parts for columns in column_parts)


def _parts(span: tuple[int, int], most: int) -> tuple[tuple[int, int], ...]:
    """Equal parts of at most ``most``, as few as possible."""
    start, stop = span
    count = -(-(stop - start) // most)
    return tuple(_bounds(start, stop - start, count))


def _bounds(start: int, length: int, count: int) -> Iterator[tuple[int, int]]:
    for i in range(count):
        yield start + length * i // count, start + length * (i + 1) // count
