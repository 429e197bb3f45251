"""CROMA: encoders for Sentinel-2, for Sentinel-1 and for both together. Facts: golden/croma/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Source, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing, Multiply, StretchDeviations, Truncate
from rs_embed_core.weights import HubFile

# golden/croma/spec.md, "Input". Of SSL4EO-S12, which it was trained on, surface reflectance (L2A) has these twelve
# bands; top of atmosphere (L1C) has B10 besides: torchgeo 0.10.1, torchgeo/datasets/ssl4eo.py, SSL4EOS12.
_S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
_S2_COLLECTION = "COPERNICUS/S2_SR_HARMONIZED"
_S1_BANDS = ("VV", "VH")
_S1_COLLECTION = "COPERNICUS/S1_GRD"  # in dB: golden/croma/base.json, "input_layout"
_IMAGE_SIZE = 120  # golden/croma/spec.md, "Input"
_LARGEST_IMAGE = 504  # the paper's abstract: images up to 17.6 times as large as in training
_PATCH_SIZE = 8
_DEVIATIONS = 2  # README.md of antofuller/CROMA, normalize


def _shape(options: Options) -> Shape:
    return Shape(int(options["image_size"]), _PATCH_SIZE)


def _chain(options: Options) -> Chain:
    eight_bit: tuple[Step, ...] = (Multiply(255), Truncate(), Divide(255)) if options["eight_bit"] else ()
    return Chain(
        StretchDeviations(_DEVIATIONS),
        FillMissing(0.5),  # the mean of what is there
        Clip(0, 1),
        *eight_bit,
        PadToSquare(),
        Resize(int(options["image_size"])),
        FirstFrame(),
    )


# The files of torchgeo's conversion, at the commits that torchgeo/models/croma.py names
_FILES = {
    "base": ("CROMA_base-0238d814.pt", "387883f08af79d777167519c57cd826eda89a16f"),
    "large": ("CROMA_large-921e69ad.pt", "92cb1a0f4e34c6c01558baf070197c01255382f6"),
}
_PARTS = {
    "s2": ("s2_encoder", "s2_GAP_FFN"),
    "s1": ("s1_encoder", "s1_GAP_FFN"),
    "joint": ("s1_encoder", "s2_encoder", "joint_encoder"),
}
_SAMPLE_MB = {
    ("base", "s2"): 9.1,
    ("base", "s1"): 8.5,
    ("base", "joint"): 9.8,
    ("large", "s2"): 11.6,
    ("large", "s1"): 11.1,
    ("large", "joint"): 12.6,
}
_SIZES = {"base": (768, 12), "large": (1024, 24)}  # width, depth of the optical encoder: golden/croma/spec.md


def _variant(size: str, modality: str, parameters_m: float) -> Variant:
    file, revision = _FILES[size]
    dim, depth = _SIZES[size]
    return Variant(
        dim=dim,
        build=(("modality", modality), ("dim", dim), ("depth", depth)),
        weights=HubFile("torchgeo/croma", file, revision, parts=_PARTS[modality]),
        parameters_m=parameters_m,
        batch_size=32 if size == "base" else 16,
        sample_mb=_SAMPLE_MB[size, modality],
    )


CARD = ModelCard(
    id="croma",
    title="CROMA",
    summary="Contrastive radar-optical autoencoder: Sentinel-2, Sentinel-1, or both in one embedding.",
    paper="https://arxiv.org/abs/2311.00566",
    code="https://github.com/antofuller/CROMA",
    licence_code="MIT",
    licence_weights="MIT (the Hub page of torchgeo/croma)",
    inputs=(
        Input(
            modality="s2",
            collection=_S2_COLLECTION,
            bands=_S2_BANDS,
            shape=_shape,
            chain=_chain,
        ),
        Input(
            modality="s1",
            collection=_S1_COLLECTION,
            bands=_S1_BANDS,
            shape=_shape,
            chain=_chain,
            cloudy_pct=None,  # radar scenes have no cloud cover to filter by
            linear=False,
            variants={"base": _variant("base", "s1", 47.3), "large": _variant("large", "s1", 159.6)},
        ),
        Input(
            modality="joint",
            collection=_S2_COLLECTION,
            bands=(*_S2_BANDS, *_S1_BANDS),
            also=(Source(_S1_COLLECTION, _S1_BANDS, cloudy_pct=None, linear=False),),
            shape=_shape,
            chain=_chain,
            variants={"base": _variant("base", "joint", 184.9), "large": _variant("large", "joint", 655.8)},
        ),
    ),
    network="rs_embed_core.networks.croma:build",
    variants={"base": _variant("base", "s2", 90.3), "large": _variant("large", "s2", 311.4)},
    default_variant="base",
    roi_pooling="head",
    options=(
        Option(
            "image_size",
            _IMAGE_SIZE,
            "Side of the input in pixels; the network knows distances, so it takes any whole number of patches.",
            "prepare",
            minimum=_PATCH_SIZE,
            maximum=_LARGEST_IMAGE,
            multiple_of=_PATCH_SIZE,
        ),
        Option(
            "eight_bit",
            False,
            "Round the scaled values down to 256 steps, as the authors' example does.",
            "prepare",
        ),
    ),
    notes=(
        (
            "pooled mean is the authors' image vector: of s2 and s1 the token mean through the published head "
            "(optical_GAP, SAR_GAP), of joint the token mean (joint_GAP). pooled max is the maximum over the tokens. "
            "grid holds the tokens, which the head has not seen."
        ),
        "A rectangular ROI keeps the image vector of the square around it, so that vectors of all ROIs compare.",
        (
            "Each band is scaled by its own mean and deviation in the chip or the tile; the authors take them over the "
            "whole batch, which makes an embedding depend on its neighbours."
        ),
    ),
)
