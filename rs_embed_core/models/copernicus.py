"""Copernicus-Embed: one precomputed global map at 0.25 degree for 2021. Facts: golden/copernicus/spec.md."""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard, Product
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.finished import PoolPixels
from rs_embed_core.preprocessing.time import CalendarYear, FirstFrame

_DIM = 768
_CELL_M = 27_830  # 0.25 degree at the equator

CARD = ModelCard(
    id="copernicus",
    aliases=(Alias("copernicus_embed"),),
    title="Copernicus-Embed-025deg",
    summary="Precomputed: 768 values for every cell of 0.25 degree, one global map of 2021.",
    paper="https://arxiv.org/abs/2503.11849",
    code="https://github.com/zhu-xlab/Copernicus-FM",
    licence_code="CC-BY-4.0",
    licence_weights="CC-BY-4.0 (the data)",
    inputs=(
        Input(
            modality="embedding",
            collection="torchgeo/copernicus_embed",
            bands=tuple(f"C{i:03d}" for i in range(_DIM)),
            shape=Shape(64, patch_size=1, fit="native"),  # no network: any size is taken
            chain=Chain(FirstFrame(), PoolPixels("spread")),
            time=CalendarYear(),
            scale_m=_CELL_M,
            cloudy_pct=None,
            composite="mosaic",
            region="degrees",
        ),
    ),
    network=None,
    product=Product("copernicus"),
    default_window=None,
    variants={"025deg": Variant(dim=_DIM)},
    default_variant="025deg",
    notes=("Cells lie on a grid of degrees (EPSG:4326), not in EPSG:3857. Ocean cells are 0 and count in a vector.",),
)
