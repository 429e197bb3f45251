"""Stage fetch, STAC: ``Catalogue``, which scenes there are: a STAC API, or a static catalogue of files.

Both answer with the same rule: the footprint meets the region, the day lies in the period, of several versions of a
scene the newest, and of those what has at most so much cloud. (A cloud filter at the service would bring back an
older, clearer version.)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rs_embed_core.chip import Period
from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.calls import Asking, too_late
from rs_embed_core.providers.stac.faults import FileFailed, RequestFailed
from rs_embed_core.providers.stac.http import get, is_remote
from rs_embed_core.providers.stac.item import Document, Item, Reading
from rs_embed_core.providers.stac.kept import Kept
from rs_embed_core.providers.stac.versions import clear, newest, within

if TYPE_CHECKING:
    from shapely import STRtree

type Region = tuple[float, float, float, float]
"""West, south, east, north in degrees."""

_CELL_DEG = 0.25  # searches are widened to cells of this size, so that neighbours share them
_ITEMS = 20_000  # kept of all searches together: some 200 MB
_FRESH_S = 600.0
_PAGE = 100  # an item takes 30 kB
_PAGE_S = 30.0


class Catalogue(Protocol):
    """Where scenes are looked up; threads may share one."""

    def search(self, region: Region, period: Period, cloudy_pct: int | None, asking: Asking) -> list[Item]:
        """The scenes of a place and period, by time.

        Raises:
            ProviderError: the catalogue could not be read.
        """


class StacApi:
    """A STAC API, asked through its ``/search``; answers are kept for ten minutes.

    Args:
        url: of the API.
        collection: which of its collections.
        reading: how its items are read.
        room: items kept of all answers together; an answer counts as one more, so that empty ones do not pile up.
    """

    def __init__(self, url: str, collection: str, reading: Reading, *, room: int = _ITEMS) -> None:
        self._url = f"{url.rstrip('/')}/search"
        self._collection = collection
        self._reading = reading
        self._found: Kept[tuple[Region, Period, float], list[Item]] = Kept(room, lambda items: 1 + len(items))

    def search(self, region: Region, period: Period, cloudy_pct: int | None, asking: Asking) -> list[Item]:
        """See ``Catalogue.search``."""
        cell, now = _cell(region), time.monotonic() // _FRESH_S
        items = self._found.get((cell, period, now), lambda: asking.ask(lambda left: self._ask(cell, period, left)))
        return clear(_meeting(items, region), cloudy_pct)

    def _ask(self, cell: Region, period: Period, left_s: float) -> list[Item]:
        documents = [document for page in self._pages(cell, period, left_s) for document in page["features"]]
        return newest(within((self._reading.item(document, self._url) for document in documents), period))

    def _pages(self, cell: Region, period: Period, left_s: float) -> Iterator[Document]:
        from pystac_client import ItemSearch
        from pystac_client.exceptions import APIError
        from pystac_client.stac_api_io import StacApiIO

        until = time.monotonic() + left_s
        client = StacApiIO(timeout=min(_PAGE_S, left_s), max_retries=None)
        search = ItemSearch(
            self._url,
            stac_io=client,
            limit=_PAGE,
            collections=[self._collection],
            bbox=cell,
            datetime=f"{period.start}T00:00:00Z/{period.end}T00:00:00Z",  # closed; `within` makes it half-open
        )
        try:
            for page in search.pages_as_dicts():
                yield page
                client.timeout = min(_PAGE_S, until - time.monotonic())
                if client.timeout <= 0:
                    raise too_late(f"searching {self._url}")
        except APIError as error:
            status = vars(error).get("status_code")  # set only if there was an answer
            text = f"HTTP status {status}" if status else "timed out" if "timed out" in str(error) else "no answer"
            raise RequestFailed(self._url, text, status=status) from error
        except ValueError as error:
            raise RequestFailed(self._url, "the answer is not whole") from error
        finally:
            client.session.close()


class StaticCatalogue:
    """A catalogue of files, read once: a collection or catalogue with its items, or one file with all of them.

    Args:
        path: file or URL of ``collection.json``, ``catalog.json`` or ``items.json``.
        collection: which items count; those that name no collection do.
        reading: how its items are read.
    """

    def __init__(self, path: str, collection: str, reading: Reading) -> None:
        self._path = path if is_remote(path) else str(Path(path).resolve())
        self._collection = collection
        self._reading = reading
        self._index: Kept[str, tuple[STRtree, list[Item]]] = Kept(1, lambda _: 1)

    def search(self, region: Region, period: Period, cloudy_pct: int | None, asking: Asking) -> list[Item]:
        """See ``Catalogue.search``."""
        from shapely.geometry import box

        tree, items = self._index.get(self._path, lambda: asking.ask(self._read))
        hits = tree.query(box(*region), predicate="intersects")
        return clear(within((items[hit] for hit in sorted(hits)), period), cloudy_pct)

    def _read(self, left_s: float) -> tuple[STRtree, list[Item]]:
        from shapely import STRtree

        documents = list(_documents(self._path, left_s))
        wanted = [it for it in documents if it[0].get("collection") in (None, self._collection)]
        if documents and not wanted:
            known = sorted({str(document.get("collection")) for document, _ in documents})
            msg = f"the catalogue {self._path} has no items of the collection {self._collection!r}."
            hint = f"Set collection to one of {', '.join(known)}."
            raise ProviderError(msg, code="unknown_collection", hint=hint, retryable=False)
        items = newest(self._reading.item(document, base) for document, base in wanted)
        return STRtree([item.footprint for item in items]), items


def _documents(path: str, left_s: float) -> Iterator[tuple[Document, str]]:
    """The items of a static catalogue, each with the address that its hrefs are relative to."""
    from pystac.utils import make_absolute_href

    until = time.monotonic() + left_s
    pending = [path]
    while pending:
        href = pending.pop()
        document = _document(href, until - time.monotonic())
        match document.get("type"):
            case "FeatureCollection":
                yield from ((item, href) for item in document["features"])
            case "Feature":
                yield document, href
            case "Catalog" | "Collection":
                links = [link["href"] for link in document["links"] if link["rel"] in ("item", "child")]
                pending += [make_absolute_href(link, href, start_is_dir=False) for link in links]
            case other:
                raise FileFailed(f"{href} has the type {other!r}, which is no STAC catalogue, collection or item")


def _document(href: str, left_s: float) -> Document:
    if left_s <= 0.0:
        raise too_late(f"reading the catalogue {href}")
    try:
        content = get(href, left_s) if is_remote(href) else Path(href).read_bytes()
        return dict(json.loads(content))
    except OSError as error:
        raise FileFailed(f"{href} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError) as error:
        raise FileFailed(f"{href} is not a JSON object") from error


def _meeting(items: list[Item], region: Region) -> list[Item]:
    from shapely.geometry import box

    area = box(*region)
    return [item for item in items if item.footprint.intersects(area)]


def _cell(region: Region) -> Region:
    """The region widened to whole cells."""
    west, south, east, north = region
    return (
        max(-180.0, math.floor(west / _CELL_DEG) * _CELL_DEG),
        max(-90.0, math.floor(south / _CELL_DEG) * _CELL_DEG),
        min(180.0, math.ceil(east / _CELL_DEG) * _CELL_DEG),
        min(90.0, math.ceil(north / _CELL_DEG) * _CELL_DEG),
    )
