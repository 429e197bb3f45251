"""What is asked in this folder, and how an answer is compared with the library's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import httpx2
import numpy as np

from rs_embed_core import Embedding, PointBuffer, TemporalSpec, get_embeddings_batch
from serve_app.client import StreamItem
from serve_app.wire.codecs import JSON

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
POINT = {"lon": 11.5, "lat": 48.1, "buffer_m": 80}
ONE = {"model": "mosaiks", "spatial": POINT, "temporal": {"start": "2022-06-01", "end": "2022-09-01"}}
SMALL = {"image_size": 32, "temporal_mode": "single"}  # Galileo in a hurry
_TOLERANCE = 1e-5  # other neighbours in a forward may round otherwise


def places(count: int, *, buffer_m: float = 80) -> list[PointBuffer]:
    """Neighbours, none like the other."""
    return [PointBuffer(11.0 + 0.01 * i, 48.0, buffer_m) for i in range(count)]


def many(count: int, **fields: object) -> dict[str, object]:
    """A request for so many places."""
    spatials = [place.to_dict() for place in places(count)]
    return {"model": "mosaiks", "spatials": spatials, "temporal": SUMMER.to_dict(), **fields}


def post(url: str, body: object, accept: str = JSON, **headers: str) -> httpx2.Response:
    """POST /v1/embeddings."""
    headers = {"accept": accept, **headers}
    return httpx2.post(f"{url}/v1/embeddings", json=body, headers=headers, timeout=90)


def post_bytes(url: str, content: bytes, content_type: str = JSON) -> httpx2.Response:
    """The same with a body as it is."""
    headers = {"content-type": content_type}
    return httpx2.post(f"{url}/v1/embeddings", content=content, headers=headers, timeout=90)


def assert_close(ours: Embedding, expected: Embedding) -> None:
    """The same numbers but for the rounding."""
    largest = np.abs(expected.data).max()
    np.testing.assert_allclose(ours.data, expected.data, rtol=0, atol=_TOLERANCE * largest)


def assert_each_once(
    items: Iterable[StreamItem], model: str, spatials: Sequence[PointBuffer], **fields: object
) -> None:
    """One embedding for every place, and the library's."""
    found = sorted(items, key=lambda item: item.index)
    assert [item.index for item in found] == list(range(len(spatials)))
    expected = get_embeddings_batch(model, spatials=spatials, temporal=SUMMER, device="cpu", **fields)
    for item, theirs in zip(found, expected, strict=True):
        assert item.error is None, item.error
        assert_close(item.embedding, theirs)


def facts(embedding: Embedding) -> dict[str, object]:
    """The meta as JSON has it, but for the timings."""
    meta = json.loads(json.dumps(embedding.meta))
    assert meta.pop("timings_ms")
    return meta
