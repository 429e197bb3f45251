"""An export of ten places in parts of four, and what is written of it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from rs_embed_core.specs.spatial import PointBuffer
from serve_app.export.ledger import Ledger, Made, Marker
from serve_app.export.parts import Part, partition
from serve_app.export.stages import Outcomes
from serve_app.export.store import Store
from serve_app.export.writer import Gathered, Writer
from serve_app.wire.rows import Row

ROIS = {i: PointBuffer(8 + 0.01 * i, 47, 100) for i in range(10)}
PARTS = partition(ROIS, 4)
WAY = {"model": "mosaiks", "imagery": {"scale_m": 10}}
META = {"model": "mosaiks", "variant": "gaussian", "modality": "s2", "temporal": {"start": "2022-01-01"}}


def made(way: Mapping[str, object] = WAY, parts: list[Part] = PARTS, size: int = 4) -> Made:
    return Made.of(way, parts, size)  # type: ignore[arg-type]


def read(store: Store, how: Made | None = None, parts: list[Part] = PARTS) -> Ledger:
    return Ledger.read(store, "m", how or made(), parts)


def good(index: int) -> Row:
    return Row(index, np.full(3, index, np.float32), json.dumps(META))


def write(store: Store, ledger: Ledger, part: Part, *rows: Row) -> Marker:
    gathered = Gathered(part, "m", {row.index for row in rows})
    gathered.add(Outcomes(part.number, "m", rows, device_s=0.5))
    return Writer(store, {"m": ledger}, ROIS).write(gathered)


def written(store: Store) -> Ledger:
    """All parts, as a run without a failure leaves them."""
    ledger = read(store)
    ledger.begin(store, made())
    for part in PARTS:
        write(store, ledger, part, *map(good, part.indices))
    return ledger
