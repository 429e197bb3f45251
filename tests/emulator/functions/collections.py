"""Image collections: loaded lazily, so that the filters narrow what an endless one makes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rs_embed_core.errors import JSONValue
from tests.emulator import reduce
from tests.emulator.evaluate import Function
from tests.emulator.functions.filters import Filter, narrowed
from tests.emulator.images import Image, of_scene
from tests.emulator.limits import Refused
from tests.emulator.scenes import Catalogue, Collection

_INDEX = "system:index"


@dataclass(frozen=True)
class Query:
    """A stored collection and what its images must be like."""

    stored: Collection
    filters: tuple[Filter, ...] = ()


type Images = Query | Sequence[Image]


def listed(collection: Images) -> Sequence[Image]:
    """The images themselves."""
    if not isinstance(collection, Query):
        return collection
    found = [of_scene(scene) for scene in collection.stored.scenes(narrowed(collection.filters))]
    return [image for image in found if all(item.holds(image) for item in collection.filters)]


def loaders(catalogue: Catalogue) -> Mapping[str, Function]:
    """The functions that read a catalogue."""

    def load_collection(id: str, version: object = None) -> Query:  # noqa: A002
        stored = catalogue.collection(id)
        if stored is None:
            raise _missing("ImageCollection.load: ImageCollection", id)
        return Query(stored)

    def load_image(id: str, version: object = None) -> Image:  # noqa: A002
        scene = catalogue.scene(id)
        if scene is None:
            raise _missing("Image.load: Image", id)
        return of_scene(scene)

    return {"ImageCollection.load": load_collection, "Image.load": load_image}


def _missing(what: str, identity: str) -> Refused:
    return Refused(f"{what} asset '{identity}' not found (does not exist or caller does not have access).")


def filtered(collection: Images, filter: Filter) -> Images:  # noqa: A002
    """Those that the filter lets through."""
    if isinstance(collection, Query):
        return replace(collection, filters=(*collection.filters, filter))
    return [image for image in collection if filter.holds(image)]


def mapped(collection: Images, baseAlgorithm: Callable[[Image], Image], dropNulls: bool = False) -> Sequence[Image]:
    """Each changed by a function; its index and time stay with it."""
    changed = [_changed(image, baseAlgorithm) for image in listed(collection)]
    return [image for image in changed if image is not None] if dropNulls else changed


def _changed(image: Image, change: Callable[[Image], Image]) -> Image:
    try:
        result = change(image)
    except Refused as error:
        name = image.properties.get(_INDEX)
        raise Refused(f"Error in map(ID={name}):\n{error.message}", error.status) from error
    if not isinstance(result, Image):
        return result
    return replace(result, properties={**result.properties, _INDEX: image.properties.get(_INDEX)})


def from_images(images: Sequence[Image]) -> Sequence[Image]:
    """A collection of given images; those without an index are numbered."""
    return [replace(image, properties={_INDEX: str(number), **image.properties}) for number, image in enumerate(images)]


def merged(collection1: Images, collection2: Images) -> Sequence[Image]:
    """Both, the indices of the first behind ``1_``, of the second behind ``2_``."""
    return [
        replace(image, properties={**image.properties, _INDEX: f"{side}_{image.properties.get(_INDEX)}"})
        for side, collection in ((1, collection1), (2, collection2))
        for image in listed(collection)
    ]


def limited(
    collection: Images, limit: int | None = None, key: str | None = None, ascending: bool = True
) -> Sequence[Image]:
    """The first so many, sorted by a property where one is named; images without it come last."""
    images = list(listed(collection))
    if key is not None:
        with_key = [image for image in images if image.properties.get(key) is not None]
        without = [image for image in images if image.properties.get(key) is None]
        images = [*sorted(with_key, key=lambda image: image.properties[key], reverse=not ascending), *without]
    return images if limit is None else images[: int(limit)]


def size(collection: Images) -> int:
    """How many there are."""
    return len(listed(collection))


def first(collection: Images) -> Image | None:
    """The first, or nothing."""
    return next(iter(listed(collection)), None)


def to_list(collection: Images, count: int, offset: int = 0) -> Sequence[Image]:
    """Some of them as a list."""
    return list(itertools.islice(listed(collection), int(offset), int(offset) + int(count)))


def values_of(collection: Images, property: str) -> list[JSONValue]:  # noqa: A002
    """A property of each that has it."""
    found = (image.properties.get(property) for image in listed(collection))
    return [value for value in found if value is not None]


def columns(collection: Images, reducer: int, selectors: Sequence[str]) -> Mapping[str, JSONValue]:
    """Rows of several properties, from images that have them all (``Reducer.toList`` only)."""
    if reducer != len(selectors):
        raise Refused(f"Collection.reduceColumns: The reducer needs {reducer} inputs, not {len(selectors)}.")
    rows = [[image.properties.get(name) for name in selectors] for image in listed(collection)]
    whole = [row for row in rows if None not in row]
    return {"list": [row[0] for row in whole] if len(selectors) == 1 else whole}


def to_bands(collection: Images) -> Image:
    """All bands of all images, each behind its image's index."""
    return reduce.side_by_side(
        [
            (image, tuple(f"{image.properties.get(_INDEX)}_{name}" for name in image.names))
            for image in listed(collection)
        ]
    )


def median(collection: Images) -> Image:
    """Per band and pixel over what is there, as double."""
    return reduce.reduced(listed(collection), reduce.median, np.dtype(np.float64))


def mosaic(collection: Images) -> Image:
    """The last on top."""
    return reduce.reduced(listed(collection), reduce.mosaic, None)


FUNCTIONS: Mapping[str, Function] = {
    "AggregateFeatureCollection.array": values_of,
    "Collection.filter": filtered,
    "Collection.first": first,
    "Collection.limit": limited,
    "Collection.map": mapped,
    "Collection.reduceColumns": columns,
    "Collection.size": size,
    "Collection.toList": to_list,
    "ImageCollection.fromImages": from_images,
    "ImageCollection.merge": merged,
    "ImageCollection.mosaic": mosaic,
    "ImageCollection.toBands": to_bands,
    "Reducer.toList": lambda tupleSize=1, numOptional=0: int(tupleSize),
    "reduce.median": median,
}
