"""Google's satellite embedding, annual: a precomputed product on Earth Engine. Facts: golden/gse/spec.md."""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard, Product
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.finished import BlankMissing, PoolPixels
from rs_embed_core.preprocessing.time import CalendarYear, FirstFrame

_DIM = 64
_MISSING = -9999.0  # golden/gse/spec.md, "Request"

CARD = ModelCard(
    id="gse",
    aliases=(Alias("gse_annual"),),
    title="Google Satellite Embedding V1 (AlphaEarth Foundations), annual",
    summary="Precomputed: 64 values for every 10 m pixel and year since 2017, read from Earth Engine.",
    paper="https://arxiv.org/abs/2507.22291",
    code="https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_SATELLITE_EMBEDDING_V1_ANNUAL",
    licence_code="none (a data product)",
    licence_weights="CC-BY-4.0 (the data)",
    inputs=(
        Input(
            modality="embedding",
            collection="GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL",
            bands=tuple(f"A{i:02d}" for i in range(_DIM)),
            shape=Shape(64, patch_size=1, fit="native"),  # no network: any size is taken
            chain=Chain(BlankMissing(_MISSING), FirstFrame(), PoolPixels("ignore")),
            time=CalendarYear(),
            cloudy_pct=None,
            composite="mosaic",
            fill_value=_MISSING,
            region="rectangle",
        ),
    ),
    network=None,
    product=Product("gee"),
    default_window=None,
    variants={"annual": Variant(dim=_DIM)},
    default_variant="annual",
    notes=(
        "Pixels are unit vectors; the mean of several is not one, and nothing renormalises it.",
        "Pixels without an embedding are NaN in a grid and left out of a vector.",
    ),
)
