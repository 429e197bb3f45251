"""TerraFM-B: one ViT for Sentinel-2 and Sentinel-1. Facts: golden/terrafm/spec.md."""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import Resize
from rs_embed_core.preprocessing.reject import RejectDecibels
from rs_embed_core.preprocessing.sar import DivideByPercentile, LogPower
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing
from rs_embed_core.weights import HubFile

_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
_SHAPE = Shape(224, patch_size=16, fit="stretch")  # the adapter stretches what is not square
_PERCENT = 99  # the adapter's own Sentinel-1 scaling; the authors publish none

CARD = ModelCard(
    id="terrafm",
    title="TerraFM-B",
    summary="DINO-style ViT-B/16 with patch convolutions of their own for Sentinel-2 and Sentinel-1.",
    paper="https://arxiv.org/abs/2506.06281",
    code="https://github.com/mbzuai-oryx/TerraFM",
    licence_code="not stated in the repository",
    licence_weights="Apache-2.0",
    aliases=(Alias("terrafm_b"),),
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=_BANDS,
            shape=_SHAPE,
            chain=Chain(
                FillMissing(0.0),
                Divide(10_000),
                Clip(0, 1),
                Resize(_SHAPE.image_size),
                FirstFrame(),
            ),
        ),
        Input(
            modality="s1",
            collection="COPERNICUS/S1_GRD_FLOAT",
            bands=("VV", "VH"),
            shape=_SHAPE,
            chain=Chain(
                RejectDecibels(),
                FillMissing(0.0),
                LogPower(),
                DivideByPercentile(_PERCENT),
                Clip(0, 1),
                Resize(_SHAPE.image_size),
                FirstFrame(),
            ),
            cloudy_pct=None,  # radar scenes have no cloud cover to filter by
        ),
    ),
    network="rs_embed_core.networks.terrafm:build",
    variants={
        "base": Variant(
            dim=768,
            build=(("dim", 768), ("depth", 12), ("heads", 12)),  # TerraFM-B of the paper
            weights=HubFile(
                "MBZUAI/TerraFM",
                "TerraFM-B.pth",
                revision="main",
                unused=("head.*",),  # DINO's projection, should the file have it
            ),
            parameters_m=113.0,
            sample_mb=7.3,
            aliases=("b",),
        ),
    },
    default_variant="base",
    options=(
        Option(
            "preprocessing",
            "rs-embed",
            "official: Sentinel-2 goes through the convolution trained on surface reflectance (L2A).",
            "forward",
            choices=("rs-embed", "official"),
        ),
    ),
    notes=(
        (
            "By default surface reflectance (L2A) goes through the convolution for top of atmosphere (L1C), as in "
            "rs-embed: the published forward reaches no other. preprocessing=official takes the one trained on L2A; "
            "the scaling stays, for the authors publish no statistics. Sentinel-1 is the same either way."
        ),
        "pooled is the class token, for mean and max alike; of a rectangular ROI it is the mean or max of its cells.",
        "Sentinel-1 is scaled by the 99th percentile of VV and VH together, of each tile by itself.",
    ),
)
