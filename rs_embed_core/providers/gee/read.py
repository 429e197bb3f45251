"""Stage fetch, Earth Engine: one collection read into a chip: pixels and scene list asked for at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.calls import Asking, Tally, Turnstile, in_parallel
from rs_embed_core.providers.gee import graph
from rs_embed_core.providers.gee.collections import bands_of, collection_of, conditions_of, family_of, is_sentinel_1
from rs_embed_core.providers.gee.decode import decode, field_names, fill
from rs_embed_core.providers.gee.errors import TOO_LARGE, judge
from rs_embed_core.providers.gee.scenes import Scenes, no_imagery, parse_counts, parse_scenes
from rs_embed_core.providers.gee.tiles import Tile, tiles_of

_THREADS = 32  # of one read, so that the tiles of one large place fill a quota


@dataclass(frozen=True)
class Reader:
    """Reads plans through an initialised client.

    Attributes:
        gate: what every request passes.
        tally: what they cost.
        workload_tag: under which their cost is listed.
    """

    gate: Turnstile
    tally: Tally
    workload_tag: str

    def read(self, plan: FetchPlan) -> Chip:
        """One chip.

        Raises:
            NoImagery: no frame has a scene.
            ProviderError: with the finer class that says what went wrong.
        """
        data, scenes = self._both(plan)
        relaxed = _may_relax(plan) and scenes is not None and not scenes.acquisitions
        if relaxed:
            plan = replace(plan, require_iw=False)
            data, scenes = self._both(plan)
        if scenes is not None and not scenes.acquisitions:
            raise no_imagery(plan, self._counts(plan))
        valid = fill(data, plan.fill_value)
        return Chip(
            _as_named(plan, data),
            plan.grid,
            plan.bands,
            plan.frames,
            provider="gee",
            collection=collection_of(plan),
            valid=valid,
            empty_frames=scenes.empty if scenes else (),
            acquisitions=scenes.acquisitions if scenes else (),
            facts=_facts(plan, scenes, relaxed=relaxed),
        )

    def _both(self, plan: FetchPlan) -> tuple[NDArray[np.float32], Scenes | None]:
        """Pixels ``[T, C, H, W]`` of the native bands, and the scene list where it is wanted."""
        bands = graph.native_bands(plan)
        data = np.empty((len(plan.frames), len(bands), plan.grid.height, plan.grid.width), np.float32)
        tiles = tiles_of(plan.grid, len(plan.frames), len(bands))
        jobs: list[Callable[[], Scenes | None]] = [partial(self._tile, plan, tile, data) for tile in tiles]
        if plan.scenes or _may_relax(plan):
            jobs.append(partial(self._scenes, plan))
        # Threads of its own: in shared ones, bulk reads that wait at the gate would hold up an interactive read.
        with ThreadPoolExecutor(min(_THREADS, len(jobs))) as threads:
            *_, scenes = in_parallel(jobs, threads)
        return data, scenes

    def _tile(self, plan: FetchPlan, tile: Tile, out: NDArray[np.float32]) -> None:
        """Read one tile into its place; in halves where it is too much work for one request."""
        try:
            self._pixels(plan, tile, out[tile.place])
        except ProviderError as error:
            halves = tile.halves() if error.code == TOO_LARGE else None
            if halves is None:
                raise
        else:
            return
        for half in halves:
            self._tile(plan, half, out)

    def _pixels(self, plan: FetchPlan, tile: Tile, out: NDArray[np.float32]) -> None:
        import ee

        frames = plan.frames[slice(*tile.frames)]
        names = field_names(len(frames), graph.native_bands(plan))
        request = {
            "expression": graph.pixels(plan, frames),
            "fileFormat": "NPY",
            "grid": graph.pixel_grid(tile.grid(plan.grid)),
            "workloadTag": self.workload_tag,
        }

        def send() -> None:
            body = ee.data.computePixels(request)
            self.tally.add("bytes", len(body))
            decode(body, names, out)

        self._ask(plan, send)

    def _scenes(self, plan: FetchPlan) -> Scenes:
        import ee

        wanted = graph.scene_list(plan)
        return self._ask(plan, lambda: parse_scenes(ee.data.computeValue(wanted), len(plan.frames)))

    def _counts(self, plan: FetchPlan) -> list[int]:
        import ee

        wanted, stages = graph.scene_counts(plan), len(conditions_of(plan)) + 1
        return self._ask(plan, lambda: parse_counts(ee.data.computeValue(wanted), stages))

    def _ask[R](self, plan: FetchPlan, send: Callable[[], R]) -> R:
        about = f"{collection_of(plan)} ({', '.join(plan.bands)})"
        return Asking(partial(judge, about=about), self.gate, self.tally).ask(lambda _left_s: send())


def _may_relax(plan: FetchPlan) -> bool:
    """Whether an empty answer would be asked again without the IW filter: then the list is needed to know."""
    return is_sentinel_1(plan) and plan.require_iw and plan.relax_iw


def _as_named(plan: FetchPlan, data: NDArray[np.float32]) -> NDArray[np.float32]:
    """The channels of the plan's names, out of those of its native bands."""
    native, wanted = graph.native_bands(plan), bands_of(plan)
    return data if native == wanted else data[:, [native.index(band) for band in wanted]]


def _facts(
    plan: FetchPlan, scenes: Scenes | None, *, relaxed: bool
) -> tuple[tuple[str, str | int | float | bool], ...]:
    radar = (("s1_iw_applied", plan.require_iw), ("s1_iw_relaxed", relaxed)) if is_sentinel_1(plan) else ()
    tiles = len(tiles_of(plan.grid, len(plan.frames), len(graph.native_bands(plan))))
    units = family_of(collection_of(plan)).units
    return (("tiles", tiles), *(scenes.facts if scenes else ()), *radar, ("units", units))
