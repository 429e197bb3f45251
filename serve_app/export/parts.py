"""Which ROIs go into which file, pure: the same ROIs always give the same parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rs_embed_core.errors import JSONValue
from rs_embed_core.export.geoparquet import hilbert_order
from rs_embed_core.specs.spatial import BBox, Spatial


@dataclass(frozen=True)
class Part:
    """Neighbours that share a file of each model.

    Attributes:
        indices: their rows in the file of ROIs.
        digest: of these rows and the ROIs in them.
    """

    number: int
    indices: tuple[int, ...]
    digest: str

    @property
    def name(self) -> str:
        """Of its files, without an ending."""
        return f"part-{self.number:05d}"


def partition(rois: Mapping[int, Spatial], size: int, ends: Sequence[int] = ()) -> list[Part]:
    """Parts of at most ``size`` ROIs along a Hilbert curve, so that each covers a compact area.

    Args:
        rois: by their rows in the file.
        ends: numbers of rows that the file had in earlier runs, ascending. What came after has parts of its own, so
            that those which are there stay as they are.
    """
    rows = np.array(sorted(rois), np.int64)
    chosen: list[tuple[int, ...]] = []
    for own in np.split(rows, np.searchsorted(rows, ends)):
        if len(own):
            ordered = own[hilbert_order(np.array([_box(rois[index]) for index in own.tolist()]))].tolist()
            chosen += [tuple(ordered[start : start + size]) for start in range(0, len(ordered), size)]
    return [
        Part(number, own, digest([[index, dict(rois[index].to_dict())] for index in own]))
        for number, own in enumerate(chosen)
    ]


def _box(roi: Spatial) -> tuple[float, float, float, float]:
    """What has the ROI's centre, degrees."""
    if isinstance(roi, BBox):
        return roi.minlon, roi.minlat, roi.maxlon, roi.maxlat
    return roi.lon, roi.lat, roi.lon, roi.lat


def digest(value: JSONValue) -> str:
    """Of a JSON value, whatever the order of its keys."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
