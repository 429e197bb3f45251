"""``rs-embed export`` up to where Ray would start."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from rs_embed_core.errors import InvalidRequest, RSEmbedError, UnknownProvider
from serve_app.commands import export, rois
from serve_app.commands.command import Failed
from serve_app.commands.rois import read_rois, scan_rois

JOB = "rois: {rois}\nout: {out}\nmodels: [mosaiks, dofa]\ntemporal: {{year: 2022}}\npart_rois: 2\n"
ROIS = "lon,lat,buffer_m\n11,48,80\n11.1,48,80\n11,x,80\n11.2,48,80\n"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "rois.csv").write_text(ROIS)
    path = tmp_path / "job.yaml"
    path.write_text(JOB.format(rois=tmp_path / "rois.csv", out=tmp_path / "out"))
    return path


def arguments(*argv: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    export.add(parser.add_subparsers())
    return parser.parse_args(["export", *map(str, argv)])


def lines(*argv: object) -> list[str]:
    return list(export.export(arguments(*argv)))


def test_a_dry_run_says_what_it_would_take_and_touches_nothing(job: Path) -> None:
    said = "\n".join(lines(job, "--dry-run"))
    assert "ROIs: 3 (bad rows: 1); files: 4, complete: 0" in said
    assert "to do: ROIs 3, reads 3, pixels 867, 34.7 kB of imagery" in said  # 17 x 17 of 10 bands each
    assert "mosaiks-gaussian  3     3        not known" in said
    assert not (job.parent / "out").exists()


def test_what_takes_long_is_said_before_it_does(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_MANY", 3)
    monkeypatch.setattr(rois, "_LARGE_BYTES", 40)
    assert lines(job, "--dry-run")[:2] == [f"reading {job.parent / 'rois.csv'}", "planning 4 ROIs"]
    json.loads("\n".join(lines(job, "--dry-run", "--json")))


def test_the_same_for_programs(job: Path) -> None:
    found = json.loads("\n".join(lines(job, "--dry-run", "--json")))
    assert found["estimate"]["reads"] == 3
    assert found["estimate"]["models"]["dofa-base"]["rois"] == 3
    assert found["result"] is None


def test_flags_win(job: Path) -> None:
    args = arguments(job, "--model", "dofa/large", "--year", 2021, "--encoders", 2, "--num-gpus", 0.5, "--service")
    made = export.job_of(args)
    (ask,) = made.asks().values()
    assert (ask.model, dict(ask.model_config)) == ("dofa", {"variant": "large"})
    assert ask.temporal is not None
    assert ask.temporal.to_dict() == {"year": 2021}
    assert (made.workers.encoders, made.workers.num_gpus, made.service) == (2, 0.5, "rs-embed")


def test_a_window_that_moves_has_a_folder_of_its_own(job: Path) -> None:
    job.write_text(job.read_text().replace("year: 2022", "last_months: 2").replace("/out\n", "/out/start={start}\n"))
    made = export.job_of(arguments(job, "--as-of", "2022-09-05", "--encoders", 2))
    assert made.out == str(job.parent / "out" / "start=2022-07-01")
    assert "imagery: synthetic (made up), 2022-07-01 to 2022-09-01" in lines(job, "--dry-run", "--as-of", "2022-09-05")
    with pytest.raises(InvalidRequest, match="the same for every window"):
        lines(job, "--dry-run", "--out", job.parent / "out")


def test_flags_alone(job: Path) -> None:
    rois, out = job.parent / "rois.csv", job.parent / "out"
    said = lines("--rois", rois, "--out", out, "--model", "mosaiks", "--year", "2022", "--dry-run")
    assert "files: 1, complete: 0" in said[0]


@pytest.mark.parametrize(
    ("argv", "kind", "said"),
    [
        (["--model", "nosuch"], RSEmbedError, "there is no model 'nosuch'"),
        (["--rois", "nowhere.csv"], InvalidRequest, "nowhere.csv"),
        (["--rois", "gs://bucket/a.txt"], InvalidRequest, "no known format"),
        (["--part-rois", "0"], InvalidRequest, "part_rois"),
        (["--start", "2022-01-01"], InvalidRequest, "temporal"),
    ],
)
def test_a_mistake_is_said_before_ray_starts(argv: list[str], kind: type[Exception], said: str, job: Path) -> None:
    with pytest.raises(kind) as caught:
        lines(job, *argv)
    assert said in str(caught.value)


def test_a_provider_that_is_not_set_up(job: Path) -> None:
    job.write_text(job.read_text() + "backend: gee\n")
    with pytest.raises(UnknownProvider, match="gee"):
        lines(job, "--dry-run")
    job.write_text(job.read_text() + "settings: {providers: {gee: {project: mine}}}\n")
    assert lines(job, "--dry-run")


def test_a_wrong_setting(job: Path) -> None:
    job.write_text(job.read_text() + "settings: {provider: {}}\n")
    with pytest.raises(InvalidRequest, match="provider"):
        lines(job, "--dry-run")


def test_rows_that_are_no_rois_are_listed_and_the_others_read(job: Path) -> None:
    rows = scan_rois(job.parent / "rois.csv")
    assert [isinstance(row, RSEmbedError) for row in rows] == [False, False, True, False]
    assert "ROI 2: lat is 'x'" in str(rows[2])
    with pytest.raises(InvalidRequest, match="ROI 2"):
        read_rois(job.parent / "rois.csv")
    (job.parent / "rois.csv").write_text("lon,lat,buffer_m\n11,x,80\n")
    with pytest.raises(InvalidRequest, match="has no ROI"):
        lines(job, "--dry-run")


def complete(job: Path) -> None:
    """Markers of parts whose ROIs have all failed for good, so that nothing is left to do."""
    from serve_app.export.ledger import Marker, marker_file  # noqa: PLC0415 - two tests
    from serve_app.export.planned import Export  # noqa: PLC0415
    from serve_app.settings import ServiceSettings  # noqa: PLC0415

    made = export.job_of(arguments(job))
    planned = Export.planned(made, ServiceSettings(), scan_rois(made.rois))
    for label, ledger in planned.ledgers.items():
        for part in planned.parts:
            marker = Marker(ledger.digests[part.number], rows=0)
            planned.store.write_json(marker_file(label, part), marker.to_dict())


def test_nothing_left_to_do_needs_no_ray(job: Path, tmp_path: Path) -> None:
    """A row that is no ROI is a failure of every run."""
    complete(job)
    connected = ray.is_initialized()  # other tests of the same run have a Ray
    said: list[str] = []
    with pytest.raises(Failed) as ended:
        said.extend(export.export(arguments(job)))
    assert ended.value.code == 3  # no other run mends it
    assert (tmp_path / "out" / "_failures.jsonl").read_text().count("\n") == 1
    assert ray.is_initialized() == connected
    job.write_text(job.read_text() + "allowed_failures: 1\n")
    assert "failures: 1" in "\n".join(lines(job))
    job.write_text(job.read_text().replace("allowed_failures: 1", "allowed_failures: 0.1"))  # of 8 rows
    with pytest.raises(Failed):
        lines(job)
    job.write_text(job.read_text().replace("allowed_failures: 0.1", "allowed_failures: 0.2"))
    assert lines(job)


def test_it_goes_on_when_nobody_reads_what_it_says(job: Path, tmp_path: Path) -> None:
    complete(job)
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "serve_app.cli", "export", job], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (3, b"")
    assert (tmp_path / "out" / "_failures.jsonl").exists()


def test_a_dry_run_lists_what_will_fail(job: Path) -> None:
    with (job.parent / "rois.csv").open("a") as rois:
        rois.write("0,0,900000\n")
    said = "\n".join(lines(job, "--dry-run"))
    assert "will fail: 3 (roi_too_large 2, invalid_request 1)" in said
    assert "ROI 2: lat is 'x'" in said
    assert "ROI 4, dofa-base: roi_too_large" in said
    problems = json.loads("\n".join(lines(job, "--dry-run", "--json")))["problems"]
    assert {(found["model"], found["index"]) for found in problems} == {
        ("", 2),
        ("mosaiks-gaussian", 4),
        ("dofa-base", 4),
    }


def test_it_says_where_the_imagery_comes_from(job: Path) -> None:
    assert "imagery: synthetic (made up), 2022-01-01 to 2023-01-01" in lines(job, "--dry-run")
    job.write_text(job.read_text() + "settings: {providers: {gee: {project: mine}}}\n")
    assert "imagery: gee, 2022-01-01 to 2023-01-01" in lines(job, "--dry-run", "--backend", "gee")


def test_a_window_that_is_not_over_is_said(job: Path) -> None:
    window = ["--start", "2022-01-01", "--end", "2099-01-01", "--dry-run"]
    said = "imagery: synthetic (made up), 2022-01-01 to 2099-01-01 (not over yet: later runs add nothing"
    assert any(line.startswith(said) for line in lines(job, *window))
    assert "not over" not in "\n".join(lines(job, "--dry-run"))


def test_it_says_which_files_a_run_would_remove(job: Path) -> None:
    complete(job)
    assert "removed" not in "\n".join(lines(job, "--dry-run"))
    said = lines(job, "--dry-run", "--replace", "--year", "2021")
    assert [line for line in said if "removed" in line] == [
        "files of mosaiks-gaussian that are removed first: 2",
        "files of dofa-base that are removed first: 2",
    ]


def test_an_out_that_is_no_folder_is_refused_at_once(job: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"job\.yaml is no folder"):
        lines(job, "--dry-run", "--out", job / "out")


def test_it_says_which_columns_do_not_count_and_which_ids_do_not_name_one_row(job: Path) -> None:
    (job.parent / "rois.csv").write_text("id,lon,lat,buffer_m,start\na,8,47,80,2020\na,9,47,80,2021\nb,10,47,80,\n")
    assert "columns that do not count: id, start" in lines(job, "--dry-run")[0]
    job.write_text(job.read_text() + "id_column: id\nkeep: [start]\n")
    assert lines(job, "--dry-run")[0] == "ids of several rows: 1 (a)"
    job.write_text(job.read_text().replace("[start]", "[meta]"))
    with pytest.raises(InvalidRequest, match="meta is a column that every result has"):
        lines(job, "--dry-run")
