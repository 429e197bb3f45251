from __future__ import annotations

import pytest

from rs_embed_core.errors import (
    InvalidRequest,
    UnknownModel,
)
from serve_app.client import AsyncEmbeddingClient
from tests.unit.client.fake_service import FakeService, check_places, places, problem


def test_several_models_run_at_once_and_know_of_each_other() -> None:
    service = FakeService()
    models = {"plain": {"model": "mosaiks"}, "large": {"model": "dofa", "model_config": {"variant": "large"}}}
    with service.client() as client:
        found = list(client.stream_models(models, spatials=places(5), ordered=True))
    assert {name for name, _ in found} == {"plain", "large"}
    for name in models:
        items = [item for who, item in found if who == name]
        assert [item.index for item in items] == list(range(5))
        check_places(items)
    beside = {job.ask.model: [other.to_dict() for other in job.ask.beside] for job in service.jobs}
    assert beside == {
        "mosaiks": [{"model": "dofa", "model_config": {"variant": "large"}}],
        "dofa": [{"model": "mosaiks"}],
    }


async def test_several_models_from_async_code() -> None:
    service = FakeService()
    async with AsyncEmbeddingClient(service.transport()) as client:
        found = [pair async for pair in client.stream_models(["mosaiks", "dofa"], spatials=places(3))]
    assert sorted((name, item.index) for name, item in found) == [
        (name, index) for name in ("dofa", "mosaiks") for index in range(3)
    ]


def test_one_model_that_cannot_be_asked_ends_them_all() -> None:
    service = FakeService()
    service.answers = [lambda job: problem(UnknownModel(f"there is no model {job.ask.model!r}."))] * 2
    with service.client() as client, pytest.raises(UnknownModel):
        list(client.stream_models(["mosaiks", "nothing"], spatials=places(2)))


@pytest.mark.parametrize("models", [[], "mosaiks", ["mosaiks", "mosaiks"], {"a": {"variant": "x"}}, [3], None])
def test_what_are_no_models_is_refused(models: object) -> None:
    with FakeService().client() as client, pytest.raises(InvalidRequest):
        list(client.stream_models(models, spatials=places(1)))  # type: ignore[arg-type]
