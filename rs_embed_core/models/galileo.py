"""Galileo: Sentinel-2 time series with masks. Facts: golden/galileo/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.chip import Period
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.side_inputs import Months
from rs_embed_core.preprocessing.time import Frames, stride_count
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing, Standardize, StretchFrames
from rs_embed_core.weights import HubFile

# band: (mean, std) of the adapter's "official_stats"; the authors' own way maps mean +- 2 std to 0..1
_BANDS = {
    "B2": (1395.3408730676722, 917.7041440370853),
    "B3": (1338.4026921784578, 913.2988423581528),
    "B4": (1343.09883810357, 1092.678723527555),
    "B5": (1543.8607982512297, 1047.2206083460424),
    "B6": (2186.2022069512263, 1048.0101611156767),
    "B7": (2525.0932853316694, 1143.6903026819996),
    "B8": (2410.3377187373408, 1098.979177731649),
    "B8A": (2750.2854646886753, 1204.472755085893),
    "B11": (2234.911100061487, 1145.9774063078878),
    "B12": (1474.5311266077113, 980.2429840007796),
}
_STANDARDIZE = Standardize(
    mean=tuple((band, row[0]) for band, row in _BANDS.items()),
    std=tuple((band, row[1]) for band, row in _BANDS.items()),
)
# (x - (mean - 2 std)) / (4 std), no clip: nasaharvest/galileo, src/data/dataset.py, Normalizer with std_multiplier 2
_OFFICIAL = Standardize(
    mean=tuple((band, row[0] - 2 * row[1]) for band, row in _BANDS.items()),
    std=tuple((band, 4 * row[1]) for band, row in _BANDS.items()),
)
_NORMALIZATIONS: dict[str, tuple[Step, ...]] = {
    "none": (),
    "unit_scale": (Divide(10_000),),
    "per_tile_minmax": (Divide(10_000), StretchFrames(1e-6)),
    "official_stats": (_STANDARDIZE,),
}
_STRIDE_DAYS, _MOST_BINS, _MOST_FRAMES = 30, 12, 24


def _chain(options: Options) -> Chain:
    fit = (PadToSquare(), Resize(int(options["image_size"])))
    if options["preprocessing"] == "official":
        return Chain(FillMissing(0.0), *fit, _OFFICIAL)
    normalize = _NORMALIZATIONS[str(options["normalization"])]
    return Chain(FillMissing(0.0), Clip(0, 10_000), *fit, *normalize)


def _shape(options: Options) -> Shape:
    return Shape(int(options["image_size"]), int(options["patch_size"]))


def _frames(window: Period, options: Options) -> int:
    if options["temporal_mode"] == "single":
        return 1
    return int(options["n_frames"]) or stride_count(window, days=_STRIDE_DAYS, at_most=_MOST_BINS)


# The commits that added the files, as public weight registries pin them
_REVISIONS = {
    "nano": "0bbc53293a37dea7d563566f015c5527bdaf3793",
    "tiny": "87d646dd7b63f14d9610694d87f8dc7b5912a6df",
    "base": "f039dd5dde966a931baeda47eb680fa89b253e4e",
}


def _weights(size: str) -> HubFile:
    return HubFile(
        "nasaharvest/galileo",
        f"models/{size}/encoder.pt",
        revision=_REVISIONS[size],
        convert="rs_embed_core.networks.galileo:drop_backbone",
    )


def _variant(size: str, parameters_m: float, sample_mb: float, **build: int) -> Variant:
    return Variant(build["dim"], tuple(build.items()), _weights(size), parameters_m, batch_size=16, sample_mb=sample_mb)


CARD = ModelCard(
    id="galileo",
    title="Galileo",
    summary="Time series of ten Sentinel-2 bands, one frame per 30 days of the window.",
    paper="https://arxiv.org/abs/2502.09356",
    code="https://github.com/nasaharvest/galileo",
    licence_code="MIT",
    licence_weights="MIT",
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_BANDS),
            shape=_shape,
            chain=_chain,
            time=Frames(_frames, at_most=_MOST_FRAMES),
            side_inputs=(Months("months"),),
        ),
    ),
    network="rs_embed_core.networks.galileo:build",
    variants={
        "nano": _variant("nano", 1.0, 7.2, dim=128, depth=4, heads=8),
        "tiny": _variant("tiny", 5.7, 10.8, dim=192, depth=12, heads=3),
        "base": _variant("base", 86.5, 43.3, dim=768, depth=12, heads=12),
    },
    default_variant="nano",
    options=(
        Option(
            "temporal_mode",
            "auto",
            "One frame, or as many as the window gives.",
            "prepare",
            choices=("auto", "single", "multi"),
        ),
        Option(
            "n_frames",
            0,
            "So many frames instead (0: from the window).",
            "prepare",
            minimum=0,
            maximum=_MOST_FRAMES,
        ),
        Option(
            "image_size",
            64,
            "Side of the input in pixels; a multiple of patch_size.",
            "prepare",
            choices=(8, 16, 32, 48, 64, 96, 128),
        ),
        Option("patch_size", 8, "Side of a patch in pixels.", "forward", choices=(1, 2, 4, 8)),
        Option(
            "normalization",
            "none",
            "How values are scaled: rs-embed's choices.",
            "prepare",
            choices=tuple(_NORMALIZATIONS),
        ),
        Option(
            "preprocessing",
            "rs-embed",
            "official: the authors' own scaling, mean +- 2 std to 0..1.",
            "prepare",
            choices=("rs-embed", "official"),
        ),
        Option("exit_norm", True, "Apply the last layer norm.", "forward"),
        Option(
            "month",
            0,
            "Force one calendar month 1..12 for every frame (0: from the dates).",
            "prepare",
            minimum=0,
            maximum=12,
        ),
    ),
    departs=(
        "Values go in as rs-embed scales them, by default not at all (0..10000); preprocessing=official maps "
        "mean +- 2 std to 0..1, as in training."
    ),
    notes=(
        "By default the raw numbers 0..10000 go in, as in rs-embed; preprocessing=official scales as in training.",
        "preprocessing=official stands in place of normalization, and clips nothing.",
    ),
)
