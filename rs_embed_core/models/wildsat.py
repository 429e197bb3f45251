"""WildSAT: ImageNet classifiers, fine-tuned with wildlife observations. Facts: golden/wildsat/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import Resize8Bit
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing, Multiply, StretchTogether, Truncate
from rs_embed_core.specs.request import ModelConfig
from rs_embed_core.weights import HubFile

_IMAGE_SIZE = 224
_FLAT = 1e-6  # reflectances that differ by no more are an empty image: the adapter's own bound
_NORMALIZATIONS: dict[str, tuple[Step, ...]] = {
    "minmax": (StretchTogether(_FLAT),),
    "unit_scale": (),
    "none": (),  # the same as unit_scale: rs-embed knows both names
}


def _chain(options: Options) -> Chain:
    return Chain(
        FillMissing(0.0),
        Clip(0, 10_000),
        Divide(10_000),
        *_NORMALIZATIONS[str(options["normalization"])],
        Multiply(255),
        Clip(0, 255),
        Truncate(),
        Resize8Bit(_IMAGE_SIZE),
        Divide(255),
        FirstFrame(),
    )


def _weights(file: str, drive_id: str) -> HubFile:
    """A file of the authors' Google Drive, whose id stands for the revision: they are on no Hub."""
    return HubFile(
        "cvl-umass/wildsat",
        file,
        revision=drive_id,
        wrappers=("satellite_state_dict", "state_dict"),
        convert="rs_embed_core.networks.wildsat:image_head",
        url=f"https://drive.google.com/uc?id={drive_id}",
    )


def _variant(backbone: str, parameters_m: float, sample_mb: float, drive_id: str, aliases: tuple[str, ...]) -> Variant:
    return Variant(
        dim=256,
        build=(("backbone", backbone),),
        weights=_weights(f"{backbone}-imagenet-bnfc.pth", drive_id),
        parameters_m=parameters_m,
        sample_mb=sample_mb,
        aliases=aliases,
    )


def _plain_name(config: ModelConfig) -> ModelConfig:
    """The variant without ``-`` and ``_``, which rs-embed ignores there."""
    return tuple(
        (key, value.replace("-", "").replace("_", "") if key == "variant" and isinstance(value, str) else value)
        for key, value in config
    )


CARD = ModelCard(
    id="wildsat",
    title="WildSAT",
    summary="RGB classifiers tuned to agree with wildlife observations; ViT-B/16, ResNet-50 or Swin-T.",
    paper="https://arxiv.org/abs/2412.14428",
    code="https://github.com/cvl-umass/wildsat",
    licence_code="not stated",
    licence_weights="not stated",
    inputs=(
        Input(
            modality="rgb",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=("B4", "B3", "B2"),
            shape=Shape(_IMAGE_SIZE, patch_size=16, fit="stretch"),
            chain=_chain,
        ),
    ),
    network="rs_embed_core.networks.wildsat:build",
    variants={
        "vitb16": _variant("vitb16", 86.8, 8.5, "1IxBpf3nbEMzny4YJWS6stMBxel6gMiYE", ("vitbase16", "vit")),
        "resnet50": _variant("resnet50", 25.8, 10.4, "1LwCjzT1p0yFOtv1m0YD-rl7tP0eYXTb2", ("resnet",)),
        "swint": _variant("swint", 28.5, 14.5, "12rfb3ES9-RuIAk_RjzYrMQJG_5J1Iq5H", ("swintiny", "swin")),
    },
    default_variant="vitb16",
    options=(
        Option(
            "normalization",
            "minmax",
            "Stretch all bands together to 0..1, or keep the reflectances (unit_scale and none alike).",
            "prepare",
            choices=tuple(_NORMALIZATIONS),
        ),
    ),
    roi_pooling="head",
    config_aliases=_plain_name,
    notes=(
        "pooled is the image head's vector (256), for mean and max alike.",
        (
            "grid of vitb16 holds the transformer's patch tokens (768), which live in another space than pooled; grid "
            "of resnet50 and swint is the vector as a single cell."
        ),
        (
            "A rectangular ROI keeps the vector of the square around it (rs-embed averages vitb16's grid there, so "
            "the vector's dimension changes with the ROI's shape)."
        ),
        "The stretch is that of the whole image, so equal ground differs between a tiled and an untiled request.",
        "The weights are on Google Drive only: the revision is the file's id there.",
    ),
)
