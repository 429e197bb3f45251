"""Exports whose encoders reserve a GPU, on a Ray that has one in name only (they compute on the CPU), or has none."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tests.serve import programs

_PROGRAM = """
import sys
import ray
from rs_embed_core import PointBuffer
from serve_app.export.job import ExportJob
from serve_app.export.planned import Export
from serve_app.export.run import run
from serve_app.settings import load_settings

ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
job = ExportJob.model_validate({
    "rois": "-",
    "out": sys.argv[1],
    "models": {"small": {"model": "mosaiks", "model_config": {"features": 16}}},
    "temporal": {"year": 2022},
    "workers": {"num_gpus": 1, "num_cpus": 0, "device": "cpu"},
})
places = [PointBuffer(11 + 0.01 * i, 48, 80) for i in range(70)]
*_, last = run(Export.planned(job, load_settings(flags=job.settings), places))
assert (last.done, last.failed) == (70, 0)
ray.shutdown()
"""

_NO_GPU = """
import os
import sys
import ray
from rs_embed_core import PointBuffer
from rs_embed_core.errors import Unavailable
from serve_app.export import run, ticking
from serve_app.export.job import ExportJob
from serve_app.export.planned import Export
from serve_app.settings import load_settings

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
run._EVERY_S = ticking._LEAVE_S = 0.5
job = ExportJob.model_validate({
    "rois": "-",
    "out": sys.argv[1],
    "models": ["mosaiks"],
    "temporal": {"year": 2022},
    "workers": {"num_gpus": 1, "num_cpus": 0, "wait_s": 1},
})
try:
    list(run.run(Export.planned(job, load_settings(flags=job.settings), [PointBuffer(11, 48, 80)])))
except Unavailable as error:
    print(error, flush=True)
    ray.shutdown()
    os._exit(0)  # a thread of Ray Data's still waits for the node
sys.exit("it waits for ever")
"""


def test_encoders_may_reserve_gpus(tmp_path: Path) -> None:
    programs.run(_PROGRAM, str(tmp_path))
    assert pq.read_table(tmp_path / "model=small" / "part-00000.parquet").num_rows == 70


def test_a_node_that_never_comes_ends_it(tmp_path: Path) -> None:
    assert "no node for one encoder (1 GPU)" in programs.run(_NO_GPU, str(tmp_path))
