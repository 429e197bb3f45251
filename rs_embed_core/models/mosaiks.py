"""MOSAIKS: random convolutional features. No weights to fetch: the embedded default. Facts: golden/mosaiks/spec.md."""

from __future__ import annotations

from collections.abc import Mapping

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Shapes, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import ShrinkTo
from rs_embed_core.preprocessing.reject import RejectBelow
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Clip, FillMissing, Multiply, Rescale
from rs_embed_core.specs.request import OptionValue

_CELL_PX = 8
_FEATURES = 512
_REFLECTANCE = 10_000.0  # a reflectance of 1
_FILTERS = ("features", "kernel_size", "bias", "seed")


def _build(variant: Variant, options: Options, shapes: Shapes) -> Mapping[str, OptionValue]:
    """The filters depend on how many bands the image has."""
    return {**dict(variant.build), "in_channels": shapes["image"][0], **{name: options[name] for name in _FILTERS}}


def _chain(options: Options) -> Chain:
    """Sentinel-2's numbers as the reference scales them, those of other sensors by the range that is said."""
    low, span = float(options["value_low"]), float(options["value_span"])
    steps: tuple[Step, ...] = (FillMissing(low), Rescale(low, span))
    if (low, span) == (0, _REFLECTANCE):  # below 1 they would be next to nothing: decibels, or scaled already
        steps = (RejectBelow(1.0), FillMissing(low), Clip(0, 10_000), Multiply(1e-4))
    return Chain(*steps, ShrinkTo(256), FirstFrame())


CARD = ModelCard(
    id="mosaiks",
    title="MOSAIKS random convolutional features",
    summary="Fixed random filters over any bands: no training, no weights, always available.",
    paper="https://doi.org/10.1038/s41467-021-24638-z",
    code="https://github.com/torchgeo/torchgeo",
    licence_code="MIT",
    licence_weights="none needed",
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
            other_bands="any",
            shape=Shape(256, patch_size=_CELL_PX, fit="native"),
            chain=_chain,
        ),
    ),
    network="rs_embed_core.networks.rcf:build",
    build=_build,
    variants={
        "gaussian": Variant(
            dim=_FEATURES, build=(("cell_px", _CELL_PX),), parameters_m=0.0, batch_size=64, sample_mb=7.6
        ),
    },
    default_variant="gaussian",
    options=(
        Option(
            "features",
            _FEATURES,
            "Length of the vector: half of it filters.",
            "build",
            minimum=2,
            maximum=8192,
            multiple_of=2,
        ),
        Option("kernel_size", 3, "Side of a filter in pixels.", "build", minimum=1, maximum=15),
        Option("bias", -1.0, "Added to every filter's response.", "build", minimum=-10, maximum=10),
        Option(
            "seed",
            0,
            "Draws the filters; another seed is another embedding.",
            "build",
            minimum=0,
            maximum=2**31,
        ),
        Option("value_low", 0.0, "Pixel value that the filters see as 0.", "prepare", minimum=-1e6, maximum=1e6),
        Option(
            "value_span",
            _REFLECTANCE,
            "Pixel values from what they see as 0 to what they see as 1.",
            "prepare",
            minimum=1e-6,
            maximum=1e6,
        ),
    ),
    notes=(
        (
            "Any bands of any sensor: say their range with value_low and value_span, such as -25 and 25 for radar in "
            "dB, 0 and 255 for 8-bit images. Without them pixels count as Sentinel-2 numbers, 10000 a reflectance of 1."
        ),
        "The same seed gives the same filters on every machine and version (NumPy's frozen legacy stream).",
    ),
)
