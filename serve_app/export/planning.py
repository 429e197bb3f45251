"""Stage plan of an export: as any request's, but one that is too large for a common read has a read of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rs_embed_core.errors import RoiTooLarge, UnknownProvider
from rs_embed_core.plan import Plan, backend_of, plan
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import Spatial
from serve_app.settings import ServiceSettings


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


def check_backends(settings: ServiceSettings, asks: Iterable[Ask]) -> None:
    """Refuse a provider that is not set up, before anything starts.

    Raises:
        UnknownProvider: it names those that are.
    """
    known = settings.providers.names
    for ask in asks:
        name = backend_of(ask, settings.providers.default)
        if name not in known:
            msg = f"there is no backend {name!r} here."
            raise UnknownProvider(msg, hint=f"Set it up under settings.providers; there is {', '.join(known)}.")
