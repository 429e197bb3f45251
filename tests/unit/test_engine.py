"""Batches of the library's own engine: how far it reads ahead, and who is named when a forward fails."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from torch.nn.modules.module import register_module_forward_pre_hook

from rs_embed_core import (
    InputPrepSpec,
    PointBuffer,
    SensorSpec,
    UserData,
    get_embeddings_batch,
    get_embeddings_batch_from_data,
    register_provider,
)
from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import ForwardError
from rs_embed_core.inputs import Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.providers.synthetic import SyntheticProvider
from rs_embed_core.registry import get_card
from tests.unit.small_cards import averages_card, registered

S2 = "COPERNICUS/S2_SR_HARMONIZED"


@dataclass
class Counting:
    """Synthetic imagery, and how many reads have begun."""

    name: str = "counting"
    begun: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, plan: FetchPlan) -> Chip:
        with self.lock:
            self.begun += 1
        return SyntheticProvider().fetch(plan)


def test_as_many_samples_are_read_ahead_as_a_batch_has_however_large_rois_are() -> None:
    provider = Counting()
    register_provider(provider.name, provider)
    begun: list[int] = []
    card = replace(averages_card(), variants={"gaussian": Variant(2, batch_size=16)})
    places = [PointBuffer(11 + i / 10, 48, 320) for i in range(24)]  # of four tiles each
    looking = register_module_forward_pre_hook(lambda *_: begun.append(provider.begun))
    how = {"sensor": SensorSpec(S2, ("B4", "B8")), "input_prep": InputPrepSpec.tile(tile_size=32), "device": "cpu"}
    with registered(card), looking:
        found = get_embeddings_batch("mosaiks", spatials=places, backend=provider.name, **how)
    assert len(found) == 24
    assert len(begun) == 24 * 4 // 16
    assert all(reads <= 12 + 4 * forwards for forwards, reads in enumerate(begun)), begun


@pytest.mark.parametrize("position", [0, 3])
def test_the_one_array_that_a_network_fails_on_is_named(position: int) -> None:
    card, _ = get_card("mosaiks")
    raw = replace(card, inputs=(replace(card.inputs[0], chain=Chain(FirstFrame())),))
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    values[position] = 1e38  # its convolutions overflow
    data = [UserData(np.full((10, 16, 16), value, np.float32), S2) for value in values]
    with registered(raw), pytest.raises(ForwardError, match="not finite") as caught:
        get_embeddings_batch_from_data("mosaiks", data, device="cpu")
    assert caught.value.context["index"] == position
