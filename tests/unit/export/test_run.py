"""How an export ends, by what its workers say; the workers here are lists."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_embed_core.errors import (
    IncompleteStream,
    InvalidRequest,
    NoImagery,
    ProviderAuth,
    ProviderTimeout,
    RSEmbedError,
)
from rs_embed_core.specs.spatial import PointBuffer
from serve_app.export import run as running
from serve_app.export.job import ExportJob
from serve_app.export.planned import Export
from serve_app.export.stages import Outcomes
from serve_app.settings import ServiceSettings
from serve_app.wire.rows import Row

ROIS = [PointBuffer(8 + 0.01 * i, 47, 100) for i in range(6)]
META = json.dumps({"model": "mosaiks", "variant": "gaussian", "modality": "s2", "temporal": {"start": "2022-01-01"}})


def planned(
    out: Path, rois: Sequence[PointBuffer] = ROIS, *, names: str = "", replace: bool = False, **more: object
) -> Export:
    given = {"rois": "-", "out": str(out), "models": {"m": {"model": "mosaiks"}}, "part_rois": 3, "id_column": "name"}
    job = ExportJob.model_validate({**given, "temporal": {"year": 2022}, **more})
    columns = pa.table({"name": list(names) or [chr(ord("a") + i) for i in range(len(rois))]})
    return Export.planned(job, ServiceSettings(), rois, columns=columns, replace=replace)


def good(index: int, meta: str = META) -> Row:
    return Row(index, np.full(3, index, np.float32), meta)


def ended(export: Export, come: list[Outcomes], monkeypatch: pytest.MonkeyPatch) -> list[running.Progress]:
    def outcomes_of(_: Export) -> Generator[Outcomes]:
        yield from come

    monkeypatch.setattr(running, "outcomes_of", outcomes_of)
    return list(running.run(export))


def failures(out: Path) -> list[str]:
    return [json.loads(line)["code"] for line in (out / "_failures.jsonl").read_text().splitlines()]


def test_rows_that_do_not_come_end_it_and_what_is_complete_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = planned(tmp_path)
    first, second = export.parts
    rows = (*map(good, first.indices[1:]), Row(first.indices[0], error=NoImagery("x")))
    come = [Outcomes(0, "m", rows), Outcomes(1, "m", (good(second.indices[0]),))]
    with pytest.raises(IncompleteStream, match=r"^2 rows") as caught:
        ended(export, come, monkeypatch)
    assert caught.value.retryable
    assert failures(tmp_path) == ["no_imagery"]
    name = "abcdef"[first.indices[0]]
    assert json.loads((tmp_path / "_failures.jsonl").read_text())["id"] == name
    kept = pq.read_table(tmp_path / "model=m" / "part-00000.parquet", columns=["index", "name"]).to_pylist()
    assert {row["index"]: row["name"] for row in kept} == {i: "abcdef"[i] for i in first.indices[1:]}
    again = planned(tmp_path)
    assert [entry.part.number for entry in again.work] == [1]
    (last,) = ended(again, [Outcomes(1, "m", tuple(map(good, second.indices)))], monkeypatch)
    assert (last.done, last.total, last.files) == (3, 3, 1)


def test_an_account_that_is_not_let_in_ends_it_while_nothing_has_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = planned(tmp_path)
    first, second = export.parts

    def failed(error: RSEmbedError) -> Outcomes:
        return Outcomes(1, "m", tuple(Row(index, error=error) for index in second.indices))

    with pytest.raises(ProviderAuth, match="log in"):
        ended(export, [failed(ProviderAuth("log in"))], monkeypatch)
    (last,) = ended(planned(tmp_path), [Outcomes(0, "m", tuple(map(good, first.indices))), failed(ProviderAuth("x"))],
                    monkeypatch)  # fmt: skip
    assert (last.done, last.failed) == (6, 3)
    (last,) = ended(planned(tmp_path), [failed(ProviderTimeout("x"))], monkeypatch)
    assert failures(tmp_path) == ["provider_timeout"] * 3


def test_a_service_that_has_been_set_up_in_another_way_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(export: Export, part: int, precision: str) -> None:
        meta = json.dumps(
            {**json.loads(META), "precision": precision, "versions": {"rs-embed-serve": "1", "torch": "2"}}
        )
        rows = tuple(good(index, meta) for index in export.parts[part].indices)
        ended(export, [Outcomes(part, "m", rows)], monkeypatch)

    with pytest.raises(IncompleteStream):  # of two parts one comes
        answered(planned(tmp_path, service="rs-embed"), 0, "float32")
    with pytest.raises(InvalidRequest, match="precision: float32 -> bfloat16"):
        answered(planned(tmp_path, service="rs-embed"), 1, "bfloat16")
    answered(planned(tmp_path, service="rs-embed"), 1, "float32")
    assert planned(tmp_path, service="rs-embed").work == []
    for name in ("part-00000", "part-00001"):
        (tmp_path / "_done" / "m" / f"{name}.json").unlink()
    with pytest.raises(IncompleteStream):  # nothing is there to be mixed with
        answered(planned(tmp_path, service="rs-embed"), 0, "bfloat16")


def test_what_killed_runs_have_left_half_written_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = planned(tmp_path / "out")
    left = [tmp_path / "out" / f".{name}.{'a' * 32}" for name in ("_failures.jsonl", "x")]
    left.append(tmp_path / "out" / "_done" / f"._rows.json.{'b' * 32}")
    left[-1].parent.mkdir(parents=True)
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    done(export, monkeypatch)
    assert not any(path.exists() for path in left)


# --- a file of ROIs that changes ---------------------------------------------------------------------------


def done(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    come = [Outcomes(entry.part.number, "m", tuple(map(good, entry.wanted))) for entry in export.work]
    ended(export, come, monkeypatch)


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "model=m").glob("*.parquet")}


def test_rows_that_are_appended_are_made_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In between the others on the map, so that one curve over all would give other parts."""
    between = [PointBuffer(8.005 + 0.01 * i, 47, 100) for i in range(5)]
    done(planned(tmp_path), monkeypatch)
    before = times(tmp_path)
    for rows, missing in (([*ROIS, *between[:4]], 4), ([*ROIS, *between], 1)):
        export = planned(tmp_path, rows)
        assert export.rows == missing
        done(export, monkeypatch)
    after = times(tmp_path)
    assert {name: after[name] for name in before} == before
    assert sorted(pq.read_table(tmp_path / "model=m", columns=["index"])["index"].to_pylist()) == list(range(11))
    assert planned(tmp_path, [*ROIS, *between]).work == []


def test_a_file_that_is_shorter_or_edited_is_refused_and_replaced_where_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [PointBuffer(9 + 0.01 * i, 47, 100) for i in range(3)]
    done(planned(tmp_path), monkeypatch)
    done(planned(tmp_path, [*ROIS, *more]), monkeypatch)
    edited = [*ROIS, more[0], PointBuffer(9.5, 47, 100), more[2]]
    for rows in ([*ROIS, *more[:2]], edited):
        with pytest.raises(InvalidRequest, match="made in another way"):
            planned(tmp_path, rows)
        export = planned(tmp_path, rows, replace=True)
        assert [entry.part.indices for entry in export.work] == [export.parts[2].indices]
        assert set(export.parts[2].indices) == set(range(6, len(rows)))
    done(export, monkeypatch)
    assert planned(tmp_path, edited).work == []


# --- columns that change -----------------------------------------------------------------------------------


def names_of(out: Path, model: str) -> dict[int, str]:
    table = pq.read_table(out / f"model={model}", columns=["index", "name", "embedding"]).to_pylist()
    assert all(set(row["embedding"]) == {row["index"]} for row in table)
    return {row["index"]: row["name"] for row in table}


def test_a_column_that_has_changed_is_written_anew_and_nothing_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(planned(tmp_path), monkeypatch)
    assert planned(tmp_path).outdated == []
    before = times(tmp_path)
    first = planned(tmp_path).parts[0]
    changed = "".join("X" if i == first.indices[0] else "abcdef"[i] for i in range(6))
    export = planned(tmp_path, names=changed)
    assert (export.outdated, export.work) == ([("m", first)], [])
    (last,) = ended(export, [], monkeypatch)
    assert (last.done, last.total, last.files) == (0, 0, 0)
    assert names_of(tmp_path, "m") == dict(enumerate(changed))
    after = times(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {f"{first.name}.parquet"}
    again = planned(tmp_path, names=changed)
    assert (again.outdated, again.work, again.kept) == ([], [], 6)


def test_columns_are_written_anew_where_another_model_is_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(planned(tmp_path), monkeypatch)
    models = {"m": {"model": "mosaiks"}, "n": {"model": "mosaiks", "model_config": {"seed": 1}}}
    export = planned(tmp_path, names="uvwxyz", models=models)
    assert [label for label, _ in export.outdated] == ["m", "m"]
    come = [Outcomes(entry.part.number, "n", tuple(map(good, entry.wanted))) for entry in export.work]
    ended(export, come, monkeypatch)
    assert names_of(tmp_path, "m") == names_of(tmp_path, "n") == dict(enumerate("uvwxyz"))
    assert planned(tmp_path, names="uvwxyz", models=models).outdated == []


def test_failures_stay_with_a_file_that_is_written_for_its_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = planned(tmp_path)
    first, second = export.parts
    never = tuple(Row(index, error=NoImagery("x")) for index in second.indices)
    mixed = (*map(good, first.indices[1:]), Row(first.indices[0], error=NoImagery("x")))
    ended(export, [Outcomes(0, "m", mixed), Outcomes(1, "m", never)], monkeypatch)
    export = planned(tmp_path, names="uvwxyz")
    assert export.outdated == [("m", first)]  # the other has no file
    ended(export, [], monkeypatch)
    assert failures(tmp_path) == ["no_imagery"] * 4
    assert names_of(tmp_path, "m") == {i: "uvwxyz"[i] for i in first.indices[1:]}
    assert planned(tmp_path, names="uvwxyz").work == []
