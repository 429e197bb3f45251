"""Stage stream: whether all grids of a job will have one shape. Needs the cards; the client does without."""

from __future__ import annotations

from collections.abc import Mapping

from rs_embed_core.errors import UnknownModel
from rs_embed_core.registry import get_card
from rs_embed_core.specs.spatial import PointBuffer
from serve_app.wire.rows import Job


def is_uniform(job: Job) -> bool:
    """Whether every result has the same shape, so that a stream of grids can be one tensor column.

    True for one ROI and for vectors; for grids of many ROIs if they are all squares (point buffers) that are
    resized to the model's one input size.
    """
    if len(job.spatials) == 1 or job.ask.output.mode == "pooled":
        return True
    if job.ask.input_prep.mode != "resize" or not all(map(_is_square, job.spatials)):
        return False
    try:
        card, _ = get_card(job.ask.model)
        options = card.defaults | dict(job.ask.model_config)
        return all(entry.shape_for(options).fit not in ("native", "whole", "snap") for entry in card.inputs)
    except (UnknownModel, TypeError, ValueError):  # or options that the router will refuse
        return False


def _is_square(spatial: object) -> bool:
    return isinstance(spatial, PointBuffer) or (isinstance(spatial, Mapping) and "buffer_m" in spatial)
