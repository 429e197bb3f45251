"""AnySat: series of Sentinel-2 images, an embedding for every pixel. Facts: golden/anysat/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.chip import Period
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.side_inputs import DayOfYear, PixelOffsets
from rs_embed_core.preprocessing.time import Frames
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing, StandardizeSeries
from rs_embed_core.specs.request import ModelConfig
from rs_embed_core.weights import HubFile

_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")  # golden/anysat/spec.md, "Provider input"
_IMAGE_SIZE = 24  # golden/anysat/spec.md, "Provider input"
_PIXEL_M = 10.0  # what the network is told, whatever is read: golden/anysat/spec.md, "Network"
_PATCH_SIDES = tuple(side for side in range(1, _IMAGE_SIZE + 1) if _IMAGE_SIZE % side == 0)
_FRAMES = 8  # golden/anysat/spec.md, "Provider input"
_MOST_FRAMES = 73  # a year of overpasses five days apart; rs-embed sets no limit
_NORMALIZATIONS: dict[str, tuple[Step, ...]] = {
    "per_tile_zscore": (StandardizeSeries(1e-6),),
    "unit_scale": (Divide(10_000), Clip(0, 1)),
    "none": (),
}
# rs-embed's other names of the same values: golden/anysat/spec.md, "model_config"
_SAME = {
    "grid_feature_mode": {"subpatch": "dense", "subpatches": "dense", "patches": "patch"},
    "pooled_source": {"grid": "patch", "native": "tile", "model": "tile"},
}
_OTHER_SENSORS = ("aerial", "aerial-flair", "spot", "naip", "s1-asc", "s1", "alos", "l7", "l8", "modis")


def _chain(options: Options) -> Chain:
    values = _NORMALIZATIONS[str(options["normalization"])]
    return Chain(FillMissing(0.0), Clip(0, 10_000), PadToSquare(), Resize(_IMAGE_SIZE), *values)


def _frames(window: Period, options: Options) -> int:
    del window, options
    return _FRAMES


def _names(config: ModelConfig) -> ModelConfig:
    """Values under their first names."""
    return tuple((key, _SAME.get(key, {}).get(str(value).lower(), value)) for key, value in config)


CARD = ModelCard(
    id="anysat",
    title="AnySat",
    summary="Time series of ten Sentinel-2 bands, eight frames a window; a cell for every pixel.",
    paper="https://arxiv.org/abs/2412.14123",
    code="https://github.com/gastruc/AnySat",
    licence_code="MIT",
    licence_weights="MIT (the repository's)",
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=_BANDS,
            shape=Shape(_IMAGE_SIZE, patch_size=1),
            chain=_chain,
            time=Frames(_frames, at_most=_MOST_FRAMES),
            scales_m=tuple(_PIXEL_M * side for side in _PATCH_SIDES),
            side_inputs=(DayOfYear("s2_dates"), PixelOffsets("offsets_m", _PIXEL_M, _PATCH_SIDES)),
        ),
    ),
    network="rs_embed_core.networks.anysat:build",
    variants={
        "base": Variant(
            dim=768,
            build=(("dim", 768), ("depth", 6), ("heads", 12)),
            weights=HubFile(
                "g-astruc/AnySat",
                "models/AnySat.pth",
                revision="main",
                wrappers=("state_dict",),
                unused=tuple(f"projector_{sensor}.*" for sensor in _OTHER_SENSORS),
            ),
            parameters_m=95.0,
            sample_mb=38.1,
            aliases=("b",),
            batch_size=16,
        ),
    },
    default_variant="base",
    config_aliases=_names,
    options=(
        Option(
            "grid_feature_mode",
            "dense",
            "dense: a cell per pixel, its patch's token and then its own; patch: the tokens of the patches.",
            "forward",
            choices=("dense", "patch"),
        ),
        Option(
            "pooled_source",
            "patch",
            "patch: mean or maximum over the patches; tile: the token of the whole image, whatever the pooling.",
            "forward",
            choices=("patch", "tile"),
        ),
        Option(
            "normalization",
            "per_tile_zscore",
            "How values are scaled: per band over the series at hand, to 0..1, or not at all.",
            "prepare",
            choices=tuple(_NORMALIZATIONS),
        ),
    ),
    notes=(
        "The image is brought to 24 x 24 pixels; grid has 1536 channels (dense) and the vector 768 whatever the grid.",
        "scale_m is the side of a patch: 10, 20, 30, 40, 60, 80, 120 or 240 m are 1 to 24 of the 24 pixels.",
        "grid_feature_mode also knows subpatch, subpatches and patches; pooled_source grid, native and model.",
    ),
)
