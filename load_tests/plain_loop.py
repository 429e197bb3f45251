"""The alternative that the service is compared with: forwards in a plain loop, nothing else.

    python -m load_tests.plain_loop MODEL VARIANT CHECKPOINTS_ROOT ROIS BATCH

Loads the model once, takes batches that are ready in memory, and prints ``{"wall_s": ...}`` of the forwards.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.encoder import Encoder
from rs_embed_core.fetch import fetch
from rs_embed_core.plan import plan, recipe
from rs_embed_core.prepare import prepare
from rs_embed_core.providers import get_provider
from rs_embed_core.registry import get_card
from rs_embed_core.sample import collate
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import PointBuffer
from rs_embed_core.specs.temporal import TemporalSpec


def main() -> None:
    """Measure and print."""
    model, variant, root, rois, size = (
        sys.argv[1],
        sys.argv[2],
        Path(sys.argv[3]),
        int(sys.argv[4]),
        int(sys.argv[5]),
    )
    ask = Ask(
        model=model,
        temporal=TemporalSpec.range("2022-06-01", "2022-09-01"),
        model_config=(("variant", variant),),
    )
    selection = recipe(ask).selection
    encoder = Encoder(
        get_card(model)[0],
        variant,
        checkpoints=Checkpoints(root, offline=True),
        device="cpu",
        cpu_threads=os.cpu_count(),
    )
    samples = []
    for i in range(size):
        resolved = plan(ask.at(PointBuffer(5.0 + 0.03 * i, 47.0, 1115.0)))
        samples += prepare(fetch(resolved, get_provider("synthetic")), resolved).samples
    batch = collate(samples)
    encoder.forward(batch, selection)
    started = time.perf_counter()
    for _ in range(rois // size):
        encoder.forward(batch, selection)
    print(json.dumps({"wall_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
