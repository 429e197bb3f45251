from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from ray.exceptions import ObjectLostError

from rs_embed_core import OutputSpec, PointBuffer, TemporalSpec
from rs_embed_core.card import ModelCard, Product, Selection
from rs_embed_core.fetch import fetch
from rs_embed_core.plan import plan
from rs_embed_core.providers.synthetic import SyntheticProvider
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Sample, collate
from rs_embed_core.specs.request import Ask
from serve_app.deployments.product_client import ProductClient
from serve_app.router import Deployed, PayloadLost, Router
from serve_app.settings import LimitSettings, ModelSettings, ProviderSettings
from serve_app.stream import stream
from serve_app.wire.blocks import Payload
from serve_app.wire.rows import Job, Row
from tests.unit.pipeline_fakes import LocalFetchers
from tests.unit.small_cards import registered

SELECTION = Selection("gse", "annual", "embedding", ())
YEAR = TemporalSpec.year(2022)
BANDS = ("B4", "B3", "B2")


def vectors(*rows: list[float]) -> Payload:
    return Payload((collate([Sample({"image": np.array(row, np.float32)}) for row in rows]),))


async def test_what_was_read_is_the_result() -> None:
    grids = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)  # [N, D, H, W]
    grids[0, :, 0, 0] = np.nan
    payloads = [vectors([1, 2, np.nan]), Payload((collate([Sample({"image": grid}) for grid in grids]),))]
    encoded = await ProductClient("gee").encode(payloads, SELECTION)
    (one,), (other,) = encoded.blocks
    (vector,) = one.tokens.unpack()
    np.testing.assert_array_equal(vector.data, np.array([1, 2, np.nan], np.float32))
    assert vector.cells == (1, 1)
    np.testing.assert_array_equal([tokens.data for tokens in other.tokens.unpack()], grids)
    assert other.tokens.cells == ((2, 3), (2, 3))
    assert (one.errors, other.errors) == ((), ())


async def test_pixels_are_not_copied() -> None:
    payload = vectors([1, 2], [3, 4])
    pixels = payload.batches[0].arrays["image"]
    pixels.flags.writeable = False  # as they come out of shared memory
    ((block,),) = (await ProductClient("gee").encode([payload], SELECTION)).blocks
    assert all(np.shares_memory(tokens.data, pixels) for tokens in block.tokens.unpack())


async def test_payloads_may_be_still_on_their_way() -> None:
    async def later(payload: Payload) -> Payload:
        await asyncio.sleep(0)
        return payload

    payloads = [later(vectors([1, 2])), vectors([3, 4], [5, 6])]
    encoded = await ProductClient("gee").encode(payloads, SELECTION)
    found = [[tokens.data.tolist() for tokens in batch.tokens.unpack()] for (batch,) in encoded.blocks]
    assert found == [[[1, 2]], [[3, 4], [5, 6]]]


async def test_a_payload_that_is_gone_must_be_read_again() -> None:
    async def gone() -> Payload:
        raise ObjectLostError("ab" * 14, None, "")

    with pytest.raises(PayloadLost):
        await ProductClient("gee").encode([gone()], SELECTION)


async def test_it_is_always_ready_and_no_process() -> None:
    client = ProductClient("gee")
    assert await client.status() == {
        "status": "ready",
        "replicas": 0,
        "message": "precomputed, read through gee",
    }
    assert await client.pid() is None


# --- in the pipeline ---------------------------------------------------------------------------------------


@pytest.fixture
def product() -> Iterator[ModelCard]:
    """The card of gse over imagery that is drawn: three bands stand in for its 64 values."""
    card, _ = get_card("gse")
    entry = replace(card.inputs[0], collection="COPERNICUS/S2_SR_HARMONIZED", bands=BANDS)
    with registered(replace(card, inputs=(entry,), product=Product("synthetic"))) as changed:
        yield changed


def places(count: int) -> list[PointBuffer]:
    return [PointBuffer(11.0 + 0.01 * i, 48.0, 80.0) for i in range(count)]


async def rows_of(ask: Ask, count: int) -> list[Row]:
    deployed = Deployed(ModelSettings(model="gse"), ProductClient("synthetic"))
    router = Router({"gse-annual": deployed}, LocalFetchers(), LimitSettings(), ProviderSettings())
    job = Job(ask, tuple(vars(place) for place in places(count)), ordered=True)
    return [row async for rows in stream(job, router.route(job)) for row in rows]


@pytest.mark.parametrize("output", [OutputSpec.pooled(), OutputSpec.grid()])
async def test_rows_are_what_the_provider_has(output: OutputSpec, product: ModelCard) -> None:
    ask = Ask("gse", temporal=YEAR, output=output)
    rows = await rows_of(ask, 20)
    assert [row.index for row in rows] == list(range(20))
    for row, place in zip(rows, places(20), strict=True):
        planned = plan(ask.at(place))
        pixels = fetch(planned, SyntheticProvider()).data[0]  # [D, H, W]
        expected = pixels if output.mode == "grid" else pixels.mean(axis=(1, 2))
        np.testing.assert_allclose(row.data, expected, rtol=1e-6)
        meta = json.loads(row.meta or "", parse_constant=pytest.fail)  # the standard's JSON has no NaN
        assert (meta["model"], meta["type"], meta["backend"]) == ("gse", "precomputed", "synthetic")
