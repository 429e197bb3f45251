from __future__ import annotations

from pathlib import Path

import pytest

from rs_embed_core.errors import InvalidRequest, RSEmbedError, UnknownModel
from serve_app.export.job import ExportJob, checked_job, read_job

PLACES = {"rois": "a.csv", "out": "b"}


def job(**given: object) -> ExportJob:
    return ExportJob.model_validate({**PLACES, "models": ["mosaiks"], **given})


def test_names_of_models_are_folders() -> None:
    asks = job(models=["mosaiks", {"model": "dofa", "model_config": {"variant": "large"}}]).asks()
    assert list(asks) == ["mosaiks-gaussian", "dofa-large"]
    own = {"a": {"model": "mosaiks"}, "b": {"model": "mosaiks", "model_config": {"seed": 1}}}
    asks = job(models=own).asks()
    assert {name: dict(ask.model_config) for name, ask in asks.items()} == {"a": {}, "b": {"seed": 1}}


def test_each_model_knows_the_others() -> None:
    asks = job(models=["mosaiks", "dofa", "galileo"]).asks()
    beside = {name: {other.model for other in ask.beside} for name, ask in asks.items()}
    assert beside["dofa-base"] == {"mosaiks", "galileo"}


def test_all_models_are_asked_in_the_same_way() -> None:
    how = {"temporal": {"year": 2021}, "fetch": {"scale_m": 20}, "output": {"pooling": "max"}, "input_prep": "tile"}
    for ask in job(models=["mosaiks", "dofa"], **how, backend="gee").asks().values():
        assert ask.temporal is not None
        assert ask.temporal.to_dict() == {"year": 2021}
        assert ask.fetch is not None
        assert (ask.fetch.scale_m, ask.output.pooling, ask.input_prep.mode, ask.backend) == (20, "max", "tile", "gee")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"models": ["mosaiks", "mosaiks"]}, "named twice"),
        ({"models": {"a/b": {"model": "mosaiks"}}}, "letters, digits"),
        ({"models": {"..": {"model": "mosaiks"}}}, "letters, digits"),
        ({"models": {"a": {}}}, None),
        ({"output": {"mode": "grid"}}, "vectors"),
        ({"temporal": {"start": "2022-06-01"}}, "temporal"),
        ({"models": [{"model": "mosaiks", "modle_config": {}}]}, "modle_config"),
    ],
)
def test_a_mistake_says_what_would_be_right(given: dict[str, object], said: str | None) -> None:
    with pytest.raises(RSEmbedError) as caught:
        job(**given).asks()
    if said is not None:
        assert said in str(caught.value)


def test_an_unknown_model() -> None:
    with pytest.raises(UnknownModel, match="mosaiks"):
        job(models=["mosaics"]).asks()


def test_a_job_file_with_dates_and_flags_that_win(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("rois: a.csv\nout: b\nmodels: [mosaiks]\ntemporal: {start: 2022-06-01, end: 2022-09-01}\n")
    read = read_job(path, {"out": "gs://bucket/c"})
    assert (read.rois, read.out) == ("a.csv", "gs://bucket/c")
    (ask,) = read.asks().values()
    assert ask.temporal is not None
    assert ask.temporal.to_dict() == {"start": "2022-06-01", "end": "2022-09-01"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rois: a.csv\nout: b\nmodels: [mosaiks]\nworker: {}\n", "worker: Extra inputs"),
        ("rois: a.csv\nout: b\nmodels: [mosaiks]\nworkers: {num_gpus: -1}\n", "workers.num_gpus"),
        ("rois: a.csv\nout: b\nmodels: []\n", "models"),
        ("rois: a.csv\n", "out: Field required"),
        ("- a\n", "no keys"),
        ("a: [\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_job_file_that_is_none(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidRequest) as caught:
        read_job(path, {})
    assert said in str(caught.value)


def test_a_mistake_between_keys_names_none_of_them() -> None:
    with pytest.raises(InvalidRequest, match=r"^the job is wrong: meta is a column that every result has\. "):
        checked_job({**PLACES, "models": ["mosaiks"], "keep": ["meta"]})


def test_without_a_gpu_of_its_own_a_worker_computes_on_the_cpu() -> None:
    workers = [job(workers=given).workers.placed().device for given in ({}, {"num_gpus": 0.5}, {"device": "mps"})]
    assert workers == ["cpu", "auto", "mps"]
