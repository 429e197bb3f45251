"""What every model makes of odd pixels, and what it refuses: the caller's own data, small published weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import rs_embed_core
from rs_embed_core import (
    Embedding,
    PointBuffer,
    TemporalSpec,
    UserData,
    get_embedding,
    get_embedding_from_data,
    list_models,
)
from rs_embed_core.card import ModelCard
from rs_embed_core.errors import InvalidInput, NoImagery
from rs_embed_core.plan import recipe
from rs_embed_core.registry import get_card, register_model
from rs_embed_core.specs.request import Ask
from tests.parity.golden import load_case
from tests.parity.published import SMALL, publish

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
PLACE = PointBuffer(8.5, 47.3, 160)
NETWORKS = [model for model in list_models() if get_card(model)[0].product is None]


@pytest.fixture(scope="module", params=NETWORKS)
def card(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelCard]:
    """Every model with weights that a test can afford."""
    kept = get_card(request.param)[0]
    if request.param in SMALL:
        root = tmp_path_factory.mktemp(request.param)
        register_model(publish(load_case(request.param, SMALL[request.param]), root))
        rs_embed_core.configure(checkpoints_root=root, offline=True)
    yield get_card(request.param)[0]
    register_model(kept)
    rs_embed_core.configure()


def pixels(card: ModelCard, height: int = 40, width: int = 40) -> np.ndarray:
    """Plausible numbers for all frames of the first modality, none like the other."""
    bands = card.inputs[0].bands
    frames = len(recipe(Ask(card.id, temporal=SUMMER)).frames)
    shape = (frames, len(bands), height, width) if frames > 1 else (len(bands), height, width)
    return np.random.default_rng(5).uniform(300, 4000, shape).astype(np.float32)


def embed(card: ModelCard, data: np.ndarray, bands: tuple[str, ...] | None = None) -> Embedding:
    entry = card.inputs[0]
    item = UserData(data, entry.collection, spatial=PLACE, bands=bands or entry.bands, temporal=SUMMER)
    return get_embedding_from_data(card.id, item, device="cpu")


def attempt(run: Callable[[], Embedding]) -> Embedding | InvalidInput:
    """What comes of it."""
    try:
        return run()
    except InvalidInput as error:
        return error


def codes(embedding: Embedding) -> list[str]:
    return [notice["code"] for notice in embedding.meta["notices"]]  # type: ignore[index,union-attr,misc]


def test_a_hole_is_filled_and_remarked(card: ModelCard) -> None:
    data = pixels(card)
    data[..., 3:9, 4:12] = np.nan
    embedding = embed(card, data)
    assert np.isfinite(embedding.data).all()
    assert "missing_pixels" in codes(embedding)


def test_a_single_number_that_is_none_spoils_nothing(card: ModelCard) -> None:
    data = pixels(card)
    data.reshape(-1)[7] = np.inf
    assert np.isfinite(embed(card, data).data).all()


def test_pixels_that_are_all_zero_give_finite_numbers(card: ModelCard) -> None:
    data = np.zeros_like(pixels(card))
    if data.ndim == 4:
        data += np.arange(len(data), dtype=np.float32)[:, None, None, None]  # no frame repeats another
    outcome = attempt(lambda: embed(card, data))
    if isinstance(outcome, InvalidInput):  # galileo: values that look normalised already
        assert "raw sensor values" in str(outcome)
    else:
        assert np.isfinite(outcome.data).all()


def test_nothing_but_holes_is_no_imagery(card: ModelCard) -> None:
    with pytest.raises(NoImagery):
        embed(card, np.full_like(pixels(card), np.nan))


@pytest.mark.parametrize(("height", "width"), [(40, 23), (17, 60)])
def test_data_that_is_not_square_has_an_embedding(card: ModelCard, height: int, width: int) -> None:
    square, other = embed(card, pixels(card)), embed(card, pixels(card, height, width))
    assert np.isfinite(other.data).all()
    assert other.data.shape == square.data.shape


def test_a_place_smaller_than_a_patch(card: ModelCard) -> None:
    place = PointBuffer(8.5, 47.3, 12)
    outcome = attempt(lambda: get_embedding(card.id, spatial=place, temporal=SUMMER, device="cpu"))
    if isinstance(outcome, InvalidInput):  # mosaiks: less than a filter
        assert outcome.hint
    else:
        assert np.isfinite(outcome.data).all()


def test_other_bands_than_the_network_takes_are_refused(card: ModelCard) -> None:
    entry = card.inputs[0]
    if entry.other_bands == "any":
        pytest.skip("takes any bands")
    with pytest.raises(InvalidInput, match="band"):
        embed(card, pixels(card)[..., :1, :, :], ("X1",))
    if entry.other_bands == "exact":
        with pytest.raises(InvalidInput, match="exactly"):
            embed(card, pixels(card), entry.bands[::-1])
