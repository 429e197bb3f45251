"""Windows that move with the day of the run, and the folders of their results."""

from __future__ import annotations

import datetime as dt

import pytest

from rs_embed_core.errors import InvalidRequest
from serve_app.export.job import ExportJob, checked_job
from serve_app.export.window import today

OUT = "gs://bucket/start={start}"


def job(temporal: object, out: str = OUT, **more: object) -> ExportJob:
    return checked_job({"rois": "a.csv", "out": out, "models": ["mosaiks"], "temporal": temporal, **more})


@pytest.mark.parametrize(
    ("months", "day", "start", "end"),
    [
        (1, "2024-03-06", "2024-02-01", "2024-03-01"),
        (1, "2024-03-31", "2024-02-01", "2024-03-01"),
        (1, "2024-03-01", "2024-02-01", "2024-03-01"),
        (1, "2024-02-29", "2024-01-01", "2024-02-01"),
        (1, "2024-01-01", "2023-12-01", "2024-01-01"),
        (3, "2024-01-15", "2023-10-01", "2024-01-01"),
        (12, "2024-12-31", "2023-12-01", "2024-12-01"),
        (25, "2024-02-10", "2022-01-01", "2024-02-01"),
    ],
)
def test_whole_months_that_are_over_on_a_day(months: int, day: str, start: str, end: str) -> None:
    for as_of in (day, dt.date.fromisoformat(day)):  # of the flag, and of YAML
        found = job({"last_months": months}, as_of=as_of)
        assert found.temporal == {"start": start, "end": end}
        assert found.out == f"gs://bucket/start={start}"
    (ask,) = found.asks().values()
    assert ask.temporal is not None
    assert ask.temporal.to_dict() == {"start": start, "end": end}


def test_the_day_is_today_where_none_is_said() -> None:
    days = (today(), job({"last_months": 1}).temporal, today())
    assert days[1] in [job({"last_months": 1}, as_of=day).temporal for day in (days[0], days[2])]


def test_a_folder_may_be_named_after_any_window() -> None:
    assert job({"year": 2022}, "x/{start}_{end}/{start}").out == "x/2022-01-01_2023-01-01/2022-01-01"
    dates = {"start": dt.date(2022, 6, 1), "end": "2022-09-01"}
    assert (job(dates, "x/{end}").out, job(dates, "x").out) == ("x/2022-09-01", "x")
    assert job({"year": 2022}, "x/{other}").out == "x/{other}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temporal": {"last_months": 1}, "out": "gs://bucket/all"}, "gs://bucket/all.*the same for every window"),
        ({"temporal": {"last_months": 0}}, "from 1"),
        ({"temporal": {"last_months": True}}, "from 1"),
        ({"temporal": {"last_months": "1"}}, "from 1"),
        ({"temporal": {"last_months": 10**6}}, "from 1"),
        ({"temporal": {"last_months": 1, "year": 2022}}, "stands alone"),
        ({"temporal": {"last_months": 1}, "as_of": "yesterday"}, "as_of is 'yesterday'"),
        ({"temporal": {"start": "2022-06-01"}}, "temporal"),
        ({"temporal": None}, "has no temporal"),
    ],
)
def test_a_window_that_cannot_be_told_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        job(**{"temporal": {"year": 2022}, **given}).asks()  # type: ignore[arg-type]  # out is a text
