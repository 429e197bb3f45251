"""What an export will take, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rs_embed_core.plan import recipe
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from serve_app.export.chunks import todo
from serve_app.export.configuration import changes, configuration
from serve_app.export.estimate import Estimate, Survey, estimate, operations, survey
from serve_app.export.job import ExportJob
from serve_app.export.ledger import Ledger, Marker
from serve_app.export.parts import partition
from serve_app.settings import ServiceSettings

SUMMER = {"start": "2022-06-01", "end": "2022-09-01"}


def asks(*models: object, **given: object) -> dict[str, Ask]:
    return job(*models, **given).asks()


def job(*models: object, **given: object) -> ExportJob:
    return ExportJob.model_validate({"rois": "a", "out": "b", "models": models, "temporal": SUMMER, **given})


def surveyed(models: dict[str, Ask], *rois: Spatial) -> tuple[Survey, list[Ledger]]:
    by_index = dict(enumerate(rois))
    ledgers = [Ledger(label, {0: "x"}) for label in models]
    return survey(todo(partition(by_index, 100), ledgers, by_index), by_index, models), ledgers


def estimated(models: dict[str, Ask], *rois: Spatial, tflops: float = 10) -> Estimate:
    found, ledgers = surveyed(models, *rois)
    return estimate(found, models, ledgers, tflops)


def point(pixels: int) -> PointBuffer:
    """A place of so many pixels of 10 m squared, on the lattice."""
    return PointBuffer(0, 0, 5 * pixels)


def points(pixels: int, count: int) -> list[PointBuffer]:
    """So many such places, all others."""
    return [replace(point(pixels), lon=math.degrees(1e5 * i / 6378137)) for i in range(count)]  # 100 km apart


def test_reads_pixels_and_values_of_one_model() -> None:
    found = estimated(asks("mosaiks"), *points(32, 2), point(64))
    assert (found.rois, found.refused, found.reads) == (3, 0, 3)
    assert found.pixels == 2 * 32**2 + 64**2
    assert found.values == 10 * found.pixels  # bands
    assert found.bytes_read == 4 * found.values


def test_equal_places_are_read_and_computed_once_and_each_has_its_row() -> None:
    two = estimated(asks("mosaiks", "dofa"), *points(32, 2), tflops=1)
    more = estimated(asks("mosaiks", "dofa"), *points(32, 2), point(32), point(32), tflops=1)
    assert (more.rois, two.rois) == (4, 2)
    assert (more.reads, more.values) == (two.reads, two.values)
    for label, cost in more.models.items():
        assert (cost.samples, cost.device_s) == (two.models[label].samples, two.models[label].device_s)
        assert cost.rois == 4
        assert cost.bytes_written > two.models[label].bytes_written
    refused, _ = surveyed(asks("mosaiks"), BBox(0, 86, 1, 87), BBox(0, 86, 1, 87))
    assert [failure.index for _, failure in refused.problems] == [0, 1]


def test_models_of_one_read_share_it() -> None:
    shared = estimated(asks("mosaiks", "dofa"), point(32))
    assert shared.reads == 1
    assert shared.values == estimated(asks("mosaiks"), point(32)).values  # dofa's bands are among them


def test_frames_and_other_scales_are_reads_of_their_own() -> None:
    both = asks("mosaiks", "prithvi")  # at 30 m, frames of 28 days
    frames = len(recipe(both["prithvi-100-tl"]).frames)
    found = estimated(both, PointBuffer(0, 0, 480))
    assert found.reads == 2
    assert found.pixels == 96**2 + frames * 32**2


def test_tiles_are_samples() -> None:
    place = point(448)
    assert estimated(asks("dofa"), place).models["dofa-base"].samples == 1
    assert estimated(asks("dofa", input_prep="tile"), place).models["dofa-base"].samples == 4
    auto = asks("dofa", input_prep={"mode": "auto", "max_tiles": 3})
    assert estimated(auto, place).models["dofa-base"].samples == 1


def test_a_place_that_cannot_be_planned_is_refused_and_counted() -> None:
    found = estimated(asks("mosaiks"), point(32), BBox(0, 86, 1, 87), BBox(-90, -40, 90, 40))
    assert (found.rois, found.refused, found.reads) == (3, 2, 1)


def test_a_place_that_is_too_large_only_for_a_common_read_is_read_alone() -> None:
    large = point(5200)  # of mosaiks' ten bands too much, of remoteclip's three not
    alone, both = estimated(asks("remoteclip"), large), estimated(asks("mosaiks", "remoteclip"), large)
    assert (alone.refused, both.refused) == (0, 1)
    assert [cost.rois for cost in both.models.values()] == [0, 1]
    assert (both.reads, both.values) == (alone.reads, alone.values)


def test_device_seconds_follow_from_parameters_and_tokens() -> None:
    models = asks("dofa")
    assert operations(models["dofa-base"]) == pytest.approx(2 * 111.3e6 * 14**2)
    cost = estimated(models, *points(224, 2), tflops=1).models["dofa-base"]
    assert cost.device_s == pytest.approx(2 * 2 * 111.3e6 * 14**2 / 1e12)
    assert not cost.measured


def test_nothing_is_said_of_a_network_that_has_no_parameters() -> None:
    found = estimated(asks("mosaiks", "dofa"), point(32))
    assert found.models["mosaiks-gaussian"].device_s is None
    assert found.device_s is None
    assert operations(asks("tessera", temporal={"year": 2022})["tessera-v1"]) == 0.0


def test_parts_that_are_done_say_how_long_it_takes() -> None:
    models = asks("mosaiks")
    found, (ledger,) = surveyed(models, point(32), point(32))
    ledger.markers[7] = Marker("x", rows=100, device_s=5.0)
    cost = estimate(found, models, [ledger], 10).models["mosaiks-gaussian"]
    assert (cost.device_s, cost.measured) == (2 * 0.05, True)


def test_bytes_written_grow_with_rows_and_length_and_with_files() -> None:
    one, two, three = (estimated(asks("dofa"), *[point(32)] * n).bytes_written for n in (1, 2, 3))
    assert three - two == two - one
    assert 768 * 4 * 0.7 < two - one < 768 * 4 + 1000
    assert one - (two - one) == pytest.approx(22_000)


def test_files_that_are_there_say_how_long_a_row_is() -> None:
    models = asks({"model": "mosaiks", "model_config": {"features": 4096}})
    found, (ledger,) = surveyed(models, point(32), point(32))
    ledger.markers[7] = Marker("x", rows=100, file_bytes=22_000 + 100 * 13_000)
    assert estimate(found, models, [ledger], 10).bytes_written == 22_000 + 2 * 13_000


def test_imagery_of_a_roi_bounds_its_chunk() -> None:
    found, _ = surveyed(asks("mosaiks", "dofa"), point(32))
    assert found.nbytes == {0: 4 * (10 * 32**2 + 9 * 224**2)}  # samples: as it is, and enlarged


# --- configuration -----------------------------------------------------------------------------------------


def way(*models: object, settings: ServiceSettings | None = None, **given: object) -> dict[str, object]:
    one = job(*models, **given)
    ask = next(iter(one.asks().values()))
    return configuration(ask, one, settings or ServiceSettings())


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"temporal": {"year": 2021}}, "window.start"),
        ({"fetch": {"scale_m": 20}}, "imagery.scale_m"),
        ({"fetch": {"fill_value": 0}}, "chain"),  # said, it stands before the model's own
        ({"output": {"pooling": "max"}}, "output.pooling"),
        ({"input_prep": "tile"}, "input_prep"),
        ({"workers": {"precision": "bfloat16"}}, "precision"),
        ({"service": "rs-embed"}, "service"),
    ],
)
def test_what_changes_numbers_changes_the_configuration(given: dict[str, object], key: str) -> None:
    assert any(change.startswith(key) for change in changes(way("dofa"), way("dofa", **given)))


def test_options_and_variants_change_it_too() -> None:
    seeded = way({"model": "mosaiks", "model_config": {"seed": 1}})
    assert changes(way("mosaiks"), seeded) == ["options.seed: 0 -> 1"]
    large = way({"model": "dofa", "model_config": {"variant": "large"}})
    assert {change.partition(":")[0] for change in changes(way("dofa"), large)} == {"variant", "weights"}


def test_a_provider_s_own_settings_count() -> None:
    plain = ServiceSettings.model_validate({"providers": {"stac": {}}})
    masked = ServiceSettings.model_validate({"providers": {"stac": {"mask_clouds": True}}})
    ours = [way("dofa", settings=known, backend="stac") for known in (plain, masked)]
    assert [change.partition(":")[0] for change in changes(*ours)] == ["backend_settings"]


def test_what_does_not_change_numbers_does_not() -> None:
    alone = way("dofa")
    assert alone == way("dofa", "mosaiks", part_rois=7, workers={"encoders": 3, "num_gpus": 1, "tflops": 30})
    fast = ServiceSettings.model_validate({"fetch": {"concurrency": 99}, "http": {"port": 9000}})
    assert alone == way("dofa", settings=fast)
