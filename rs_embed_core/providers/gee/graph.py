"""Stage fetch, Earth Engine: a plan to the expressions that the service evaluates. Pure: nothing is sent.

``ee`` must be initialised: its methods come from the service's own list of functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.geo import Grid, to_lonlat
from rs_embed_core.providers.gee.collections import Condition, bands_of, collection_of, conditions_of, family_of
from rs_embed_core.providers.gee.decode import MISSING
from rs_embed_core.specs.spatial import LONLAT

if TYPE_CHECKING:
    import ee

_TIME, _ID = "system:time_start", "system:index"


def native_bands(plan: FetchPlan) -> tuple[str, ...]:
    """The bands to ask for, each once (two names of a plan may mean one band)."""
    return tuple(dict.fromkeys(bands_of(plan)))


def pixels(plan: FetchPlan, frames: tuple[Period, ...]) -> ee.Image:
    """One image of all frames and bands, missing pixels as ``MISSING``; band names are ``0_B4``, ``0_B3``, ..."""
    import ee

    stack = ee.ImageCollection([_composite(plan, period) for period in frames]).toBands()
    # Float first, lest the value be cut to the range of an unsigned band; and last, lest it widen the type.
    # False: outside every footprint too.
    image: ee.Image = stack.toFloat().unmask(MISSING, False).toFloat()
    return image


def pixel_grid(grid: Grid) -> dict[str, object]:
    """The ``grid`` parameter of ``computePixels``."""
    a, b, c, d, e, f = grid.transform
    return {
        "dimensions": {"width": grid.width, "height": grid.height},
        "affineTransform": {"scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f},
        "crsCode": grid.crs,
    }


def scene_list(plan: FetchPlan) -> ee.List:
    """Per frame the lists of ids, times (ms since 1970) and cloud percentages of its scenes."""
    import ee

    cloud = family_of(plan.collection).cloud
    properties = (_ID, _TIME, *((cloud,) if cloud else ()))
    frames = (_scenes(plan, period, conditions_of(plan)) for period in plan.frames)
    return ee.List([[frame.aggregate_array(name) for name in properties] for frame in frames])


def scene_counts(plan: FetchPlan) -> ee.List:
    """Per frame how many scenes are left after place and time, and after each further condition."""
    import ee

    conditions = conditions_of(plan)
    stages = [conditions[:count] for count in range(len(conditions) + 1)]
    return ee.List([[_scenes(plan, period, stage).size() for stage in stages] for period in plan.frames])


def _composite(plan: FetchPlan, period: Period) -> ee.Image:
    """The image of one frame, defined (all missing) also where the frame has no scene."""
    import ee

    bands = list(native_bands(plan))
    # An empty collection has no bands to reduce; this one has them all, masked, and changes no result.
    nothing = ee.ImageCollection([ee.Image.constant([0] * len(bands)).rename(bands).updateMask(0)])
    scenes = _scenes(plan, period, conditions_of(plan))
    image: ee.Image
    if plan.composite == "mosaic":
        image = nothing.merge(scenes.sort(_TIME).select(bands)).mosaic()  # the last, so the newest, wins
    else:
        image = nothing.merge(scenes.select(bands)).median()
    return image


def _scenes(plan: FetchPlan, period: Period, conditions: tuple[Condition, ...]) -> ee.ImageCollection:
    import ee

    scenes: ee.ImageCollection = ee.ImageCollection(collection_of(plan)).filterBounds(_footprint(plan.grid))
    scenes = scenes.filterDate(period.start.isoformat(), period.end.isoformat())
    for condition in conditions:
        scenes = scenes.filter(_filter(condition))
    return scenes


def _filter(condition: Condition) -> ee.Filter:
    import ee

    tests = {"lte": ee.Filter.lte, "eq": ee.Filter.eq, "contains": ee.Filter.listContains}
    made: ee.Filter = tests[condition.test](condition.name, condition.value)
    return made


def _footprint(grid: Grid) -> ee.Geometry:
    """The grid's rectangle in degrees: sides of a Mercator grid are parallels and meridians."""
    import ee

    a, _, west, _, e, north = grid.transform
    minlon, maxlat = to_lonlat(west, north)
    maxlon, minlat = to_lonlat(west + a * grid.width, north + e * grid.height)
    rectangle: ee.Geometry = ee.Geometry.Rectangle([minlon, minlat, maxlon, maxlat], LONLAT, False)
    return rectangle
