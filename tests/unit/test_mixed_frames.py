"""A batch of places that have different numbers of frames: each gets what it gets alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rs_embed_core import PointBuffer, TemporalSpec, configure, get_embedding, get_embeddings_batch, register_provider
from rs_embed_core.chip import Chip, FetchPlan
from tests.parity.golden import load_case
from tests.parity.published import SMALL, publish
from tests.unit.small_cards import registered

PLACES = [PointBuffer(lon, 10, 1000) for lon in (1, 2, 3, 1.5, 2.5, 3.5)]
WINDOW = TemporalSpec.range("2022-05-01", "2022-08-01")  # three frames


class Uneven:
    """As many different frames as the place's longitude says, rounded down."""

    name = "uneven"

    def fetch(self, read: FetchPlan) -> Chip:
        lon, _ = read.grid.centre
        kinds = np.minimum(np.arange(len(read.frames)), round(2 * lon) // 2 - 1)
        rows = np.arange(read.grid.height * read.grid.width, dtype=np.float32).reshape(read.grid.height, -1)
        bands = np.arange(len(read.bands), dtype=np.float32)[:, None, None]
        image = 500 + (7 * rows + 100 * bands + 1000 * lon) % 3000
        data = image + 200 * kinds[:, None, None, None].astype(np.float32)
        return Chip(data.astype(np.float32), read.grid, read.bands, read.frames, self.name, read.collection)


@pytest.fixture
def prithvi(tmp_path: Path) -> Iterator[None]:
    register_provider("uneven", Uneven())
    card = publish(load_case("prithvi", SMALL["prithvi"]), tmp_path)
    configure(checkpoints_root=tmp_path, offline=True)
    with registered(card):
        yield
    configure(offline=False)


@pytest.mark.usefixtures("prithvi")
def test_a_batch_mixes_frame_counts() -> None:
    together = get_embeddings_batch("prithvi", spatials=PLACES, temporal=WINDOW, backend="uneven", device="cpu")
    assert [one.meta["frames"] for one in together] == [
        {"requested": 3, "used": count, "distinct": count, "empty": 0} for count in (1, 2, 3, 1, 2, 3)
    ]
    for place, ours in zip(PLACES, together, strict=True):
        alone = get_embedding("prithvi", spatial=place, temporal=WINDOW, backend="uneven", device="cpu")
        np.testing.assert_allclose(ours.data, alone.data, rtol=0, atol=1e-5 * np.abs(alone.data).max())
