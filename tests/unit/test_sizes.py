from __future__ import annotations

import pytest

from rs_embed_core import BBox, PointBuffer, TemporalSpec
from rs_embed_core.card import ModelCard
from rs_embed_core.fetch import fetch
from rs_embed_core.plan import Plan, plan
from rs_embed_core.prepare import prepare
from rs_embed_core.providers import get_provider
from rs_embed_core.sizes import held_bytes, samples_of
from rs_embed_core.specs.request import ask_from_dict
from tests.contracts.cards import every_network

YEAR = TemporalSpec.year(2022).to_dict()
SMALL, LARGE = PointBuffer(0, 0, 320), PointBuffer(0, 0, 1500)  # 64 x 64 and 300 x 300 pixels of 10 m


def planned(model: str, spatial: PointBuffer | BBox = SMALL, **ask: object) -> Plan:
    return plan(ask_from_dict({"model": model, "temporal": YEAR, **ask}).at(spatial))


@every_network
@pytest.mark.parametrize("prep", ["resize", "tile"])
@pytest.mark.parametrize("spatial", [SMALL, LARGE], ids=["small", "large"])
def test_samples_are_hardly_larger_than_said(card: ModelCard, prep: str, spatial: PointBuffer) -> None:
    asked = planned(card.id, spatial, input_prep=prep)
    samples = prepare(fetch(asked, get_provider("synthetic")), asked).samples
    held = sum(sample.image.nbytes for sample in samples)
    assert len(samples) == samples_of(asked)
    assert held <= 1.05 * held_bytes(asked)  # what is filled up to whole patches is not counted


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        (planned("clay"), 10 * 256**2),  # the sample: the chip has 64 x 64 pixels
        (planned("clay", output="grid"), 1024 * 32**2),  # the result
        (planned("clay", PointBuffer(0, 0, 3200)), 10 * 640**2),  # the chip
        (planned("clay", LARGE, input_prep="tile"), 4 * 10 * 256**2),
        (planned("mosaiks", output="grid"), 10 * 64**2),
        (planned("presto", output="grid"), 128 * 64**2),  # a vector for each pixel, of 12 months of 10 bands
        (planned("gse", output="grid"), 64 * 64**2),  # what is read is the result
    ],
)
def test_a_roi_counts_with_what_is_largest_of_it(asked: Plan, values: int) -> None:
    assert held_bytes(asked) == 4 * values
