"""Bulk exports on Ray Data: complete and equal whatever dies, resumed where they stopped, and through the service."""

from __future__ import annotations

import contextlib
import csv
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from rs_embed_core import PointBuffer, TemporalSpec, get_embeddings_batch
from rs_embed_core.errors import CheckpointError, Unavailable
from serve_app.commands.rois import scan_rois
from serve_app.export import EmbedRois, pipeline
from serve_app.export.job import ExportJob
from serve_app.export.planned import Export
from serve_app.export.run import Progress, run
from serve_app.serving import Serving
from serve_app.settings import load_settings

pytestmark = [
    pytest.mark.usefixtures("service"),
    # ray 2.60 warns of defaults of its own when ray.data is first used.
    pytest.mark.filterwarnings(r"ignore:::ray\.data\."),
]
_ROIS, _PART = 5000, 500
_SUMMER = {"start": "2022-06-01", "end": "2022-09-01"}
_SMALL = {"small": {"model": "mosaiks", "model_config": {"features": 16}}}


def _places(count: int) -> list[PointBuffer]:
    return [PointBuffer(11 + 0.01 * (i % 100), 48 + 0.01 * (i // 100), 80) for i in range(count)]


def _job(folder: Path, count: int, **given: object) -> ExportJob:
    path = folder / "rois.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("lon", "lat", "buffer_m"))
        rows.writerows((place.lon, place.lat, place.buffer_m) for place in _places(count))
    job: dict[str, object] = {
        "rois": str(path),
        "out": str(folder / "out"),
        "models": _SMALL,
        "temporal": _SUMMER,
        "part_rois": _PART,
        "workers": {"num_cpus": 0, "cpu_threads": 1, "device": "cpu"},
    }
    return ExportJob.model_validate({**job, **given})


def _planned(job: ExportJob) -> Export:
    return Export.planned(job, load_settings(flags=job.settings), scan_rois(job.rois))


def _run(job: ExportJob) -> tuple[Export, Progress]:
    planned = _planned(job)
    *_, last = run(planned)
    return planned, last


def _vectors(job: ExportJob, label: str = "small") -> np.ndarray:
    """All vectors in the order of the ROIs; each is there once."""
    files = sorted(Path(job.out).glob(f"model={label}/*.parquet"))
    table = pa.concat_tables([pq.read_table(file, columns=["index", "embedding"]) for file in files]).sort_by("index")
    assert table["index"].to_pylist() == list(range(len(table)))
    return np.stack(table["embedding"].to_numpy())


def _times(job: ExportJob) -> Mapping[str, int]:
    """When each file was last written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(job.out).glob("model=small/*.parquet")}


def _kill_a_worker(stage: str) -> bool:
    """Whether there was one of ours."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if f"MapBatches({stage})" in "".join(process.cmdline()[:1]):
                process.kill()
                return True
    return False


class Killer(threading.Thread):
    """Kills a worker of each stage, one after another, once files are there."""

    def __init__(self, out: str, stages: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._out, self._stages = Path(out), stages
        self.killed: list[str] = []

    def run(self) -> None:
        while not list(self._out.glob("_done/*/part-*.json")):
            time.sleep(0.02)
        for stage in self._stages:
            while not _kill_a_worker(stage):
                time.sleep(0.02)
            self.killed.append(stage)


def test_nothing_is_lost_with_workers_and_a_rerun_does_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _job(tmp_path, _ROIS)
    planned, last = _run(whole)
    assert (last.done, last.files, last.failed) == (_ROIS, _ROIS // _PART, 0)
    expected = _vectors(whole)
    assert expected.shape == (_ROIS, 16)

    slow = {"providers": {"synthetic_delay_ms": 40}, "fetch": {"actors": 2, "concurrency": 8}}
    hurt = whole.model_copy(update={"out": str(tmp_path / "hurt"), "settings": slow})
    killer = Killer(hurt.out, ["ReadRois", "EncodeRois"])  # readers go when all is read, however long a restart takes
    killer.start()
    monkeypatch.setattr(pipeline, "_MOST_BLOCKS", 40)  # 79 chunks: two in a block, as with very many ROIs
    _, last = _run(hurt)
    assert killer.killed == ["ReadRois", "EncodeRois"]
    assert (last.done, last.files, last.failed) == (_ROIS, _ROIS // _PART, 0)
    np.testing.assert_array_equal(_vectors(hurt), expected)

    before = _times(whole)
    (Path(whole.out) / "_done" / "small" / "part-00003.json").unlink()  # as if it had been killed before the marker
    planned, last = _run(whole)
    assert planned.rows == last.done == _PART
    after = _times(whole)
    assert {name for name in after if after[name] != before[name]} == {"part-00003.parquet"}
    np.testing.assert_array_equal(_vectors(whole), expected)
    assert _planned(whole).work == []


def test_weights_that_are_missing_end_it(tmp_path: Path) -> None:
    settings = {"checkpoints": {"offline": True}}
    job = _job(tmp_path, 20, models=["mosaiks", "remoteclip"], part_rois=8, settings=settings)
    with pytest.raises(CheckpointError, match="remote-clip"):
        _run(job)
    assert not list(Path(job.out).glob("model=*/*"))


@pytest.mark.usefixtures("library")
def test_through_the_service(service: Serving, tmp_path: Path) -> None:
    job = _job(tmp_path, 20, models=["mosaiks"], part_rois=8, service=service.settings.name)
    _, last = _run(job)
    assert (last.done, last.files) == (20, 3)
    summer = TemporalSpec.range(*_SUMMER.values())
    theirs = get_embeddings_batch("mosaiks", spatials=_places(20), temporal=summer, device="cpu")
    expected = np.stack([embedding.data for embedding in theirs])
    np.testing.assert_allclose(_vectors(job, "mosaiks-gaussian"), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(Unavailable):
        _run(_job(tmp_path, 20, models=["mosaiks"], service="nobody", out=str(tmp_path / "nowhere")))


def test_embed_rois_in_a_pipeline_of_ones_own() -> None:
    rows = [vars(place) for place in _places(6)] + [{"lon": 8.0, "lat": 99.0, "buffer_m": 80.0}]
    table = pa.table({name: [row[name] for row in rows] for name in ("lon", "lat", "buffer_m")})
    how = {"models": _SMALL, "temporal": _SUMMER, "workers": {"device": "cpu"}}
    pipeline = ray.data.from_arrow(table).map_batches(
        EmbedRois, fn_constructor_kwargs=how, batch_format="pyarrow", batch_size=4, concurrency=1, num_cpus=0
    )
    found = sorted(pipeline.take_all(), key=lambda row: row["lon"])
    assert "lat is 99.0" in found[0]["small_problem"]
    assert found[0]["small"] is None
    assert [len(row["small"]) for row in found[1:]] == [16] * 6
    assert all(row["small_problem"] is None for row in found[1:])
