"""AgriFM: Sentinel-2 series for crops, a Video Swin transformer. Facts: golden/agrifm/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.chip import Period
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.time import Frames, RepeatSingle
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing, Standardize
from rs_embed_core.weights import HubFile

# band: (mean, std) of the numbers 0..10000; golden/agrifm/spec.md, "Provider input"
_BANDS = {
    "B2": (4179.192015478227, 4041.5212325268735),
    "B3": (4065.9106675194444, 3691.003119315892),
    "B4": (3957.274910960156, 3629.331318356375),
    "B5": (5207.452475253116, 2973.5178530908756),
    "B6": (4327.12234687, 3569.73343885),
    "B7": (4873.16102239, 3085.9151435),
    "B8": (5049.1637925, 2937.56005119),
    "B8A": (5111.07806856, 2806.04462314),
    "B11": (3056.86349163, 1808.30013156),
    "B12": (2490.9675032, 1694.20220774),
}
_NORMALIZATIONS: dict[str, tuple[Step, ...]] = {
    "agrifm_stats": (
        Standardize(
            mean=tuple((band, row[0]) for band, row in _BANDS.items()),
            std=tuple((band, row[1]) for band, row in _BANDS.items()),
        ),
    ),
    "unit_scale": (Divide(10_000),),
    "none": (),
}
_IMAGE_SIZE = 224  # golden/agrifm/spec.md, "Provider input"
_CELL = 16  # pixels: patches of 2, halved three times
_FRAMES = 8  # golden/agrifm/spec.md, "Provider input"
_MOST_FRAMES = 32  # of more, several are left at the end, and the vector would be longer


def _chain(options: Options) -> Chain:
    values = _NORMALIZATIONS[str(options["normalization"])]
    return Chain(FillMissing(0.0), Clip(0, 10_000), *values, PadToSquare(), Resize(_IMAGE_SIZE), RepeatSingle(_FRAMES))


def _frames(window: Period, options: Options) -> int:
    del window, options
    return _FRAMES


CARD = ModelCard(
    id="agrifm",
    title="AgriFM",
    summary="Time series of ten Sentinel-2 bands, eight frames a window, for crops and fields.",
    paper="https://arxiv.org/abs/2505.21357",
    code="https://github.com/flyakon/AgriFM",
    licence_code="Apache-2.0",
    licence_weights="not stated",
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_BANDS),
            shape=Shape(_IMAGE_SIZE, patch_size=_CELL),
            chain=_chain,
            time=Frames(_frames, at_most=_MOST_FRAMES),
        ),
    ),
    network="rs_embed_core.networks.agrifm:build",
    variants={
        "base": Variant(
            dim=1024,
            build=(("dim", 128), ("depth", 18)),
            weights=HubFile(
                "flyakon/AgriFM",
                "AgriFM.pth",
                revision="main",
                wrappers=("state_dict", "model"),
                prefixes=("module.",),
                convert="rs_embed_core.networks.agrifm:sentinel2",
                url="https://glass.hku.hk/casual/AgriFM/AgriFM.pth",
            ),
            parameters_m=87.6,
            sample_mb=154.5,
            batch_size=8,
        ),
    },
    default_variant="base",
    options=(
        Option(
            "normalization",
            "agrifm_stats",
            "How values are scaled: with the published statistics, to 0..1, or not at all.",
            "prepare",
            choices=tuple(_NORMALIZATIONS),
        ),
    ),
    notes=(
        "The authors publish the weights on their own server, not on the Hub: put the file into checkpoints.root.",
        "No dates reach the network: a window is eight equal parts, earliest first.",
        "Of the caller's own pixels, a series keeps its frames, up to 32; a single one is repeated eight times.",
        "What the file holds besides the Sentinel-2 encoder (other sensors, decoders) is not looked at.",
    ),
)
