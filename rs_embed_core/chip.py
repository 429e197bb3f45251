"""Stage fetch: ``FetchPlan``, what is asked of a provider, and ``Chip``, what comes back."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.errors import JSONValue
from rs_embed_core.geo import Grid
from rs_embed_core.specs.sensor import Composite


@dataclass(frozen=True)
class Period:
    """A half-open interval of days, ``[start, end)``."""

    start: dt.date
    end: dt.date

    @property
    def middle(self) -> dt.date:
        """The day halfway, rounded down."""
        return self.start + (self.end - self.start) // 2

    @property
    def days(self) -> int:
        """Length in days."""
        return (self.end - self.start).days

    def split(self, parts: int) -> tuple[Period, ...]:
        """Equal parts: part i spans days ``days*i//parts`` to ``days*(i+1)//parts``, at least one day long.

        Parts of no length that would start at the end are left out (earth_engine.md 1.8).
        """
        bounds = [(self.days * i // parts, self.days * (i + 1) // parts) for i in range(parts)]
        day = dt.timedelta(1)
        return tuple(
            Period(self.start + first * day, self.start + max(last, first + 1) * day)
            for first, last in bounds
            if first < self.days
        )

    def strides(self, days: int, at_most: int) -> tuple[Period, ...]:
        """Parts of ``days`` from the start, the last cut at the end: as many as there are, but at most ``at_most``.

        Where those would leave ``days`` or more uncovered, ``at_most`` equal parts instead
        (golden/galileo/spec.md, "Provider input").
        """
        if self.days >= (at_most + 1) * days:
            return self.split(at_most)
        starts = [self.start + dt.timedelta(first) for first in range(0, self.days, days)][:at_most]
        return tuple(Period(start, min(start + dt.timedelta(days), self.end)) for start in starts)

    def to_dict(self) -> dict[str, JSONValue]:
        """ISO dates."""
        return {"start": self.start.isoformat(), "end": self.end.isoformat()}


@dataclass(frozen=True)
class FetchPlan:
    """One provider read: the frames and bands wanted on a grid. Names no model, so models can share it.

    Attributes:
        collection: the provider's image series, in Earth Engine spelling.
        bands: names in the order wanted.
        grid: the pixels wanted.
        frames: one composite per period, in time order.
        composite: how many acquisitions become one image.
        cloudy_pct: scenes with more cloud than this are left out; None takes all.
        fill_value: what a missing pixel holds in ``Chip.data`` (``Chip.valid`` tells it apart).
        orbit: Sentinel-1 pass, None for both.
        linear: Sentinel-1 in linear power rather than dB.
        require_iw: Sentinel-1 IW mode only.
        relax_iw: drop ``require_iw`` where it leaves nothing (reported).
        scenes: list the acquisitions too; False for a read whose window is known to have some, which saves a request.
    """

    collection: str
    bands: tuple[str, ...]
    grid: Grid
    frames: tuple[Period, ...]
    composite: Composite = "median"
    cloudy_pct: int | None = 30
    fill_value: float = 0.0
    orbit: Literal["ASCENDING", "DESCENDING"] | None = None
    linear: bool = True
    require_iw: bool = True
    relax_iw: bool = True
    scenes: bool = True

    @property
    def key(self) -> str:
        """A digest of everything above: the cache and sharing key."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def pixels(self) -> int:
        """Frames x bands x rows x columns."""
        return len(self.frames) * len(self.bands) * self.grid.height * self.grid.width


@dataclass(frozen=True)
class Acquisition:
    """One overpass that went into a frame: its id at the provider, its time and the frame's index."""

    id: str
    time: str
    frame: int


@dataclass(frozen=True, eq=False)
class Chip:
    """Imagery of one place.

    Attributes:
        data: float32 ``[T, C, H, W]`` in the sensor's own units, row 0 north.
        valid: bool ``[T, H, W]``, False where a pixel had no band at all; None when every pixel is there. A single
            band that is missing holds the fill value.
        grid: where the pixels are.
        bands: names of the C axis.
        frames: the period behind each T.
        empty_frames: indices of frames without any acquisition (their pixels are fill).
        acquisitions: what was seen, in time order.
        provider, collection: where it came from.
        facts: more to report (``s1_iw_relaxed``, requests, retries, ...).
    """

    data: NDArray[np.float32]
    grid: Grid
    bands: tuple[str, ...]
    frames: tuple[Period, ...]
    provider: str
    collection: str
    valid: NDArray[np.bool_] | None = None
    empty_frames: tuple[int, ...] = ()
    acquisitions: tuple[Acquisition, ...] = ()
    facts: tuple[tuple[str, str | int | float | bool], ...] = ()

    def take(self, kept: Sequence[int]) -> Chip:
        """The chip of some of its frames."""
        place = {frame: index for index, frame in enumerate(kept)}
        return replace(
            self,
            data=self.data[list(kept)],
            valid=None if self.valid is None else self.valid[list(kept)],
            frames=tuple(self.frames[frame] for frame in kept),
            empty_frames=tuple(place[frame] for frame in self.empty_frames if frame in place),
            acquisitions=tuple(replace(a, frame=place[a.frame]) for a in self.acquisitions if a.frame in place),
        )

    def select(self, bands: tuple[str, ...]) -> Chip:
        """The chip of some of its bands, in this order; itself where they are its own."""
        if bands == self.bands:
            return self
        return replace(self, data=self.data[:, [self.bands.index(band) for band in bands]], bands=bands)

    def __post_init__(self) -> None:
        expected = (len(self.frames), len(self.bands), self.grid.height, self.grid.width)
        if self.data.shape != expected or self.data.dtype != np.float32:
            msg = f"a chip is float32 {expected} [T, C, H, W], not {self.data.dtype} {self.data.shape}"
            raise ValueError(msg)
        if self.valid is not None and self.valid.shape != (expected[0], *expected[2:]):
            msg = f"a chip's mask is [T, H, W], not {self.valid.shape}"
            raise ValueError(msg)
