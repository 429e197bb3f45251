"""SatMAE++: one network for RGB, another for ten Sentinel-2 bands. Facts: golden/satmaepp/spec.md."""

from __future__ import annotations

import numpy as np

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Shapes, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import Resize
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import (
    REFLECTANCE_TO_BYTES,
    Clip,
    Divide,
    FillMissing,
    Multiply,
    Standardize,
    Truncate,
)
from rs_embed_core.specs.request import OptionValue
from rs_embed_core.weights import HubFile

_COLLECTION = "COPERNICUS/S2_SR_HARMONIZED"
# band: (mean, std) of fMoW-RGB as 0..1: techmn/satmae_pp, util/datasets.py, class CustomDatasetFromImages
_RGB = {
    "B4": (0.4182007312774658, 0.28774282336235046),
    "B3": (0.4214799106121063, 0.27541765570640564),
    "B2": (0.3991275727748871, 0.2764017581939697),
}
# band: (mean, std) of fMoW-Sentinel: the same file, class SentinelIndividualImageDataset
_S2 = {
    "B2": (1184.3824625, 650.2842772),
    "B3": (1120.77120066, 712.12507725),
    "B4": (1136.26026392, 965.23119807),
    "B5": (1263.73947144, 948.9819932),
    "B6": (1645.40315151, 1108.06650639),
    "B7": (1846.87040806, 1258.36394548),
    "B8": (1762.59530783, 1233.1492281),
    "B8A": (1972.62420416, 1364.38688993),
    "B11": (1732.16362238, 1310.36996126),
    "B12": (1247.91870117, 1087.6020813),
}
_REFERENCE_EPS = 1e-5  # rgb: torch's default, left in place by the wrapper that rs-embed uses (golden/satmaepp/spec.md)
_OFFICIAL_EPS = 1e-6  # techmn/satmae_pp, models_mae.py, mae_vit_large_patch16_dec512d8b; s2_10b has it either way
_TILE_SIZE = 224  # of both modalities, although s2_10b's network takes 96 (golden/satmaepp/spec.md, "Configuration")


def _bicubic(size: int) -> Resize:
    return Resize(size, kernel="bicubic", antialias=True, cubic_a=-0.5)


def _to_unit_range() -> Standardize:
    """From mean -+ 2 std to 0..1, with limits in float32 as the reference has them."""
    mean, std = np.array(list(_S2.values()), np.float32).T
    low, high = mean - 2 * std, mean + 2 * std
    return Standardize(
        mean=tuple(zip(_S2, map(float, low), strict=True)),
        std=tuple(zip(_S2, map(float, high - low), strict=True)),
    )


def _build(variant: Variant, options: Options, shapes: Shapes) -> dict[str, OptionValue]:
    del shapes
    arguments = dict(variant.build)
    if options["preprocessing"] == "official":
        arguments["eps"] = _OFFICIAL_EPS
    return arguments


_SIZES = (("dim", 1024), ("depth", 24), ("heads", 16))
_UNUSED = ("mask_token", "decoder_*", "proj_up_*", "up_block*")  # the autoencoder's other half

_RGB_LARGE = Variant(
    dim=1024,
    build=(("modality", "rgb"), *_SIZES, ("eps", _REFERENCE_EPS)),
    weights=HubFile(
        "MVRL/satmaepp_ViT-L_pretrain_fmow_rgb",
        "pytorch_model.bin",
        revision="76e90f3",
        wrappers=("state_dict", "model_state_dict", "model"),
        unused=_UNUSED,
    ),
    parameters_m=303.3,
    sample_mb=9.7,
    aliases=("l",),
)
_S2_LARGE = Variant(
    dim=1024,
    build=(("modality", "s2_10b"), *_SIZES, ("eps", _OFFICIAL_EPS)),
    weights=HubFile(
        "mubashir04/checkpoint_ViT-L_pretrain_fmow_sentinel",
        "checkpoint_ViT-L_pretrain_fmow_sentinel.pth",
        revision="e6792ae99987b96569993306b396c232f27ba8cc",
        sha256="a3c71857fa8c00394d40dd83bdd0a54c92b640c1909bfea148b069b857048af2",
        wrappers=("model",),
        prefixes=("module.",),
        unused=_UNUSED,
    ),
    parameters_m=303.1,
    sample_mb=21.3,
    aliases=("l",),
)

CARD = ModelCard(
    id="satmaepp",
    title="SatMAE++",
    summary="Multi-scale masked autoencoder (ViT-L): RGB in patches of 16, or ten Sentinel-2 bands in patches of 8.",
    paper="https://arxiv.org/abs/2403.05419",
    code="https://github.com/techmn/satmae_pp",
    licence_code="Apache-2.0",
    licence_weights="Apache-2.0",
    aliases=(Alias("satmaepp_rgb"), Alias("satmae++"), Alias("satmaepp_s2_10b", modality="s2_10b")),
    inputs=(
        Input(
            modality="rgb",
            collection=_COLLECTION,
            bands=tuple(_RGB),
            shape=Shape(224, patch_size=16, fit="stretch"),
            chain=Chain(
                FillMissing(0.0),
                *REFLECTANCE_TO_BYTES,
                Divide(255),
                Standardize(
                    mean=tuple((band, row[0]) for band, row in _RGB.items()),
                    std=tuple((band, row[1]) for band, row in _RGB.items()),
                ),
                _bicubic(224),
                FirstFrame(),
            ),
        ),
        Input(
            modality="s2_10b",
            collection=_COLLECTION,
            bands=tuple(_S2),
            shape=Shape(96, patch_size=8, fit="stretch", tile_size=_TILE_SIZE),
            chain=Chain(
                FillMissing(0.0),
                _to_unit_range(),
                Multiply(255),
                Clip(0, 255),
                Truncate(),
                Divide(255),
                _bicubic(96),
                FirstFrame(),
            ),
            variants={"large": _S2_LARGE},
        ),
    ),
    network="rs_embed_core.networks.satmaepp:build",
    build=_build,
    variants={"large": _RGB_LARGE},
    default_variant="large",
    options=(
        Option(
            "preprocessing",
            "rs-embed",
            "official: the authors' layer norms, which add 1e-6 to the variance; rs-embed's add 1e-5 for rgb.",
            "build",
            choices=("rs-embed", "official"),
        ),
    ),
    departs="rgb: layer norms add 1e-5 to the variance, as in rs-embed; preprocessing=official adds the authors' 1e-6.",
    notes=(
        "The grid is in order: in rs-embed its cells are shuffled anew on every call, in s2_10b among the groups too.",
        "s2_10b has three tokens at each place, one a channel group: the grid has their mean, pooled max the maximum.",
    ),
)
