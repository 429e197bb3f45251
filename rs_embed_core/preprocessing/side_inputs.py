"""Stage prepare: non-image inputs of a network: date, place, wavelengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rs_embed_core.chip import Period
from rs_embed_core.errors import InvalidInput
from rs_embed_core.sample import Array
from rs_embed_core.specs.request import OptionValue


@dataclass(frozen=True)
class Scene:
    """What is known about a sample besides its pixels.

    Attributes:
        lon, lat: centre in degrees.
        scale_m: pixel size asked of the provider, in metres.
    """

    bands: tuple[str, ...]
    frames: tuple[Period, ...]
    lon: float
    lat: float
    scale_m: float
    options: Mapping[str, OptionValue]


class SideInput(Protocol):
    """One named array that a network takes beside the image."""

    @property
    def name(self) -> str:
        """The argument's name in the network's forward."""

    def __call__(self, scene: Scene) -> Array:
        """The array, without a batch axis."""


@dataclass(frozen=True)
class Wavelengths:
    """Central wavelengths of the bands in micrometres: float32 ``[C]``."""

    name: str
    table: tuple[tuple[str, float], ...]

    def __call__(self, scene: Scene) -> Array:
        """The wavelengths in band order.

        Raises:
            InvalidInput: a band that the table does not have.
        """
        known = dict(self.table)
        if missing := [band for band in scene.bands if band not in known]:
            msg = f"no wavelength is known for {', '.join(missing)}."
            raise InvalidInput(msg, hint=f"Known bands are {', '.join(known)}.")
        return np.array([known[band] for band in scene.bands], np.float32)


@dataclass(frozen=True)
class Months:
    """Calendar month of the middle of each frame, 0..11: int64 ``[T]``; option ``month`` (1..12) forces one."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The months in frame order."""
        forced = scene.options.get("month", 0)
        if isinstance(forced, int) and forced > 0:
            return np.full(len(scene.frames), forced - 1, np.int64)
        return np.array([frame.middle.month - 1 for frame in scene.frames], np.int64)
