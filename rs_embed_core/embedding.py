"""Stage assemble: ``Embedding``, the result, and ``EmbeddingMeta``, where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Acquisition, Period
from rs_embed_core.errors import JSONValue
from rs_embed_core.geo import Grid, projection
from rs_embed_core.notice import Notice

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class CheckpointInfo:
    """The weights that were really loaded.

    Attributes:
        revision: the commit where the Hub's cache tells it, else the one that the card pins.
        verified: whether the hash is the published one; None where the card does not know it.
    """

    repo: str
    file: str
    revision: str
    sha256: str
    verified: bool | None = None

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form."""
        return {
            "repo": self.repo,
            "file": self.file,
            "revision": self.revision,
            "sha256": self.sha256,
            "verified": self.verified,
        }


@dataclass(frozen=True)
class EncoderInfo:
    """What computed a result."""

    device: str
    precision: str
    checkpoint: CheckpointInfo | None
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Source:
    """The imagery behind a result."""

    provider: str
    collection: str
    bands: tuple[str, ...]
    scale_m: float
    composite: str
    cloudy_pct: int | None
    fill_value: float
    acquisitions: tuple[Acquisition, ...] = ()
    facts: tuple[tuple[str, str | int | float | bool], ...] = ()

    def sensor_dict(self) -> dict[str, JSONValue]:
        """The ``sensor`` entry that rs-embed's callers read."""
        return {
            "collection": self.collection,
            "bands": list(self.bands),
            "scale_m": self.scale_m,
            "cloudy_pct": self.cloudy_pct,
            "composite": self.composite,
            "fill_value": self.fill_value,
        }


@dataclass(frozen=True)
class FrameCount:
    """Frames of the model's time axis.

    Attributes:
        requested: asked of the provider.
        used: fed to the network.
        distinct: of those, how many equal no earlier one.
        empty: of those requested, how many had no acquisition.
    """

    requested: int
    used: int
    distinct: int
    empty: int

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form."""
        return {"requested": self.requested, "used": self.used, "distinct": self.distinct, "empty": self.empty}


@dataclass(frozen=True)
class PrepInfo:
    """How pixels became network inputs: the chain as text, its digest, and how a large ROI was cut."""

    requested: str
    resolved: str
    chain: str
    digest: str
    input_hw: tuple[int, int]
    tiles: int = 1
    tile_size: int | None = None

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form, with the keys that rs-embed's callers read."""
        out: dict[str, JSONValue] = {
            "prep_version": 1,
            "requested_mode": self.requested,
            "resolved_mode": self.resolved,
            "chain": self.chain,
            "digest": self.digest,
            "input_hw": list(self.input_hw),
        }
        if self.resolved == "tile":
            out |= {"tile_count": self.tiles, "tile_size": self.tile_size, "stitch_policy": "midpoint_cut"}
        return out


@dataclass(frozen=True)
class EmbeddingMeta:
    """Everything known about one result; ``to_dict`` is what users see in ``Embedding.meta``."""

    model: str
    variant: str
    modality: str
    source: Source
    window: Period
    kind: Literal["on_the_fly", "precomputed"]
    temporal_mode: str
    roi: tuple[tuple[str, JSONValue], ...]
    image_size: int | None
    output: Literal["pooled", "grid"]
    pooling: str | None
    grid: Grid | None
    frames: FrameCount
    prepare: PrepInfo
    encoder: EncoderInfo
    notices: tuple[Notice, ...] = ()
    timings_ms: tuple[tuple[str, float], ...] = ()
    options: tuple[tuple[str, JSONValue], ...] = ()
    facts: tuple[tuple[str, JSONValue], ...] = ()

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form: rs-embed's stable keys and the provenance."""
        checkpoint = self.encoder.checkpoint
        out: dict[str, JSONValue] = {
            "model": self.model,
            "variant": self.variant,
            "modality": self.modality,
            "type": self.kind,
            "backend": self.source.provider,
            "source": self.source.collection,
            "sensor": self.source.sensor_dict(),
            "temporal": self._temporal(),
            "roi": dict(self.roi),
            "image_size": self.image_size,
            "output_mode": self.output,
            "pooling": self.pooling,
            "grid_hw": None,
            "cls_removed": True,
            "input_prep": self.prepare.to_dict(),
            "model_config": dict(self.options),
            "frames": self.frames.to_dict(),
            "acquisitions": [{"id": a.id, "time": a.time, "frame": a.frame} for a in self.source.acquisitions],
            "checkpoint": None if checkpoint is None else checkpoint.to_dict(),
            "device": self.encoder.device,
            "precision": self.encoder.precision,
            "notices": [notice.to_dict() for notice in self.notices],
            "timings_ms": dict(self.timings_ms),
            "versions": dict(self.encoder.versions),
        }
        if self.source.facts:
            out["fetch"] = dict(self.source.facts)
        if self.facts:
            out["facts"] = dict(self.facts)
        if self.grid is not None:
            out["grid_hw"] = [self.grid.height, self.grid.width]
            out["crs"] = self.grid.crs
            out["transform"] = list(self.grid.transform)
            out["grid_orientation"] = "north_up"
        return out

    def _temporal(self) -> dict[str, JSONValue]:
        year: dict[str, JSONValue] = {"year": self.window.start.year} if self.temporal_mode == "year" else {}
        return {"mode": self.temporal_mode, **year, **self.window.to_dict()}


@dataclass(frozen=True, eq=False)
class Embedding:
    """One result.

    Attributes:
        data: float32, ``(D,)`` for pooled; for a grid an ``xarray.DataArray`` with dims ``(d, y, x)``, the CRS
            and the x and y coordinates of the cell centres.
        meta: JSON-able facts: rs-embed's stable keys and the provenance.
    """

    data: NDArray[np.float32] | xr.DataArray
    meta: dict[str, JSONValue] = field(default_factory=dict)


def georeference(data: NDArray[np.float32], grid: Grid, *, name: str) -> xr.DataArray:
    """A token grid as a ``DataArray`` ``(d, y, x)``: coordinates of the cell centres, CRS as CF's ``spatial_ref``.

    Without a CRS (the caller's own pixels of no stated place) the coordinates are left out.
    """
    import xarray as xr  # noqa: PLC0415 - slow to import, and only grids need it

    attrs = {"model": name}
    if not grid.crs:
        return xr.DataArray(data, dims=("d", "y", "x"), name="embedding", attrs=attrs)
    xs, ys = grid.centres
    a, b, c, d, e, f = grid.transform
    wkt = _wkt(grid.crs)
    reference = xr.Variable((), 0, {"crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": f"{c} {a} {b} {f} {d} {e}"})
    coords = {"y": ("y", np.asarray(ys)), "x": ("x", np.asarray(xs)), "spatial_ref": reference}
    return xr.DataArray(data, dims=("d", "y", "x"), coords=coords, name="embedding", attrs=attrs)


@lru_cache(maxsize=64)
def _wkt(crs: str) -> str:
    return projection(crs).to_wkt()
