"""Stage fetch, STAC: of several versions of one scene the newest, and which scenes a read wants."""

from __future__ import annotations

from collections.abc import Iterable

from rs_embed_core.chip import Period
from rs_embed_core.providers.stac.item import Item


def newest(items: Iterable[Item]) -> list[Item]:
    """The items without older versions of the same, by time.

    Earth Engine has each scene once; catalogues keep what was reprocessed. Of one datatake over one tile the
    latest processing baseline counts. A tile may lie in two parts of a datatake, which are no versions of each
    other: those stay, each in its latest version.
    """
    baselines: dict[tuple[str, ...], str] = {}
    kept = list(items)
    for item in kept:
        baselines[item.take] = max(baselines.get(item.take, ""), item.version[0])
    latest: dict[tuple[tuple[str, ...], str], Item] = {}
    for item in kept:
        key = (item.take, item.strip)
        if item.version[0] == baselines[item.take] and (
            key not in latest or (item.version, item.id) > (latest[key].version, latest[key].id)
        ):
            latest[key] = item
    return sorted(latest.values(), key=lambda item: (item.time, item.id))


def within(items: Iterable[Item], period: Period) -> list[Item]:
    """The items of a half-open period of days, UTC."""
    return [item for item in items if period.start <= item.time.date() < period.end]


def clear(items: Iterable[Item], cloudy_pct: int | None) -> list[Item]:
    """The items with at most so much cloud; one that does not say passes, as it does in Earth Engine."""
    return [item for item in items if cloudy_pct is None or item.cloud is None or item.cloud <= cloudy_pct]


def least_cloudy(items: list[Item], most: int | None) -> list[Item]:
    """At most so many items, the least cloudy and then the newest, by time."""
    if most is None or len(items) <= most:
        return items
    by_cloud = sorted(items, key=lambda item: (101.0 if item.cloud is None else item.cloud, -item.time.timestamp()))
    return sorted(by_cloud[:most], key=lambda item: (item.time, item.id))
