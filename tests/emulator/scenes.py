"""What exists: scenes, collections of them, and the catalogue that finds both by id."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import shapely

from rs_embed_core.errors import JSONValue
from rs_embed_core.geo import Grid
from tests.emulator.pixels import Pixels, Raster, sample


def milliseconds(moment: dt.datetime) -> int:
    """Milliseconds since 1970, as ``system:time_start`` holds them; a moment without a zone is UTC."""
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return round(zoned.timestamp() * 1000)


@dataclass(frozen=True)
class Search:
    """What a query is known to need: an endless collection makes nothing else.

    Attributes:
        region: in degrees; None everywhere.
        start, stop: milliseconds since 1970, end-exclusive; None without bound.
    """

    region: shapely.Geometry | None = None
    start: int | None = None
    stop: int | None = None


class Scene(Protocol):
    """One image of a collection."""

    @property
    def properties(self) -> Mapping[str, JSONValue]:
        """``system:index`` and the rest."""

    @property
    def footprint(self) -> shapely.Geometry:
        """Where it may have pixels, in degrees."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its bands."""

    @property
    def dtype(self) -> np.dtype:
        """The type that holds all of them."""

    def read(self, grid: Grid, names: Sequence[str]) -> Pixels:
        """Some bands on a grid."""


class Collection(Protocol):
    """A series of scenes, in the order of their indices."""

    def scenes(self, search: Search) -> Sequence[Scene]:
        """All that may match; more may come back than do."""


class Catalogue(Protocol):
    """Everything that exists."""

    def collection(self, identity: str) -> Collection | None:
        """An image collection by its id."""

    def scene(self, identity: str) -> Scene | None:
        """A single image by its id: its collection's, a slash, its index."""


@dataclass(frozen=True, eq=False)
class StoredScene:
    """A scene of explicit rasters.

    Attributes:
        index: its ``system:index``.
        time_start: its ``system:time_start``.
        own: its other properties.
        footprint: in degrees.
        bands: by name.
    """

    index: str
    time_start: dt.datetime
    own: Mapping[str, JSONValue]
    footprint: shapely.Geometry
    bands: Mapping[str, Raster]

    @cached_property
    def properties(self) -> Mapping[str, JSONValue]:
        """All properties."""
        return {"system:index": self.index, "system:time_start": milliseconds(self.time_start), **self.own}

    @property
    def names(self) -> tuple[str, ...]:
        """Its bands."""
        return tuple(self.bands)

    @cached_property
    def dtype(self) -> np.dtype:
        """The type that holds all of them."""
        return np.result_type(*(band.array.dtype for band in self.bands.values()))

    def read(self, grid: Grid, names: Sequence[str]) -> Pixels:
        """Some bands, each by the nearest pixel."""
        parts = [sample(self.bands[name], grid) for name in names]
        values = np.concatenate([part.values for part in parts])
        if all(part.mask is None for part in parts):
            return Pixels(values)
        shape = (1, grid.height, grid.width)
        return Pixels(values, np.concatenate([np.ones(shape, bool) if p.mask is None else p.mask for p in parts]))


@dataclass(frozen=True)
class StoredCollection:
    """A series of explicit scenes."""

    members: Sequence[StoredScene]

    def scenes(self, search: Search) -> Sequence[StoredScene]:
        """All of them: the filters decide."""
        return self.members


@dataclass(frozen=True)
class StoredCatalogue:
    """Explicit collections by id."""

    collections: Mapping[str, StoredCollection] = field(default_factory=dict)

    def collection(self, identity: str) -> StoredCollection | None:
        """An image collection by its id."""
        return self.collections.get(identity)

    def scene(self, identity: str) -> StoredScene | None:
        """A single image by its id."""
        parent, _, index = identity.rpartition("/")
        found = self.collections.get(parent)
        return next((scene for scene in found.members if scene.index == index), None) if found else None
