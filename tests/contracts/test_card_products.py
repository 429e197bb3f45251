"""True of every precomputed product."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core import (
    TemporalSpec,
    UserData,
    describe_model,
    get_embedding_from_data,
    list_models_for_data,
)
from rs_embed_core.errors import InvalidRequest, Unsupported
from rs_embed_core.plan import recipe
from rs_embed_core.preprocessing.time import CalendarYear
from rs_embed_core.providers import provider_names
from rs_embed_core.specs.request import Ask
from tests.contracts.cards import every_product


@every_product
def test_a_product_has_a_provider_and_no_network(card):
    assert card.network is None
    assert card.product.provider in provider_names()
    assert not any(variant.weights for variant in card.variants.values())
    page = describe_model(card.id)
    assert (page["type"], page["provider"]) == ("precomputed", card.product.provider)
    for entry in card.inputs:
        assert len(entry.bands) == card.variants[card.default_variant].dim
        assert isinstance(entry.time, CalendarYear)


@every_product
def test_a_product_is_asked_for_whole_years(card):
    summer = recipe(Ask(card.id, temporal=TemporalSpec.range("2021-06-01", "2022-03-01")))
    assert summer.frames == recipe(Ask(card.id, temporal=TemporalSpec.year(2021))).frames
    assert [notice.code for notice in summer.notices] == ["whole_year"]
    if card.default_window is None:
        with pytest.raises(InvalidRequest, match="needs a year"):
            recipe(Ask(card.id))


@every_product
def test_a_product_takes_no_pixels_of_the_caller(card):
    with pytest.raises(Unsupported, match="precomputed"):
        get_embedding_from_data(card.id, UserData(np.zeros((1, 4, 4), np.float32), "C"))
    assert card.id not in list_models_for_data(card.inputs[0].collection)
