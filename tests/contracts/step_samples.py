"""Small samples and scenes to try steps and side inputs on."""

from __future__ import annotations

import datetime as dt

import numpy as np

from rs_embed_core.chip import Period
from rs_embed_core.preprocessing.chain import Step
from rs_embed_core.preprocessing.side_inputs import (
    Scene,
)
from rs_embed_core.sample import Sample

BANDS = ("B4", "B3")


def sample_of(image: np.ndarray | None = None, **more: object) -> Sample:
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (2, 2, 20, 30)).astype(np.float32)
    return Sample({"image": image}, BANDS, **more)


def values_of(step: Step, *numbers: float) -> list[float]:
    """What a step makes of a row of pixels, the same in both bands."""
    image = np.array(numbers, np.float32)[None, None, None, :].repeat(2, axis=1)
    return step(sample_of(image)).image[0, 0, 0].tolist()


NAN = float("nan")


def scene_of(*frames: tuple[str, str], bands: tuple[str, ...] = BANDS, **options: int) -> Scene:
    periods = tuple(Period(dt.date.fromisoformat(a), dt.date.fromisoformat(b)) for a, b in frames)
    return Scene(bands, periods, (11.5, 48.1), 10.0, options)
