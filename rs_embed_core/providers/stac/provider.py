"""Stage fetch: the ``stac`` provider, Sentinel-2 from public catalogues with the values of Earth Engine.

Nearest pixel of every scene before the reduction, scenes with at most so much cloud, half-open days: on the same
files the pixels equal Earth Engine's bit for bit (stac.md). What differs remotely: which scenes a catalogue has and
how they were processed, and overviews where the scale is coarser than the files.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from rs_embed_core.chip import Acquisition, Chip, FetchPlan, Period
from rs_embed_core.errors import NoImagery
from rs_embed_core.geo import WEB_MERCATOR, Grid, to_lonlat
from rs_embed_core.providers.base import require_grid
from rs_embed_core.providers.calls import Asking, Tally, Turnstile, terms, under
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.providers.stac.catalogue import Catalogue, Region, StacApi, StaticCatalogue
from rs_embed_core.providers.stac.faults import judge
from rs_embed_core.providers.stac.frames import Drawing, Scenes
from rs_embed_core.providers.stac.item import Item, Reading
from rs_embed_core.providers.stac.presets import band_names, checked_collection
from rs_embed_core.providers.stac.reader import Reader
from rs_embed_core.providers.stac.settings import StacSettings
from rs_embed_core.providers.stac.signing import Signer
from rs_embed_core.providers.stac.versions import least_cloudy, within

_SEARCHES = Quota(at_once=4, per_second=4.0)  # no catalogue publishes a quota: a few a second are polite


class StacProvider:
    """Sentinel-2 L2A of a STAC catalogue.

    Args:
        settings: which catalogue and how.
        gate: what every read of a file passes; of its own, with ``at_once``, where none is given. Searches have
            another.
    """

    def __init__(self, settings: StacSettings | None = None, gate: Turnstile | None = None) -> None:
        self._settings = settings or StacSettings()
        self._catalogue = _catalogue(self._settings)
        signs_at = self._settings.signs_at
        self._reader = Reader(Signer(signs_at, self._settings.collection_id) if signs_at else None)
        # Two of them: in one, bulk reads that wait at the gate would hold up an interactive read. They last, unlike
        # Earth Engine's, because GDAL keeps its connections by thread.
        self._threads = {
            bulk: ThreadPoolExecutor(self._settings.at_once, thread_name_prefix="stac") for bulk in (False, True)
        }
        self._search_gate = Gate(_SEARCHES, name="the STAC catalogue")
        self._file_gate = gate or Gate(self._settings.quota, name="the store of STAC files")

    @property
    def name(self) -> str:
        """``stac``."""
        return "stac"

    def fetch(self, plan: FetchPlan) -> Chip:
        """Read one chip.

        Raises:
            NoImagery: no frame has a scene.
            ProviderError: ``unsupported_collection``, ``unknown_band`` or ``unsupported_grid``; or what went wrong
                with the service.
        """
        checked_collection(plan.collection)
        bands = band_names(plan.bands)
        deadline = min(terms().deadline, time.monotonic() + self._settings.timeout_s)
        with under(replace(terms(), deadline=deadline)):
            return self._chip(plan, bands, Tally())

    def _chip(self, plan: FetchPlan, bands: Sequence[str], tally: Tally) -> Chip:
        found = self._scenes(plan, Asking(judge, self._search_gate, tally))
        scenes = [least_cloudy(items, self._settings.max_scenes) for items in found]
        if not any(scenes):
            raise _no_imagery(plan, self._settings)
        asking = Asking(judge, self._file_gate, tally)
        drawing = Drawing(self._reader, self._threads[terms().bulk], asking, self._settings.mask_clouds)
        data, valid = drawing.frames(plan, bands, scenes)
        return Chip(
            data,
            plan.grid,
            plan.bands,
            plan.frames,
            provider=self.name,
            collection=plan.collection,
            valid=None if valid.all() else valid,
            empty_frames=tuple(frame for frame, items in enumerate(scenes) if not items),
            acquisitions=_acquisitions(scenes),
            facts=(*tally.facts(), *self._facts(found, scenes)),
        )

    def _scenes(self, plan: FetchPlan, asking: Asking) -> list[list[Item]]:
        """The scenes of every frame."""
        span = Period(min(frame.start for frame in plan.frames), max(frame.end for frame in plan.frames))
        items = self._catalogue.search(_region(plan.grid), span, plan.cloudy_pct, asking)
        return [within(items, frame) for frame in plan.frames]

    def _facts(self, found: Scenes, used: Scenes) -> tuple[tuple[str, str | int | bool], ...]:
        settings = self._settings
        return (
            ("stac_catalogue", settings.path or settings.url or settings.names.url),
            ("stac_collection", settings.collection_id),
            ("stac_items", sum(map(len, used))),
            ("stac_items_left_out", sum(map(len, found)) - sum(map(len, used))),
            ("offset_rule", settings.names.offset),
            ("clouds_masked", settings.mask_clouds),
        )


def _catalogue(settings: StacSettings) -> Catalogue:
    reading = Reading(settings.names.assets, settings.names.offset)
    if settings.path is not None:
        return StaticCatalogue(settings.path, settings.collection_id, reading)
    return StacApi(settings.url or settings.names.url, settings.collection_id, reading)


def _region(grid: Grid) -> Region:
    """The degrees that a grid covers; its last pixel may reach a little beyond longitude 180.

    Raises:
        ProviderError: ``unsupported_grid``.
    """
    require_grid(grid, WEB_MERCATOR, "stac")
    a, _, c, _, e, f = grid.transform
    west, south = to_lonlat(c, f + e * grid.height)
    east, north = to_lonlat(c + a * grid.width, f)
    return max(-180.0, west), south, min(180.0, east), north


def _acquisitions(scenes: Scenes) -> tuple[Acquisition, ...]:
    seen = [(item.time, item.id, frame) for frame, items in enumerate(scenes) for item in items]
    return tuple(Acquisition(name, f"{when:%Y-%m-%dT%H:%M:%S}Z", frame) for when, name, frame in sorted(seen))


def _no_imagery(plan: FetchPlan, settings: StacSettings) -> NoImagery:
    windows = ", ".join(f"{period.start}..{period.end}" for period in plan.frames)
    clouds = "" if plan.cloudy_pct is None else f" with at most {plan.cloudy_pct} % cloud"
    lon, lat = plan.grid.centre
    return NoImagery(
        f"no images found: {settings.collection_id} has none{clouds} at {lon:.5f}, {lat:.5f} in {windows}.",
        hint="Ask for a longer window or a higher cloudy_pct; the catalogue may lack this place or year.",
        context={"collection": plan.collection, "windows": [period.to_dict() for period in plan.frames]},
    )
