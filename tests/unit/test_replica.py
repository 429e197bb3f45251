"""An encoder replica by itself, without Ray."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rs_embed_core.card import ModelCard, Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.encoder import Encoder
from rs_embed_core.errors import CheckpointError, ForwardError
from rs_embed_core.inputs import Variant
from rs_embed_core.plan import recipe
from rs_embed_core.prepare import example
from rs_embed_core.sample import Batch, join
from rs_embed_core.specs.request import Ask
from rs_embed_core.weights import HubFile
from serve_app.deployments.encoder import EncoderReplica
from serve_app.observe import metrics
from serve_app.settings import CheckpointSettings, ModelSettings
from serve_app.wire.blocks import Payload
from tests.unit.small_cards import averages_card, crowded_card, failing_card, registered
from tests.unit.written import written


def replica_of(card: ModelCard, batch_size: int) -> EncoderReplica:
    """A replica on the CPU, as its deployment makes it."""
    made = EncoderReplica(Ask(card.id), ModelSettings(model=card.id, device="cpu"), CheckpointSettings())
    made.reconfigure({"batch_size": batch_size})
    return made


def samples(card: ModelCard, count: int) -> tuple[Batch, Selection]:
    """Samples that differ in their pixels."""
    ask = Ask(card.id)
    one = example(ask)
    images = [one.arrays["image"] * np.float32(1 + i) for i in range(count)]
    batch = join([replace(one, arrays={"image": image}) for image in images])
    return batch, recipe(ask).selection


async def test_a_replica_that_runs_out_of_memory_loses_no_sample() -> None:
    with registered(averages_card()) as card:
        batch, selection = samples(card, 30)
        plain = Encoder(card, card.default_variant, checkpoints=Checkpoints(None), device="cpu")
        expected, _ = plain.forward(batch, selection)
    with registered(crowded_card(room=3)) as card:
        replica = replica_of(card, batch_size=16)
        payloads = [Payload((batch.take(0, 20),)), Payload((batch.take(20, 22), batch.take(22, 30)))]
        encoded = await replica.encode(payloads, selection)
    found = [part for block in encoded.blocks for part in block]
    assert [len(part.tokens.cells) for part in found] == [20, 2, 8]
    assert not any(part.errors for part in found)
    ours = [tokens.data for part in found for tokens in part.tokens.unpack()]
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one, other.data)


async def test_samples_that_do_not_fit_even_alone_say_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures, busy = written(monkeypatch, metrics.FORWARD_FAILURES), written(monkeypatch, metrics.FORWARD_BUSY_SECONDS)
    samples_over = written(monkeypatch, metrics.BATCH_FORWARDED_SAMPLES)
    with caplog.at_level("WARNING", "serve_app"), registered(crowded_card(room=0)) as card:
        batch, selection = samples(card, 3)
        replica = EncoderReplica(
            Ask(card.id), ModelSettings(model=card.id, device="cpu", warm_up=False), CheckpointSettings()
        )
        ((part,),) = (await replica.encode([Payload((batch,))], selection)).blocks
    assert [(index, error.code) for index, error in part.errors] == [(i, "out_of_memory") for i in range(3)]
    assert failures.total == len(busy.labels) == 4  # the batch, then each sample: the device worked for all of them
    assert {(labels["model"], labels["code"]) for labels in failures.labels} == {("mosaiks-gaussian", "out_of_memory")}
    assert samples_over.total == 3
    lines = [record for record in caplog.records if record.message == "a forward failed"]
    assert [(line.samples, line.code) for line in lines] == [(3, "out_of_memory"), *[(1, "out_of_memory")] * 3]


async def test_a_bug_in_a_network_is_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = written(monkeypatch, metrics.FORWARD_FAILURES)
    with registered(failing_card("bug")) as card:
        batch, selection = samples(card, 1)
        replica = EncoderReplica(
            Ask(card.id), ModelSettings(model=card.id, device="cpu", warm_up=False), CheckpointSettings()
        )
        with caplog.at_level("ERROR", "serve_app"):
            ((part,),) = (await replica.encode([Payload((batch,))], selection)).blocks
    assert [(index, error.code) for index, error in part.errors] == [(0, "forward_error")]
    assert [labels["code"] for labels in failures.labels] == ["internal_error"]
    (line,) = caplog.records
    assert line.message == "a forward failed"
    assert line.exc_info is not None


async def test_a_replica_whose_device_is_gone_asks_to_be_replaced_and_answers_nobody() -> None:
    with registered(averages_card()) as card:
        batch, selection = samples(card, 3)
        settings = ModelSettings(model=card.id, device="meta", warm_up=False)  # takes everything and answers nothing
        replica = EncoderReplica(Ask(card.id), settings, CheckpointSettings())
        replica.check_health()
        calls = [asyncio.ensure_future(replica.encode([Payload((batch,))], selection)) for _ in range(2)]
        while not unhealthy(replica):  # noqa: ASYNC110 - it is asked, as Serve asks it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()


@pytest.mark.parametrize("how", ["bug", "runtime", "memory", "nan"])
async def test_a_replica_whose_network_fails_stays_healthy(how: str) -> None:
    with registered(failing_card(how)) as card:
        batch, selection = samples(card, 2)
        settings = ModelSettings(model=card.id, device="cpu", warm_up=False)
        replica = EncoderReplica(Ask(card.id), settings, CheckpointSettings())
        await replica.encode([Payload((batch,))], selection)
        assert not unhealthy(replica)


def unhealthy(replica: EncoderReplica) -> bool:
    try:
        replica.check_health()
    except ForwardError:
        return True
    return False


ABSENT = HubFile("nobody/nothing", "weights.safetensors", "0" * 40)


def two_modalities(*, absent: str) -> ModelCard:
    """A card of two modalities with a network each; one lacks its weights."""
    card = averages_card()
    (entry,) = card.inputs
    inputs = tuple(
        replace(entry, modality=name, variants={"gaussian": Variant(2, weights=ABSENT if name == absent else None)})
        for name in ("s2", "s1")
    )
    return replace(card, inputs=inputs)


@pytest.mark.parametrize(("absent", "state"), [("s1", "ready"), ("s2", "no_weights")])
async def test_missing_weights_of_one_modality_are_no_other_s_problem(absent: str, state: str, tmp_path: Path) -> None:
    with registered(two_modalities(absent=absent)) as card:
        checkpoints = CheckpointSettings(root=tmp_path, offline=True)
        replica = EncoderReplica(Ask(card.id), ModelSettings(model=card.id, device="cpu"), checkpoints)
        batch, _ = samples(card, 2)
        missing = recipe(Ask(card.id, modality=absent)).selection
        with contextlib.suppress(CheckpointError):  # the first forward's samples fail, later ones do not get so far
            await replica.encode([Payload((batch,))], missing)
        with pytest.raises(CheckpointError):
            await replica.encode([Payload((batch,))], missing)
        (other,) = {"s1", "s2"} - {absent}
        encoded = await replica.encode([Payload((batch,))], recipe(Ask(card.id, modality=other)).selection)
        assert [part.errors for block in encoded.blocks for part in block] == [()]
        status = await replica.status()
    assert status["state"] == state
    assert ABSENT.file in str(status["message"])


async def test_missing_weights_are_looked_for_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked = written(monkeypatch, metrics.FORWARD_FAILURES)
    with registered(two_modalities(absent="s2")) as card:
        settings = ModelSettings(model=card.id, device="cpu", warm_up=False, batch_size=4)
        replica = EncoderReplica(Ask(card.id), settings, CheckpointSettings(root=tmp_path, offline=True))
        replica.reconfigure({"batch_size": 4})
        batch, selection = samples(card, 24)
        ((part,),) = (await replica.encode([Payload((batch,))], selection)).blocks
    assert [error.code for _, error in part.errors] == ["checkpoint_error"] * 24
    assert [labels["code"] for labels in looked.labels] == ["checkpoint_error"]
