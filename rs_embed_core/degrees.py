"""Stage plan: an ROI in degrees, for a product whose cells are degrees and not metres.

Facts: the reference's conversion of a point buffer (golden/copernicus/spec.md, "Request").
"""

from __future__ import annotations

import math

from rs_embed_core.geo import Grid
from rs_embed_core.specs.spatial import LONLAT, PointBuffer, Spatial

CELL_DEGREES = 0.25  # of the only product in degrees so far, to tell how much an ROI needs
METRES_PER_DEGREE = 111_320.0  # of latitude
_LEAST_COSINE = 1e-6  # keeps the longitudes of a pole finite, as in the reference


def degrees_of(spatial: Spatial) -> tuple[float, float, float, float]:
    """West, south, east and north of an ROI in degrees; a point's may lie beyond 180 or 90."""
    if not isinstance(spatial, PointBuffer):
        return spatial.minlon, spatial.minlat, spatial.maxlon, spatial.maxlat
    dlat = spatial.buffer_m / METRES_PER_DEGREE
    dlon = spatial.buffer_m / (METRES_PER_DEGREE * max(_LEAST_COSINE, math.cos(math.radians(spatial.lat))))
    return spatial.lon - dlon, spatial.lat - dlat, spatial.lon + dlon, spatial.lat + dlat


def degree_grid(spatial: Spatial) -> Grid:
    """One pixel that spans the ROI in EPSG:4326: what a product in degrees is asked for."""
    west, south, east, north = degrees_of(spatial)
    return Grid(LONLAT, (east - west, 0.0, west, 0.0, south - north, north), 1, 1)
