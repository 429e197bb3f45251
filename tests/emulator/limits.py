"""What the service refuses, in its own words (earth_engine.md, 2.1 and 2.3)."""

from __future__ import annotations

from rs_embed_core.geo import Grid

MOST_BYTES = 50_331_648
MOST_SIDE = 32_768
MOST_BANDS = 1_024
MOST_SAMPLED = 262_144
MOST_BODY_BYTES = 10_000_000

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Refused(Exception):
    """A request that the service answers with an error."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def check_body(size: int) -> None:
    """Refuse a request body above 10 MB."""
    if size > MOST_BODY_BYTES:
        raise Refused(f"Request payload size exceeds the limit: {MOST_BODY_BYTES} bytes.")


def check_pixels(grid: Grid, *, bands: int, itemsize: int) -> None:
    """Refuse a ``computePixels`` request that asks for too much; each band costs one mask byte more."""
    if max(grid.width, grid.height) > MOST_SIDE:
        raise Refused(f"Pixel grid dimensions ({grid.width}x{grid.height}) must be less than or equal to {MOST_SIDE}.")
    if bands > MOST_BANDS:
        raise Refused(f"Number of bands ({bands}) must be less than or equal to {MOST_BANDS}.")
    size = grid.width * grid.height * bands * (itemsize + 1)
    if size > MOST_BYTES:
        raise Refused(f"Total request size ({size} bytes) must be less than or equal to {MOST_BYTES} bytes.")


def check_sample(pixels: int) -> None:
    """Refuse a ``sampleRectangle`` of too many pixels."""
    if pixels > MOST_SAMPLED:
        raise Refused(f"Image.sampleRectangle: Too many pixels in sample; must be <= {MOST_SAMPLED}. Got {pixels}.")
