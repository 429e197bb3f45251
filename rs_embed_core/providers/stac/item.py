"""Stage fetch, STAC: ``Item``, one scene with its files, read from STAC JSON."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.stac.presets import BASELINE, CLASSES, CLOUD, OffsetRule, offset_of

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

type Document = dict[str, Any]
"""STAC JSON (Any: its values are of every kind)."""

type Transform = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f), as ``Grid.transform``."""

_STRIP = re.compile(r"_S(\d{8}T\d{6})_")  # in a datastrip's id: when its sensing began


@dataclass(frozen=True)
class Asset:
    """One file with one band.

    Attributes:
        href: absolute.
        offset: what its numbers are too high by.
        crs, transform, shape: where its pixels are, if the item says so. A file that by these does not reach a grid
            is not opened; of one that is opened, the header has the last word.
    """

    href: str
    offset: int
    crs: str | None = None
    transform: Transform | None = None
    shape: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Item:
    """One scene.

    Attributes:
        id: at the catalogue.
        time: of sensing, UTC.
        cloud: per cent of the tile; None if the item does not say.
        footprint: longitudes and latitudes that were seen.
        assets: files by Earth Engine band name.
        take: what was seen: platform, tile and datatake. Reprocessed versions share it.
        strip: which part of the datatake: a tile may lie in two.
        version: processing baseline and time of processing; later ones compare greater.
    """

    id: str
    time: dt.datetime
    cloud: float | None
    footprint: BaseGeometry
    assets: Mapping[str, Asset]
    take: tuple[str, ...]
    strip: str
    version: tuple[str, str]

    def asset(self, band: str) -> Asset:
        """The file of a band.

        Raises:
            ProviderError: the item has none.
        """
        if band not in self.assets:
            msg = f"STAC item {self.id!r} has no file for {band}; it has {sorted(self.assets)}."
            hint = "Ask for other bands, or check that the preset's names are those of the catalogue."
            raise ProviderError(msg, code="bad_item", hint=hint, retryable=False)
        return self.assets[band]


@dataclass(frozen=True)
class Reading:
    """How the items of a catalogue are read.

    Attributes:
        names: asset name of every Earth Engine band.
        offset: which scenes carry the offset.
    """

    names: Mapping[str, str]
    offset: OffsetRule

    def item(self, document: Document, base: str) -> Item:
        """The scene that an item's JSON describes.

        Args:
            document: the item.
            base: the address of the document; hrefs may be relative to it.

        Raises:
            ProviderError: ``bad_item``.
        """
        try:
            return self._item(document, base)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            msg = f"STAC item {document.get('id')!r} of {base} cannot be read: {type(error).__name__} {error}."
            hint = "It needs an id, a geometry, a datetime and assets with href."
            raise ProviderError(msg, code="bad_item", hint=hint, retryable=False) from error

    def _item(self, document: Document, base: str) -> Item:
        from shapely.geometry import shape

        name, properties = document["id"], document["properties"]
        baseline = properties.get(BASELINE)
        offset = offset_of(self.offset, baseline, name)
        time = _time(properties["datetime"] or properties["start_datetime"])
        assets = {
            band: _asset(document["assets"][key], properties, 0 if band == CLASSES else offset, base)
            for band, key in self.names.items()
            if key in document["assets"]
        }
        cloud = properties.get(CLOUD)
        made = properties.get("s2:generation_time") or properties.get("updated") or ""
        strip = _STRIP.search(properties.get("s2:datastrip_id") or "")
        return Item(
            id=name,
            time=time,
            cloud=None if cloud is None else float(cloud),
            footprint=shape(document["geometry"]),
            assets=assets,
            take=_take(name, time, properties),
            strip=strip[1] if strip else "",
            version=(baseline or "", made),
        )


def _time(text: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(text)
    return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)


def _take(name: str, time: dt.datetime, properties: Document) -> tuple[str, ...]:
    """Platform, tile and the datatake's start: the product's name has all three, else the properties."""
    product = str(properties.get("s2:product_uri") or "").split("_")
    if len(product) >= 6:  # S2B_MSIL2A_20220705T101559_N0400_R065_T32UPU_20220705T160000.SAFE
        return product[0], product[5], product[2]
    tile = properties.get("grid:code") or properties.get("s2:mgrs_tile")
    if tile is None:
        return (name,)  # nothing tells which items show the same, so each stands for itself
    return str(properties.get("platform")), str(tile), time.isoformat(timespec="seconds")


def _asset(asset: Document, properties: Document, offset: int, base: str) -> Asset:
    from pystac.utils import make_absolute_href

    code = _said("proj:code", asset, properties)
    epsg = _said("proj:epsg", asset, properties)
    transform, shape = _said("proj:transform", asset, properties), _said("proj:shape", asset, properties)
    return Asset(
        href=make_absolute_href(asset["href"], base, start_is_dir=False),
        offset=offset,
        crs=code or (f"EPSG:{epsg}" if epsg else None),
        transform=_transform(transform) if transform else None,
        shape=(int(shape[0]), int(shape[1])) if shape else None,
    )


def _said(key: str, asset: Document, properties: Document) -> Any:  # noqa: ANN401 - JSON
    """What the asset says, or else its item."""
    return asset.get(key, properties.get(key))


def _transform(numbers: list[float]) -> Transform:
    a, b, c, d, e, f = (float(number) for number in numbers[:6])  # 9 numbers are a whole matrix
    return a, b, c, d, e, f
