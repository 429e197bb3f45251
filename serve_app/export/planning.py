"""Stage plan of an export: as any request's, but one that is too large for a common read has a read of its own."""

from __future__ import annotations

from dataclasses import replace

from rs_embed_core.errors import RoiTooLarge
from rs_embed_core.plan import Plan, plan
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import Spatial


def plan_of(ask: Ask, roi: Spatial) -> Plan:
    """The plan of one ROI for one model; where the bands of the other models make it too large, without these.

    The numbers are the same either way, so it does not matter which models a job has.

    Raises:
        SpecError, ModelError: as ``plan``.
    """
    try:
        return plan(ask.at(roi))
    except RoiTooLarge:
        if not ask.beside:
            raise
        return plan(replace(ask, beside=()).at(roi))
