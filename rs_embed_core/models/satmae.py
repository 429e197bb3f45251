"""SatMAE: a masked autoencoder of fMoW's RGB images. Facts: golden/satmae/spec.md."""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Shapes, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import Resize8Bit
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import REFLECTANCE_TO_BYTES, Divide, FillMissing, Standardize
from rs_embed_core.specs.request import OptionValue
from rs_embed_core.weights import HubFile

_BANDS = ("B4", "B3", "B2")
# of fMoW-RGB, red first: sustainlab-group/SatMAE, util/datasets.py, class CustomDatasetFromImages
_MEAN = (0.4182007312774658, 0.4214799106121063, 0.3991275727748871)
_STD = (0.28774282336235046, 0.27541765570640564, 0.2764017581939697)
_IMAGE_SIZE = 224
_REFERENCE_EPS = 1e-5  # torch's default, left in place by the wrapper that rs-embed uses (same place)
_OFFICIAL_EPS = 1e-6  # the authors' training code (golden/satmae/spec.md, "Network")


def _build(variant: Variant, options: Options, shapes: Shapes) -> dict[str, OptionValue]:
    del shapes
    arguments = dict(variant.build)
    if options["preprocessing"] == "official":
        arguments["eps"] = _OFFICIAL_EPS
    return arguments


CARD = ModelCard(
    id="satmae",
    title="SatMAE",
    summary="Masked autoencoder (ViT-L/16) of high-resolution RGB images all over the world.",
    paper="https://arxiv.org/abs/2207.08051",
    code="https://github.com/sustainlab-group/SatMAE",
    licence_code="CC-BY-NC-4.0",
    licence_weights="not stated on the Hub page",
    aliases=(Alias("satmae_rgb"),),
    inputs=(
        Input(
            modality="rgb",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=_BANDS,
            shape=Shape(_IMAGE_SIZE, patch_size=16, fit="stretch"),
            chain=Chain(
                FillMissing(0.0),
                *REFLECTANCE_TO_BYTES,
                Resize8Bit(_IMAGE_SIZE),
                Divide(255),
                Standardize(mean=tuple(zip(_BANDS, _MEAN, strict=True)), std=tuple(zip(_BANDS, _STD, strict=True))),
                FirstFrame(),
            ),
        ),
    ),
    network="rs_embed_core.networks.vit:build",
    build=_build,
    variants={
        "large": Variant(
            dim=1024,
            build=(("dim", 1024), ("depth", 24), ("heads", 16), ("eps", _REFERENCE_EPS)),
            weights=HubFile(
                "MVRL/satmae-vitlarge-fmow-pretrain-800",
                "model.safetensors",
                revision="172006a",
                unused=("mask_token", "decoder_*"),  # the autoencoder's other half
            ),
            parameters_m=303.3,
            sample_mb=9.7,
            aliases=("l",),
        ),
    },
    default_variant="large",
    options=(
        Option(
            "preprocessing",
            "rs-embed",
            "official: the authors' layer norms, which add 1e-6 to the variance instead of rs-embed's 1e-5.",
            "build",
            choices=("rs-embed", "official"),
        ),
    ),
    departs="The layer norms add 1e-5 to the variance, as in rs-embed; preprocessing=official adds the authors' 1e-6.",
    notes=("The grid is in order: in rs-embed its cells are shuffled anew on every call.",),
)
