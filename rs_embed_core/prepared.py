"""What stage prepare hands on: the samples of one ROI, and what assembling them needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from rs_embed_core.chip import Acquisition
from rs_embed_core.embedding import FrameCount, PrepInfo
from rs_embed_core.geo import Grid, Inset
from rs_embed_core.notice import Notice
from rs_embed_core.sample import Extent, Sample
from rs_embed_core.tiling import TileLayout


@dataclass(frozen=True)
class ChipInfo:
    """What is left of a chip once its pixels are samples; light enough to travel beside them.

    Attributes:
        grid: the pixels that the samples were cut from.
        layout: how the ROI was cut; None for one sample.
        tiles: index in ``layout`` of each sample.
        frames: of the model's time axis, as reported.
        extent: the part of ``grid`` that the token grid covers, where the chain chose it.
        inset: the ROI in fractions of the cells of one sample; None keeps all.
    """

    grid: Grid
    provider: str
    collection: str
    bands: tuple[str, ...]
    frames: FrameCount
    acquisitions: tuple[Acquisition, ...]
    facts: tuple[tuple[str, str | int | float | bool], ...]
    prep: PrepInfo
    layout: TileLayout | None
    tiles: tuple[int, ...]
    notices: tuple[Notice, ...]
    prepare_ms: float
    extent: Extent | None = None
    inset: Inset | None = None


@dataclass(frozen=True)
class Prepared:
    """The samples of one ROI and what assembling needs to know."""

    samples: tuple[Sample, ...]
    info: ChipInfo
