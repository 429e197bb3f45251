"""TESSERA: precomputed yearly embeddings of every 10 m pixel, in 0.1 degree tiles. Facts: golden/tessera/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard, Product
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.finished import PoolPixels
from rs_embed_core.preprocessing.time import CalendarYear, FirstFrame

_DIM = 128

CARD = ModelCard(
    id="tessera",
    title="TESSERA",
    summary="Precomputed: 128 values for every 10 m pixel and year, read through the geotessera package.",
    paper="https://arxiv.org/abs/2506.20380",
    code="https://github.com/ucam-eo/geotessera",
    licence_code="MIT",
    licence_weights="see the data set's page",
    inputs=(
        Input(
            modality="embedding",
            collection="tessera",
            bands=tuple(f"T{i:03d}" for i in range(_DIM)),
            shape=Shape(64, patch_size=1, fit="native"),  # no network: any size is taken
            chain=Chain(FirstFrame(), PoolPixels("spread")),
            time=CalendarYear(),
            cloudy_pct=None,
            composite="mosaic",
            region="rectangle",
        ),
    ),
    network=None,
    product=Product("tessera", facts=("coverage", "tiles", "tile_crs", "utm_zones", "dataset_version")),
    default_window=("2021-01-01", "2022-01-01"),
    variants={"v1": Variant(dim=_DIM)},
    default_variant="v1",
    notes=(
        "As in the reference one pixel of water (NaN) makes a pooled vector NaN: see nodata_fraction in meta.",
        "As in the reference pixels that no tile covers count as 0: see coverage in meta.",
    ),
)
