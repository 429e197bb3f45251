"""Prithvi-EO 2.0 TL: series of HLS-like images with dates and a place. Facts: golden/prithvi/spec.md."""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.chip import Period
from rs_embed_core.errors import UnknownOption
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import PadToMultiple, PadToSquare, Resize
from rs_embed_core.preprocessing.side_inputs import CentreLatLon, YearAndDay
from rs_embed_core.preprocessing.time import Frames
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing, Standardize
from rs_embed_core.specs.request import ModelConfig
from rs_embed_core.weights import HubFile

# band: (mean, std) of the numbers 0..10000, from pretrained_cfg of the published config.json
_BANDS = {
    "B2": (1087.0, 2248.0),
    "B3": (1342.0, 2179.0),
    "B4": (1433.0, 2178.0),
    "B8A": (2734.0, 1850.0),
    "B11": (1958.0, 1242.0),
    "B12": (1363.0, 1049.0),
}
_IMAGE_SIZE = 224  # img_size of config.json
_WHOLE_PATCHES = 112  # the least size that holds whole patches of 16 and of 14 pixels
_MOST_FRAMES = 52  # four years of 28 days; rs-embed sets no limit, and the network was trained with 4
_WIDEST_GAP_DAYS = 184  # RS_EMBED_PRITHVI_MAX_STRIDE_DAYS: golden/prithvi/spec.md, "Frames"
_EMPTY = 1e-4  # NO_DATA_FLOAT: what the authors' inference.py puts in place of missing pixels
_OFFICIAL: tuple[Step, ...] = (
    Standardize(
        mean=tuple((band, row[0]) for band, row in _BANDS.items()),
        std=tuple((band, row[1]) for band, row in _BANDS.items()),
    ),
    FillMissing(_EMPTY),
)
_REFLECTANCE: tuple[Step, ...] = (FillMissing(0.0), Divide(10_000), Clip(0, 1))


def _chain(options: Options) -> Chain:
    official = options["preprocessing"] == "official"
    values = _OFFICIAL if official else _REFLECTANCE
    if options["prep"] == "pad":
        return Chain(*values, PadToMultiple(int(options["patch_mult"]), _EMPTY if official else 0.0))
    return Chain(*values, PadToSquare(), Resize(int(options["image_size"])))


def _shape(options: Options) -> Shape:
    if options["prep"] == "pad":
        return Shape(int(options["image_size"]), int(options["patch_mult"]), fit="whole")
    return Shape(int(options["image_size"]), patch_size=16)


def _frames(window: Period, options: Options) -> int:
    if options["temporal_mode"] == "single":
        return 1
    return max(1, min(window.days // int(options["frame_stride_days"]), int(options["max_frames"])))


def _n_frames(config: ModelConfig) -> ModelConfig:
    """rs-embed's other name for ``max_frames``."""
    values = dict(config)
    if "n_frames" not in values:
        return config
    if "max_frames" in values:
        msg = "model_config has both n_frames and max_frames."
        raise UnknownOption(msg, hint="They mean the same: give max_frames.", context={"option": "n_frames"})
    return (("max_frames", values.pop("n_frames")), *values.items())


def _variant(size: str, parameters_m: float, sample_mb: float, **build: int) -> Variant:
    return Variant(
        dim=build["dim"],
        build=tuple(build.items()),
        weights=HubFile(
            f"ibm-nasa-geospatial/Prithvi-EO-2.0-{size}M-TL",
            f"Prithvi_EO_V2_{size}M_TL.pt",
            revision="main",
            keep="encoder.",
            unused=("pos_embed",),  # a fixed table for four frames: computed for the frames at hand
        ),
        parameters_m=parameters_m,
        sample_mb=sample_mb,
        aliases=(f"prithvi_eo_v2_{size}_tl", f"{size}m_tl"),
        batch_size=16,
    )


CARD = ModelCard(
    id="prithvi",
    title="Prithvi-EO 2.0",
    summary="Six bands at 30 m, one to four dates or more; knows the date of each frame and the place.",
    paper="https://arxiv.org/abs/2412.02732",
    code="https://github.com/NASA-IMPACT/Prithvi-EO-2.0",
    licence_code="Apache-2.0",
    licence_weights="Apache-2.0",
    aliases=(Alias("prithvi_eo_v2_s2_6b"),),
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_BANDS),
            scale_m=30,
            shape=_shape,
            chain=_chain,
            time=Frames(_frames, at_most=_MOST_FRAMES, when_repeated="drop", widest_gap_days=_WIDEST_GAP_DAYS),
            side_inputs=(YearAndDay("temporal_coords"), CentreLatLon("location_coords")),
        ),
    ),
    network="rs_embed_core.networks.prithvi:build",
    variants={
        "100_tl": _variant("100", 86.2, 22.2, dim=768, depth=12, heads=12),
        "300_tl": _variant("300", 303.9, 29.5, dim=1024, depth=24, heads=16),
        "600_tl": _variant("600", 631.2, 48.2, dim=1280, depth=32, heads=16, patch_size=14),
    },
    default_variant="100_tl",
    config_aliases=_n_frames,
    options=(
        Option(
            "temporal_mode",
            "auto",
            "One frame, or as many as the window gives (auto and multi).",
            "prepare",
            choices=("auto", "single", "multi"),
        ),
        Option(
            "max_frames",
            4,
            "Most frames that a window gives; n_frames is another name.",
            "prepare",
            minimum=1,
            maximum=_MOST_FRAMES,
        ),
        Option("frame_stride_days", 28, "Days of the window behind each frame.", "prepare", minimum=1, maximum=366),
        Option(
            "prep",
            "resize",
            "resize: to image_size; pad: keep the pixels and fill up to whole patches.",
            "prepare",
            choices=("resize", "pad"),
        ),
        Option(
            "image_size",
            _IMAGE_SIZE,
            "Side of the input in pixels (resize), and of a tile.",
            "prepare",
            minimum=_WHOLE_PATCHES,
            maximum=10 * _WHOLE_PATCHES,
            multiple_of=_WHOLE_PATCHES,
        ),
        Option(
            "patch_mult",
            16,
            "Pixels to a multiple of which pad fills up: the patch size, 14 for variant 600_tl.",
            "prepare",
            choices=(16, 14),
        ),
        Option(
            "preprocessing",
            "rs-embed",
            "official: (x - mean) / std with the statistics of the checkpoint instead of reflectances 0..1.",
            "prepare",
            choices=("rs-embed", "official"),
        ),
    ),
    departs="Reflectances 0..1 go in, as in rs-embed; preprocessing=official standardises as in training.",
    notes=(
        "A window of 56 days or more is a series: one frame per 28 days, at most four unless max_frames says more.",
        "A frame that repeats an earlier one bit by bit is left out, as is its date.",
        "pooled is the mean (or max) over the patches of all frames; grid is their mean over the frames.",
        "Variant 600_tl has patches of 14 pixels: 16 x 16 cells instead of 14 x 14.",
    ),
)
