"""Panopticon: a ViT for any sensor's channels, known by wavelength. Facts: golden/panopticon/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.sar import ToDecibels
from rs_embed_core.preprocessing.side_inputs import Wavelengths
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import FillMissing, StandardizeFrames
from rs_embed_core.weights import HubFile

# Mean of each band's spectral response in nm, and the numbers of radar channels (golden/panopticon/spec.md, "Input").
_CHANNELS = {
    "B1": 442.9,
    "B2": 493.0,
    "B3": 559.6,
    "B4": 664.6,
    "B5": 704.0,
    "B6": 740.6,
    "B7": 782.4,
    "B8": 827.5,
    "B8A": 864.8,
    "B9": 945.0,
    "B10": 1373.4,
    "B11": 1613.9,
    "B12": 2203.6,
    "VV": -1,  # of an unknown orbit, as a composite of both is
    "VH": -2,
    "HH": -3,
    "HV": -4,
    "VV_ASC": -5,
    "VH_ASC": -6,
    "HH_ASC": -7,
    "HV_ASC": -8,
    "VV_DESC": -9,
    "VH_DESC": -10,
    "HH_DESC": -11,
    "HV_DESC": -12,
}
_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
_SIDE_INPUTS = (Wavelengths("chn_ids", tuple(_CHANNELS.items()), nanometres=True),)
_SHAPE = Shape(224, patch_size=14)
_FAINTEST = 1e-10  # -100 dB, as in olmoearth's adapter
_STEPS = (
    StandardizeFrames(),
    FillMissing(0.0),  # the mean
    PadToSquare(),
    Resize(_SHAPE.image_size),
    FirstFrame(),
)

CARD = ModelCard(
    id="panopticon",
    title="Panopticon",
    summary="DINOv2-style ViT-B/14 with attention over channels: any bands of any sensor whose wavelengths are known.",
    paper="https://arxiv.org/abs/2503.10845",
    code="https://github.com/Panopticon-FM/panopticon",
    licence_code="Apache-2.0",
    licence_weights="not verified",
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=_BANDS,
            other_bands="any",
            shape=_SHAPE,
            chain=Chain(*_STEPS),
            side_inputs=_SIDE_INPUTS,
        ),
        Input(
            modality="s1",
            collection="COPERNICUS/S1_GRD",
            bands=("VV", "VH"),
            other_bands="any",
            linear=False,
            cloudy_pct=None,  # radar scenes have no cloud cover to filter by
            shape=_SHAPE,
            chain=Chain(ToDecibels(_FAINTEST), *_STEPS),
            side_inputs=_SIDE_INPUTS,
        ),
    ),
    network="rs_embed_core.networks.panopticon:build",
    variants={
        "vitb14": Variant(
            dim=768,
            build=(("dim", 768), ("depth", 12), ("heads", 12)),
            weights=HubFile(
                "lewaldm/panopticon",
                "panopticon_vitb14_teacher.pth",
                revision="c8c2bb9555819e8b2bcedf5b3b00e3bf531554e7",
                unused=("mask_token",),
            ),
            parameters_m=99.0,
            sample_mb=13.8,
            aliases=("base", "b"),
        ),
    },
    default_variant="vitb14",
    options=(
        Option(
            "vector",
            "patches",
            "What pooled is: the mean or max of the patches, or the class token, which is the model's own output.",
            "forward",
            choices=("patches", "class"),
        ),
    ),
    notes=(
        (
            "It takes the bands of any sensor: call those that it does not know by name by their wavelength, as in "
            "665nm. Radar of a known orbit is VV_ASC, VH_ASC, HH_ASC, HV_ASC, and the same with DESC. Radar and "
            "optical bands may be mixed (radar in decibels, modality s2)."
        ),
        (
            "By default pooled is the mean or max of the patches; vector=class gives the class token, the authors' "
            "own output, for mean and max alike (of a rectangular ROI still the mean or max of its cells)."
        ),
        "Each band is standardised by its own mean and deviation over the image, or over each tile by itself.",
        "Missing pixels are left out of both and count as average.",
        "Sentinel-1 is in decibels; pixels in linear power are converted.",
        "Positions were learned at 518 pixels and are resized to the image's grid, as the authors do.",
    ),
)
