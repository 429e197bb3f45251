"""Inside the service's own Ray cluster: the same calls over a Serve handle, without HTTP.

Usage: ray job submit -- python ray_job.py [APPLICATION], where Ray knows its address; elsewhere first set
RAY_ADDRESS to the one that rs-embed serve prints (without it Ray would take any cluster of the machine).
"""

from __future__ import annotations

import sys

import ray

from rs_embed_core import PointBuffer, TemporalSpec
from serve_app.client import EmbeddingClient

application = sys.argv[1] if len(sys.argv) > 1 else "rs-embed"
summer = TemporalSpec.range("2022-06-01", "2022-09-01")

ray.init(address="auto", log_to_driver=False)
with EmbeddingClient.from_handle(application) as client:
    places = [PointBuffer(8.0 + i / 50, 47.2, 640) for i in range(16)]
    results = client.get_embeddings_batch("mosaiks", spatials=places, temporal=summer)
print(len(results), "embeddings of", results[0].data.shape[0], "values")
