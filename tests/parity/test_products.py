"""Every golden case of the precomputed products, through the public API and the real readers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

import rs_embed_core
from rs_embed_core import BBox, OutputSpec, PointBuffer, TemporalSpec
from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.geo import bounds_of, to_lonlat
from rs_embed_core.providers import register_provider
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.copernicus import CopernicusProvider, CopernicusSettings
from rs_embed_core.providers.tessera import TesseraProvider, TesseraSettings
from rs_embed_core.registry import get_card, register_model
from tests.parity.golden import Case, assert_close, cases, golden_dir, load_case, recipe, strided

_OUTPUTS = (
    (OutputSpec.pooled(), ("pooled_mean",)),
    (OutputSpec.pooled("max"), ("pooled_max",)),
    (OutputSpec.grid(), ("grid", "allow_nan_grid")),
)


@dataclass(frozen=True)
class Sampled:
    """The pixels of a gse case, -9999 where the collection has none, wherever they are asked for."""

    pixels: NDArray[np.float32]  # [D, H, W]
    name: str = "golden"

    def fetch(self, plan: FetchPlan) -> Chip:
        grid = plan.grid.with_shape(*self.pixels.shape[1:])
        valid = (self.pixels != -9999).all(axis=0)[None]
        data = np.where(valid, self.pixels, plan.fill_value)[None].astype(np.float32)
        return Chip(data, grid, plan.bands, plan.frames, self.name, plan.collection, valid)


def _params() -> Iterator[object]:
    for model in ("gse", "tessera", "copernicus"):
        for name in cases(model, level="product"):
            yield pytest.param(model, name, id=f"{model}-{name}")


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    """The card as it was."""
    card = get_card("copernicus")[0]
    yield
    register_model(card)


def _fewer_bands(count: int) -> None:
    """Copernicus with as many bands as the case's file has."""
    card = get_card("copernicus")[0]
    entry = replace(card.inputs[0], bands=card.inputs[0].bands[:count])
    register_model(replace(card, inputs=(entry,)))


@pytest.mark.parametrize(("model", "name"), list(_params()))
def test_a_product_gives_the_reference_s_numbers(model: str, name: str, tmp_path: Path) -> None:
    case = load_case(model, name)
    register_provider("golden", _reader(case, tmp_path))
    if model == "copernicus":
        _fewer_bands(case.spec["sample"]["bands"])
    seen = 0
    for output, tensors in _OUTPUTS:
        for tensor in tensors:
            if tensor not in case.tensors:
                continue
            ours = rs_embed_core.get_embedding(
                model,
                spatial=_spatial(case.spec["spatial"]),
                temporal=_temporal(case.spec["temporal"]),
                output=output,
                backend="golden",
            )
            full = np.asarray(ours.data)
            stride = case.spec.get("grid_stride", 1) if output.mode == "grid" else 1
            assert_close(strided(full, stride), case.tensors[tensor])
            _check_meta(ours.meta, case)
            seen += 1
    assert seen == len(case.tensors)


def _reader(case: Case, folder: Path) -> Provider:
    if case.model == "gse":
        given = case.spec["input"]
        shape, seed = tuple(given["shape"]), given["seed"]
        pixels = recipe.patch(shape, seed=seed, low=given["low"], high=given["high"]) * given["scale"] + given["offset"]
        for rows, columns in given["fill_boxes"]:
            pixels[:, slice(*rows), slice(*columns)] = given["fill_value"]
        return Sampled(pixels.astype(np.float32))
    sample = golden_dir(case.model) / "sample"
    if case.model == "tessera":
        return TesseraProvider(TesseraSettings(root=sample, offline=True))
    path = sample if case.name == "sample_file" else _map(case.spec["sample"], folder / "embed_map_310k.tif")
    return CopernicusProvider(CopernicusSettings(path, minimum_bytes=0))


def _map(spec: dict[str, object], path: Path) -> Path:
    """A map of the case's bands, zero but for a window of recipe values."""
    bands = int(str(spec["bands"]))
    values = np.zeros((bands, 721, 1440), np.float32)
    window = recipe.patch((bands, 96, 112), seed=int(str(spec["seed"])), low=0, high=4001)
    values[:, 160:256, 720:832] = window * 0.001 - 2
    profile = {"driver": "GTiff", "count": bands, "height": 721, "width": 1440, "dtype": "float32"}
    interleave = "pixel" if spec["planar"] == "contig" else "band"
    place = {"transform": Affine(0.25, 0, -180.125, 0, -0.25, 90.125)} if spec["georeference_tags"] else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # that is the case
        with rasterio.open(path, "w", interleave=interleave, **profile, **place) as file:
            file.write(values)
    return path


def _spatial(given: dict[str, dict[str, float]]) -> BBox | PointBuffer:
    return BBox(**given["bbox"]) if "bbox" in given else PointBuffer(**given["point"])


def _temporal(given: dict[str, int | str]) -> TemporalSpec:
    return TemporalSpec.year(int(given["year"])) if "year" in given else TemporalSpec.range(**given)  # type: ignore[arg-type]


def _check_meta(meta: dict[str, object], case: Case) -> None:
    """What the reference reports too, in its spelling or ours."""
    said = case.spec["meta"]
    assert meta["type"] == "precomputed"
    assert meta["temporal"] == said["temporal"]
    assert meta["image_size"] is None
    facts = meta["facts"]
    assert isinstance(facts, dict)
    for fact in ("nodata_fraction", "coverage"):
        if fact in said:
            assert facts[fact] == pytest.approx(said[fact])


def test_a_grid_lies_where_the_roi_is() -> None:
    register_provider(
        "golden",
        TesseraProvider(TesseraSettings(root=golden_dir("tessera") / "sample", offline=True)),
    )
    place = PointBuffer(0.15, 52.05, 300)
    grid = rs_embed_core.get_embedding(
        "tessera", spatial=place, temporal=TemporalSpec.year(2024), output=OutputSpec.grid(), backend="golden"
    ).data
    bounds = bounds_of(place)
    assert not isinstance(grid, np.ndarray)
    assert grid.shape == (128, 61, 61)
    assert abs(float(grid.x[30]) - (bounds.west + bounds.east) / 2) < 10
    lon, lat = to_lonlat(float(grid.x[30]), float(grid.y[30]))
    assert (lon, lat) == pytest.approx((0.15, 52.05), abs=2e-4)
