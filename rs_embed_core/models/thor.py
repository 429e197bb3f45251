"""THOR: Sentinel-2 or Sentinel-1 at every band's own resolution, in patches of any size. Facts: golden/thor/spec.md."""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.reject import RejectDecibels
from rs_embed_core.preprocessing.sar import DivideByPercentile, LogPower
from rs_embed_core.preprocessing.snap import NoteGroundCover, SnapToPatches, StretchUnsnapped
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing, Standardize
from rs_embed_core.weights import HubFile

# band: (mean, std) of reflectance, in the order of the adapter (golden/thor/spec.md, "Provider input")
_S2 = {
    "B2": (0.176620, 0.264520),
    "B3": (0.195923, 0.252949),
    "B4": (0.213948, 0.259180),
    "B5": (0.263378, 0.272771),
    "B6": (0.300818, 0.248175),
    "B7": (0.313144, 0.235432),
    "B8": (0.308133, 0.226434),
    "B8A": (0.320993, 0.223274),
    "B11": (0.221550, 0.171606),
    "B12": (0.175772, 0.156223),
}
_STANDARDIZE = Standardize(
    mean=tuple((band, row[0]) for band, row in _S2.items()),
    std=tuple((band, row[1]) for band, row in _S2.items()),
)
_PERCENT = 99  # the adapter's own Sentinel-1 scaling (golden/thor/spec.md, "Provider input")
_S2_VALUES: dict[str, tuple[Step, ...]] = {
    "thor_stats": (Divide(10_000), _STANDARDIZE),
    "unit_scale": (Divide(10_000),),
    "none": (),
}
_S1_VALUES: tuple[Step, ...] = (LogPower(), DivideByPercentile(_PERCENT), Clip(0, 1))
_FILL = 0.0  # of missing pixels and of padding
_S2_GSD, _S1_GSD = (10, 20), (10,)  # metres of the pixels of the bands that are read


def _s2(options: Options) -> Chain:
    values = _S2_VALUES[str(options["normalization"])]
    return _chain(options, _S2_GSD, (FillMissing(_FILL), Clip(0, 10_000)), values)


def _s1(options: Options) -> Chain:
    if options["normalization"] == "none":
        return _chain(options, _S1_GSD, (FillMissing(_FILL),), ())
    return _chain(options, _S1_GSD, (RejectDecibels(), FillMissing(_FILL)), _S1_VALUES)


def _chain(options: Options, gsd: tuple[int, ...], raw: tuple[Step, ...], values: tuple[Step, ...]) -> Chain:
    """The steps of a sensor: its square is cut from raw values, and stretched from scaled ones."""
    patches_m = tuple(int(options["patch_size"]) * metres for metres in gsd)
    snap = SnapToPatches(
        patches_m,
        adjust="pad" if options["shape_adjust"] == "pad" else "crop",
        fill=_FILL,
        tolerance_px=int(options["shape_tol_px"]),
        largest_px=int(options["max_native_side"]),
        most_tokens=int(options["max_native_tokens"]),
    )
    square = (snap,) if options["resize_mode"] == "native_snap" else ()
    stretch, cover = StretchUnsnapped(int(options["image_size"])), NoteGroundCover("ground_cover_m", patches_m)
    return Chain(*raw, *square, *values, stretch, cover, FirstFrame())


def _shape(options: Options) -> Shape:
    return Shape(int(options["image_size"]), int(options["patch_size"]), fit="snap")


# The commit that public code pins, with 376628228 bytes: the parameters in float32 and nothing else
_REVISIONS = {"base": "823c265cbb941a3e1b9054910a65dbe190c11f11"}


def _variant(size: str, parameters_m: float, sample_mb: float, *, batch_size: int, **build: int) -> Variant:
    weights = HubFile(
        f"FM4CS/THOR-1.0-{size}",
        f"thor_v1_vit_{size}.pt",
        revision=_REVISIONS.get(size, "main"),
        wrappers=("state_dict",),
        keep="encoder.",  # the file may hold other models of the training
        unused=("decoder_*", "decode_*", "ref_pos_embed*", "pos_embed*"),
    )
    return Variant(build["dim"], tuple(build.items()), weights, parameters_m, (size[0],), batch_size, sample_mb)


CARD = ModelCard(
    id="thor",
    title="THOR 1.0",
    summary="Ten Sentinel-2 bands in tokens of 80 m and 160 m, or Sentinel-1, at any extent and patch size.",
    paper="https://arxiv.org/abs/2601.16011",
    code="https://github.com/FM4CS/THOR",
    licence_code="MIT",
    licence_weights="Apache-2.0",
    aliases=(Alias("thor_1_0_base", variant="base"),),
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_S2),
            shape=_shape,
            chain=_s2,
            fill_value=_FILL,
        ),
        Input(
            modality="s1",
            collection="COPERNICUS/S1_GRD_FLOAT",
            bands=("VV", "VH"),
            shape=_shape,
            chain=_s1,
            cloudy_pct=None,  # radar scenes have no cloud cover to filter by
            fill_value=_FILL,
        ),
    ),
    network="rs_embed_core.networks.thor:build",
    variants={  # golden/thor/spec.md, "Checkpoints"
        "tiny": _variant("tiny", 7.6, 21.7, batch_size=32, dim=192, depth=12, heads=3, band_embed=32),
        "small": _variant("small", 25.8, 43.4, batch_size=32, dim=384, depth=12, heads=6, band_embed=64),
        "base": _variant("base", 94.1, 86.8, batch_size=16, dim=768, depth=12, heads=12, band_embed=128),
        "large": _variant("large", 314.4, 115.7, batch_size=8, dim=1024, depth=24, heads=16, band_embed=256),
    },
    default_variant="base",
    options=(
        Option(
            "normalization",
            "thor_stats",
            "How values are scaled; unit_scale is for Sentinel-2, and Sentinel-1 takes it for thor_stats.",
            "prepare",
            choices=tuple(_S2_VALUES),
        ),
        Option(
            "patch_size",
            8,
            "Side of a patch in pixels of its bands.",
            "forward",
            choices=(4, 6, 8, 9, 12, 16, 18),  # twice each divides 288
        ),
        Option(
            "group_merge",
            "mean",
            "How the maps of bands of 10 m and of 20 m become one grid; concat doubles its dimension.",
            "forward",
            choices=("mean", "sum", "concat"),
        ),
        Option(
            "resize_mode",
            "native_snap",
            "native_snap: a square near whole patches keeps its pixels; fixed: everything is stretched.",
            "prepare",
            choices=("native_snap", "fixed"),
        ),
        Option(
            "shape_adjust",
            "crop",
            "What native_snap does to a rectangle that is nearly square.",
            "prepare",
            choices=("crop", "pad"),
        ),
        Option(
            "shape_tol_px",
            8,
            "Largest difference of the sides for native_snap.",
            "prepare",
            minimum=0,
            maximum=64,
        ),
        Option(
            "max_native_side",
            384,
            "Longest side in pixels for native_snap.",
            "prepare",
            minimum=16,
            maximum=512,
        ),
        Option("max_native_tokens", 3000, "Most tokens for native_snap.", "prepare", minimum=1, maximum=8192),
        Option(
            "image_size",
            288,
            "Side in pixels that all else is stretched to; best a multiple of twice the patch size.",
            "prepare",
            minimum=32,
            maximum=576,
            multiple_of=4,
        ),
    ),
    notes=(
        (
            "With input_prep resize a square up to 384 px keeps its pixels: it is cropped or padded centrally to whole "
            "patches, and the georeference of the grid says where. Rectangles more than 8 px from square, larger "
            "ones, and every tile are stretched to 288 px, which the network takes for 2880 m, as in rs-embed."
        ),
        (
            "pooled is the mean or max over the tokens of all bands, of which those of 10 m are four times as many as "
            "those of 20 m; of a rectangular ROI it is that of the merged cells."
        ),
        "Sentinel-1 is scaled by the 99th percentile of VV and VH together, of each sample by itself.",
    ),
)
