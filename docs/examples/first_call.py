"""The first call: one vector, then many as they come. Usage: first_call.py [URL]."""

from __future__ import annotations

import sys

from rs_embed_core import PointBuffer, TemporalSpec
from serve_app.client import EmbeddingClient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
summer = TemporalSpec.range("2022-06-01", "2022-09-01")

with EmbeddingClient(url) as client:
    zurich = client.get_embedding("mosaiks", spatial=PointBuffer(8.54, 47.37, 640), temporal=summer)
    print(zurich.data.shape, zurich.data[:4])
    print(zurich.meta["source"], zurich.meta["temporal"])

    places = [PointBuffer(8.0 + i / 50, 47.2, 640) for i in range(16)]
    for item in client.stream_embeddings("mosaiks", spatials=places, temporal=summer):
        print(item.index, item.error or item.embedding.data[:4])
