from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from rs_embed_core import (
    BBox,
    FetchSpec,
    InputPrepSpec,
    OutputSpec,
    PointBuffer,
    SensorSpec,
    TemporalSpec,
    UserData,
    configure,
    get_embedding,
    get_embeddings_batch,
    get_embeddings_batch_from_data,
    register_provider,
)
from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import (
    CheckpointError,
    ForwardError,
    InvalidInput,
    InvalidRequest,
    ModelError,
    NoImagery,
    ProviderError,
    RoiTooLarge,
    RSEmbedError,
    SpecError,
    UnknownModel,
    UnknownOption,
    UnknownProvider,
    Unsupported,
)
from rs_embed_core.inputs import Variant
from rs_embed_core.providers import get_provider, provider_names
from rs_embed_core.weights import HubFile
from tests.unit.small_cards import averages_card, failing_card, registered

PLACE = PointBuffer(11.5, 48.1, 320)
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
ROIS = [
    PLACE,
    BBox(11.5, 48.1, 11.51, 48.102),
    PointBuffer(11.6, 48.2, 200),
    PointBuffer(-60.2, -12.0, 320),
    BBox(11.5, 48.1, 11.503, 48.12),
    PointBuffer(25.0, 62.5, 320),
    PointBuffer(11.7, 48.3, 200),
]


@pytest.fixture
def defaults() -> Iterator[None]:
    yield
    configure(offline=False, default_backend="synthetic")


def embed(spatial: object = PLACE, **ask: object) -> np.ndarray:
    return np.asarray(get_embedding("mosaiks", spatial=spatial, device="cpu", **ask).data)


# --- what is refused ---------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, object], type[RSEmbedError], type[RSEmbedError], str]] = [
    ("no ROI", {"spatials": []}, InvalidRequest, SpecError, "at least one"),
    ("text", {"spatials": "11.5,48.1"}, InvalidRequest, SpecError, "list of BBox"),
    ("one ROI", {"spatials": PLACE}, InvalidRequest, SpecError, "list of BBox"),
    ("generator", {"spatials": (roi for roi in ROIS)}, InvalidRequest, SpecError, "list of BBox"),
    ("tuple", {"spatials": [PLACE, (11, 48, 12, 49)]}, InvalidRequest, SpecError, "ROI 1"),
    ("sensor and fetch", {"sensor": SensorSpec("C", ("B4",)), "fetch": FetchSpec()}, InvalidRequest, SpecError, "both"),
    ("output", {"output": "grid"}, InvalidRequest, SpecError, "OutputSpec"),
    ("temporal", {"temporal": "2022"}, InvalidRequest, SpecError, "TemporalSpec"),
    ("input_prep", {"input_prep": "crop"}, InvalidRequest, SpecError, "resize, tile, auto"),
    ("config", {"model_config": "large"}, InvalidRequest, SpecError, "object"),
    ("model", {"model": "mosaik"}, UnknownModel, ModelError, "Did you mean mosaiks"),
    ("far from any", {"model": "zzzz"}, UnknownModel, ModelError, "Known models: "),
    ("no model", {"model": ""}, InvalidRequest, SpecError, "model"),
    ("variant", {"model_config": {"variant": "huge"}}, UnknownOption, ModelError, "Variants are gaussian"),
    ("key", {"model_config": {"sead": 1}}, UnknownOption, ModelError, "seed"),
    ("value", {"model_config": {"features": 7}}, UnknownOption, ModelError, "steps of 2"),
    ("modality", {"modality": "s1"}, UnknownOption, ModelError, "Modalities are s2"),
    ("bands", {"model": "dofa", "sensor": SensorSpec("C", ("B1",))}, InvalidInput, ModelError, "B12"),
    ("backend", {"backend": "gees"}, UnknownProvider, ProviderError, "synthetic"),
    ("no device", {"device": None}, InvalidRequest, SpecError, "auto, cpu, cuda or mps"),
    ("device", {"device": "gpu"}, Unsupported, ModelError, "auto, cpu, cuda or mps"),
    ("too large", {"spatials": [PLACE, PointBuffer(0, 0, 1e6)]}, RoiTooLarge, SpecError, "smaller ROI"),
    ("beyond the map", {"spatials": [PLACE, BBox(0, 86, 1, 87)]}, InvalidRequest, SpecError, "85.05"),
    ("a point beyond", {"spatials": [PointBuffer(0, 89, 320)]}, InvalidRequest, SpecError, "85.05"),
    ("before the sensor", {"temporal": TemporalSpec.year(1980)}, NoImagery, ProviderError, "1980"),
]


@pytest.mark.parametrize(
    ("change", "error", "family", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_makes_no_sense_is_refused_with_a_way_out(change, error, family, says):
    with pytest.raises(family) as caught:
        get_embeddings_batch(**{"model": "mosaiks", "spatials": [PLACE], "device": "cpu", **change})
    assert type(caught.value) is error
    assert caught.value.hint
    assert says in str(caught.value)


@pytest.mark.parametrize("position", [0, 1, 5])
def test_the_roi_that_failed_is_named(position):
    rois: list[object] = list(ROIS)
    rois[position] = PointBuffer(0, 0, 1e6)
    with pytest.raises(RoiTooLarge) as caught:
        get_embeddings_batch("mosaiks", spatials=rois, device="cpu")
    assert caught.value.context["index"] == position


def test_an_error_that_a_provider_keeps_names_the_roi_of_each_call():
    known = NoImagery("nothing here.", context={"collection": "S2"})

    @dataclass
    class Nothing:
        name: str = "nothing"

        def fetch(self, plan: FetchPlan) -> Chip:
            raise known

    register_provider("nothing", Nothing())
    with pytest.raises(NoImagery) as caught:
        get_embeddings_batch("mosaiks", spatials=ROIS, backend="nothing", device="cpu")
    assert caught.value.context == {"collection": "S2", "index": 0}
    assert known.context == {"collection": "S2"}


def test_the_first_of_several_failures_is_told():
    rois = [*ROIS[:2], PointBuffer(0, 0, 1e6), BBox(0, 86, 1, 87)]
    with pytest.raises(RoiTooLarge) as caught:
        get_embeddings_batch("mosaiks", spatials=rois, device="cpu")
    assert caught.value.context["index"] == 2


def test_a_failure_of_the_network_names_its_roi():
    with pytest.raises(InvalidInput, match="at least 3 px") as caught:
        get_embeddings_batch("mosaiks", spatials=[PLACE, PointBuffer(11.5, 48.1, 4), PLACE], device="cpu")
    assert caught.value.context["index"] == 1
    fetch = SensorSpec("COPERNICUS/S2_SR_HARMONIZED", ("B4", "B3"))
    with registered(failing_card("nan")), pytest.raises(ForwardError, match="not finite") as caught:
        get_embeddings_batch("mosaiks", spatials=ROIS, sensor=fetch, device="cpu")
    assert caught.value.context["index"] == 0


# --- what comes back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [OutputSpec.pooled(), OutputSpec.pooled("max"), OutputSpec.grid()])
@pytest.mark.parametrize("prep", ["resize", InputPrepSpec.tile(tile_size=32)])
def test_a_batch_is_in_order_and_equal_to_single_calls(output, prep):
    """Shapes that differ, in batches of three that end within the list."""
    with registered(replace(averages_card(), variants={"gaussian": Variant(2, batch_size=3)})):
        how = {"output": output, "input_prep": prep, "device": "cpu"}
        sensor = SensorSpec("COPERNICUS/S2_SR_HARMONIZED", ("B4", "B8"))
        together = get_embeddings_batch("mosaiks", spatials=ROIS, sensor=sensor, **how)
        alone = [get_embedding("mosaiks", spatial=roi, sensor=sensor, **how) for roi in ROIS]
    assert len(together) == len(ROIS)
    for ours, expected, roi in zip(together, alone, ROIS, strict=True):
        np.testing.assert_allclose(ours.data, expected.data, rtol=1e-5)
        assert ours.meta["roi"] == roi.to_dict()
        assert ours.meta.keys() == expected.meta.keys()


def test_real_models_agree_in_batches_too():
    rois = [PLACE, ROIS[2], ROIS[3], ROIS[6]]  # of two shapes, mixed
    together = get_embeddings_batch("mosaiks", spatials=rois, device="cpu")
    for ours, roi in zip(together, rois, strict=True):
        expected = embed(roi)
        np.testing.assert_allclose(ours.data, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_tuple_of_rois_is_a_list():
    assert len(get_embeddings_batch("mosaiks", spatials=tuple(ROIS[:2]), device="cpu")) == 2


def test_the_same_call_gives_the_same_numbers():
    np.testing.assert_array_equal(embed(), embed())
    np.testing.assert_array_equal(embed(), embed(temporal=SUMMER, backend="synthetic", modality="S2"))
    assert (embed() != embed(model_config={"seed": 1})).any()
    assert (embed() != embed(temporal=TemporalSpec.year(2021))).any()
    assert embed(model_config={"features": 64}).shape == (64,)


def test_a_default_window_is_said():
    codes = [notice["code"] for notice in get_embedding("mosaiks", spatial=PLACE).meta["notices"]]
    assert codes == ["default_window", "synthetic_imagery"]
    meta = get_embedding("mosaiks", spatial=PLACE, temporal=TemporalSpec.year(2021)).meta
    assert [notice["code"] for notice in meta["notices"]] == ["synthetic_imagery"]
    assert meta["temporal"] == {"mode": "year", "year": 2021, "start": "2021-01-01", "end": "2022-01-01"}


def test_settings_are_in_the_meta():
    fetch = FetchSpec(scale_m=20, cloudy_pct=5)
    meta = get_embedding("MOSAIKS ", spatial=PLACE, fetch=fetch, model_config={"seed": 3}).meta
    assert (meta["model"], meta["variant"], meta["modality"]) == ("mosaiks", "gaussian", "s2")
    filters = {"features": 512, "kernel_size": 3, "bias": -1.0, "seed": 3}
    assert meta["model_config"] == {**filters, "value_low": 0, "value_span": 10_000}
    assert (meta["sensor"]["scale_m"], meta["sensor"]["cloudy_pct"]) == (20, 5)
    assert meta["frames"] == {"requested": 1, "used": 1, "distinct": 1, "empty": 0}
    assert meta["acquisitions"]


# --- providers and defaults --------------------------------------------------------------------------------


@dataclass
class Flat:
    """Imagery of one value."""

    value: float
    name: str = "flat"

    def fetch(self, plan: FetchPlan) -> Chip:
        shape = (len(plan.frames), len(plan.bands), plan.grid.height, plan.grid.width)
        data = np.full(shape, self.value, np.float32)
        return Chip(data, plan.grid, plan.bands, plan.frames, self.name, plan.collection)


def test_a_registered_provider_is_read_by_name():
    register_provider("flat", Flat(2000))
    assert "flat" in provider_names()
    assert isinstance(get_provider("flat"), Flat)
    first = get_embedding("mosaiks", spatial=PLACE, backend="flat")
    assert first.meta["backend"] == "flat"
    assert first.meta["notices"][0]["code"] == "default_window"
    register_provider("flat", Flat(4000))  # the newest of a name
    assert (embed(backend="flat") != first.data).any()
    register_provider("holes", Flat(float("nan"), "holes"))
    with pytest.raises(NoImagery, match="missing here"):
        embed(backend="holes")


@pytest.mark.usefixtures("defaults")
def test_the_default_backend_is_configured():
    register_provider("flat", Flat(2000))
    configure(default_backend="flat")
    assert get_embedding("mosaiks", spatial=PLACE).meta["backend"] == "flat"
    configure()  # leaves everything as it is
    assert get_embedding("mosaiks", spatial=PLACE).meta["backend"] == "flat"
    assert get_embedding("mosaiks", spatial=PLACE, backend="synthetic").meta["backend"] == "synthetic"


@pytest.mark.usefixtures("defaults")
def test_missing_weights_say_where_to_put_them(tmp_path: Path):
    configure(checkpoints_root=tmp_path, offline=True)
    register_provider("flat", Flat(2000))
    card = replace(averages_card(), id="galileo")
    weights = replace(averages_card().variants["gaussian"], weights=HubFile("nobody/nothing", "model.pt", "main"))
    with registered(replace(card, variants={"gaussian": weights})), pytest.raises(CheckpointError) as caught:
        get_embeddings_batch("galileo", spatials=ROIS[:2], sensor=SensorSpec("ANY", ("VV", "VH")), backend="flat")
    assert f"{tmp_path}/nobody/nothing/model.pt" in str(caught.value)
    assert caught.value.context["index"] == 0


# --- one's own pixels: what is refused ---------------------------------------------------------------------

PIXELS = np.full((10, 32, 32), 1500, np.float32)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "at least one"),
        (UserData(PIXELS, "C"), "list"),
        (PIXELS, "list"),
        ([UserData(PIXELS, "C"), PIXELS], "item 1 is a ndarray"),
        ([None], "item 0"),
    ],
)
def test_what_is_no_list_of_data_is_refused(data, says):
    with pytest.raises(InvalidRequest, match=says):
        get_embeddings_batch_from_data("mosaiks", data)


@pytest.mark.parametrize("position", [0, 2])
def test_the_array_that_failed_is_named(position):
    data = [UserData(PIXELS, "C")] * 3
    data[position] = UserData(PIXELS[:4], "C")
    with pytest.raises(InvalidInput, match="4 bands") as caught:
        get_embeddings_batch_from_data("mosaiks", data)
    assert caught.value.context["index"] == position
