"""Filters. A property that an image lacks compares false, so its negation holds (earth_engine.md, 1.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import shapely

from tests.emulator.evaluate import Function
from tests.emulator.functions.geometry import DateRange
from tests.emulator.images import Image
from tests.emulator.scenes import Search

ANYTHING = Search()


@dataclass(frozen=True)
class Filter:
    """What an image must be like.

    Attributes:
        holds: whether it is.
        search: what an endless collection may leave out because of it.
    """

    holds: Callable[[Image], bool]
    search: Search = ANYTHING


def narrowed(filters: Sequence[Filter]) -> Search:
    """What all the filters together leave to be found."""
    searches = [item.search for item in filters]
    regions = [s.region for s in searches if s.region is not None]
    starts = [s.start for s in searches if s.start is not None]
    stops = [s.stop for s in searches if s.stop is not None]
    region = shapely.intersection_all(regions) if regions else None
    return Search(region, max(starts, default=None), min(stops, default=None))


def _compare(test: Callable[[object, object], bool]) -> Function:
    """A filter of the property on the left against the value on the right, or the reverse."""

    def make(
        leftField: str | None = None,
        rightValue: object = None,
        rightField: str | None = None,
        leftValue: object = None,
    ) -> Filter:
        def holds(image: Image) -> bool:
            left = leftValue if leftField is None else image.properties.get(leftField)
            right = rightValue if rightField is None else image.properties.get(rightField)
            return left is not None and right is not None and test(left, right)

        return Filter(holds)

    return make


def _ordered(test: Callable[[float, float], bool]) -> Callable[[object, object], bool]:
    """An order exists among numbers and among texts, not between them."""

    def holds(left: object, right: object) -> bool:
        numbers = all(isinstance(value, int | float) for value in (left, right))
        texts = all(isinstance(value, str) for value in (left, right))
        return (numbers or texts) and test(left, right)

    return holds


def _contains(left: object, right: object) -> bool:
    return isinstance(left, Sequence) and not isinstance(left, str) and right in left


def intersects(rightValue: shapely.Geometry, leftField: str = ".all", maxError: object = None) -> Filter:
    """Images whose footprint meets a region."""
    return Filter(
        lambda image: image.footprint is None or bool(shapely.intersects(image.footprint, rightValue)),
        Search(region=rightValue),
    )


def date_range_contains(leftValue: DateRange, rightField: str) -> Filter:
    """Images whose time lies in a range, its end excluded."""

    def holds(image: Image) -> bool:
        moment = image.properties.get(rightField)
        return isinstance(moment, int | float) and leftValue.start <= moment < leftValue.stop

    known = rightField == "system:time_start"
    return Filter(holds, Search(start=leftValue.start, stop=leftValue.stop) if known else ANYTHING)


def every(filters: Sequence[Filter]) -> Filter:
    """All of them."""
    return Filter(lambda image: all(item.holds(image) for item in filters), narrowed(filters))


def some(filters: Sequence[Filter]) -> Filter:
    """Any of them."""
    return Filter(lambda image: any(item.holds(image) for item in filters))


def inverted(filter: Filter) -> Filter:  # noqa: A002
    """Not this one."""
    return Filter(lambda image: not filter.holds(image))


FUNCTIONS: Mapping[str, Function] = {
    "Filter.and": every,
    "Filter.dateRangeContains": date_range_contains,
    "Filter.equals": _compare(lambda left, right: left == right),
    "Filter.greaterThan": _compare(_ordered(lambda left, right: left > right)),
    "Filter.intersects": intersects,
    "Filter.lessThan": _compare(_ordered(lambda left, right: left < right)),
    "Filter.listContains": _compare(_contains),
    "Filter.not": inverted,
    "Filter.or": some,
}
