"""OlmoEarth: series of Sentinel-2 or Sentinel-1 in three families. Facts: golden/olmoearth/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.chip import Period
from rs_embed_core.errors import UnknownOption
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import CropToSquare, PadToSquareAndBack, Resize
from rs_embed_core.preprocessing.sar import ToDecibels
from rs_embed_core.preprocessing.side_inputs import Timestamps
from rs_embed_core.preprocessing.time import Frames, stride_count
from rs_embed_core.preprocessing.values import FillNaN, ReplaceNonFinite, Standardize
from rs_embed_core.specs.request import ModelConfig
from rs_embed_core.weights import HubFile

# band: (mean, std) of golden/olmoearth/spec.md, "Preprocessing", in the order of the network
_S2 = {
    "B2": (1188.9412572078477, 1859.1923971769581),
    "B3": (1407.7739105458452, 1727.7387413631088),
    "B4": (1513.0573882432757, 1740.7757298757895),
    "B8": (2755.481305028308, 1612.2565699990187),
    "B5": (1890.9893042634167, 1754.7320388511766),
    "B6": (2483.7812315422448, 1622.1172720635755),
    "B7": (2722.728248756412, 1621.8226170190276),
    "B8A": (2885.570263047681, 1611.3587521042082),
    "B11": (2562.852607796968, 1441.5471830655151),
    "B12": (1914.1383249044113, 1328.8914382756407),
    "B1": (1115.8494388252218, 1955.6991794280914),
    "B9": (3269.812554170875, 2651.088425085525),
}
_S1 = {"VV": (-11.648990747328444, 10.840350299936597), "VH": (-17.745436133270044, 10.216274681392647)}
_LEAST_POWER = 1e-10  # golden/olmoearth/spec.md, "Provider input"
_STRIDE_DAYS, _MOST_BINS = 30, 12  # as above, "Temporal"
_IMAGE_SIZE, _PATCH_SIZE = 256, 4  # the adapter's defaults
_LEAST_SIZE, _LARGEST_SIZE = 4, 1024  # ours: one patch, and as many tokens of one frame as a device holds
# the commits and files that torchgeo 0.10.1 pins
_V1_FILES = {
    "Nano": (
        "529248a4dc3c54014c56b7504641cec98de31d1c",
        "795c68419a658fd22ccf8f2e020607675f963e9ef3b93d8e368bb17646765347",
    ),
    "Tiny": (
        "885784437d4e2d632b7bf51b4233426c6f4479dc",
        "66b9827af383bc444d7909a406a5b62c072bb08d6804ff47a247c2dce8fad9a4",
    ),
    "Base": (
        "4bd1392a4539404d2c74276c39f3cb4cfff466cc",
        "551c1cc53337c6faaddead88071d7ebd2bd53ec271600fa6f0ee0a518c8b6e11",
    ),
    "Large": (
        "b2c9f41de3d8454cb37f0cd9cc3e79ec7c4af435",
        "1adb5026bd520c54bc415a1282386954927623bab81d01be2f5b6379cc039035",
    ),
}
_SIZES = {  # dim, depth, heads, and the width of the layer over pixels of v1.1 and v1.2
    "Nano": (128, 4, 8, 12),
    "Tiny": (192, 12, 3, 64),
    "Small": (384, 12, 6, 64),
    "Base": (768, 12, 12, 64),
    "Large": (1024, 24, 16, 64),
}


def _normalize(bands: dict[str, tuple[float, float]]) -> Standardize:
    """Mean -+ 2 std to 0..1, not clipped."""
    return Standardize(
        mean=tuple((band, row[0] - 2 * row[1]) for band, row in bands.items()),
        std=tuple((band, 4 * row[1]) for band, row in bands.items()),
    )


_S2_SCALE, _S1_SCALE = _normalize(_S2), _normalize(_S1)


def _chain(options: Options, *scale: Step) -> Chain:
    fit = CropToSquare() if options["shape_adjust"] == "crop" else PadToSquareAndBack()
    # a NaN is 0 before scaling in a series and after it in a single frame: golden/olmoearth/spec.md, "Preprocessing"
    first = {"auto": (FillNaN(0.0, only_series=True),), "multi": (FillNaN(0.0),), "single": ()}
    return Chain(
        *first[str(options["temporal_mode"])],
        *scale,
        ReplaceNonFinite(nan=0.0, above=1.0, below=0.0),
        fit,
        Resize(int(options["image_size"])),
    )


def _s2_chain(options: Options) -> Chain:
    return _chain(options, _S2_SCALE)


def _s1_chain(options: Options) -> Chain:
    return _chain(options, ToDecibels(_LEAST_POWER), _S1_SCALE)


def _shape(options: Options) -> Shape:
    crop = options["shape_adjust"] == "crop"
    return Shape(int(options["image_size"]), int(options["patch_size"]), fit="crop" if crop else "pad")


def _frames(window: Period, options: Options) -> int:
    if options["temporal_mode"] == "single":
        return 1
    return stride_count(window, days=_STRIDE_DAYS, at_most=_MOST_BINS)


def _checked(config: ModelConfig) -> ModelConfig:
    """The options with rs-embed's spellings of variants (``base-v1.2``), if the patches fit the image."""
    values = dict(config)
    size, patch = values.get("image_size", _IMAGE_SIZE), values.get("patch_size", _PATCH_SIZE)
    if type(size) is int and type(patch) is int and patch > 0 and size % patch:
        msg = f"model_config image_size={size} is no multiple of patch_size={patch}."
        raise UnknownOption(msg, hint="Give an image_size of whole patches.", context={"option": "image_size"})
    if isinstance(variant := values.get("variant"), str):
        values["variant"] = variant.replace(".", "_")
    return tuple(values.items())


def _own_size(config: ModelConfig, size: tuple[int, int]) -> ModelConfig:
    """Own pixels keep their size, the longer side filled up to whole patches, unless an ``image_size`` was given."""
    values = dict(config)
    patch = values.get("patch_size", _PATCH_SIZE)
    if "image_size" not in values and type(patch) is int and 0 < patch <= max(size) <= _LARGEST_SIZE:
        values["image_size"] = -(-max(size) // patch) * patch
    return tuple(values.items())


def _variant(size: str, family: str, parameters_m: float, sample_mb: float, *, batch_size: int = 8) -> Variant:
    dim, depth, heads, features = _SIZES[size]
    build: tuple[tuple[str, int], ...] = (("dim", dim), ("depth", depth), ("heads", heads))
    if family != "v1":
        build += (("pixel_features", features), ("rotary", family == "v1_2"))
    revision, sha256 = _V1_FILES[size] if family == "v1" else ("main", None)
    short = {"v1": "v1", "v1_1": "11", "v1_2": "12"}[family]
    return Variant(
        dim=dim,
        build=build,
        weights=HubFile(
            f"allenai/OlmoEarth-{family}-{size}",
            "weights.pth",
            revision=revision,
            sha256=sha256,
            keep="encoder.",  # beside a decoder, a target encoder and, in some, more heads
            unused=("composite_encodings.pos_embed",),  # a fixed table in older files: computed for the frames at hand
        ),
        parameters_m=parameters_m,
        aliases=(f"{size.lower()}_{short}", *(("small",) if size == "Small" else ())),
        batch_size=batch_size,
        sample_mb=sample_mb,
    )


CARD = ModelCard(
    id="olmoearth",
    title="OlmoEarth",
    summary="Series of twelve Sentinel-2 bands or of Sentinel-1, one frame per 30 days; three families, five sizes.",
    paper="https://arxiv.org/abs/2511.13655",
    code="https://github.com/allenai/olmoearth_pretrain",
    licence_code="Apache-2.0 (olmoearth-pretrain-minimal)",
    licence_weights=(
        "OlmoEarth Artifact License: no military, surveillance, extraction or deforestation use; pass the terms on"
    ),
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_S2),
            shape=_shape,
            chain=_s2_chain,
            time=Frames(_frames, at_most=_MOST_BINS, when_empty="drop", stride_days=_STRIDE_DAYS, still="single"),
            side_inputs=(Timestamps("timestamps"),),
        ),
        Input(
            modality="s1",
            collection="COPERNICUS/S1_GRD",
            bands=tuple(_S1),
            shape=_shape,
            chain=_s1_chain,
            time=Frames(_frames, at_most=_MOST_BINS, when_empty="drop", stride_days=_STRIDE_DAYS, still="single"),
            side_inputs=(Timestamps("timestamps"),),
            cloudy_pct=None,  # radar scenes have no cloud cover to filter by
            linear=False,
        ),
    ),
    network="rs_embed_core.networks.olmoearth:build",
    variants={
        "nano": _variant("Nano", "v1", 1.4, 151.0),
        "tiny": _variant("Tiny", "v1", 6.2, 226.5),
        "base": _variant("Base", "v1", 89.0, 906.0),
        "large": _variant("Large", "v1", 307.8, 1208.0, batch_size=4),
        "nano_v1_1": _variant("Nano", "v1_1", 1.7, 117.4),
        "tiny_v1_1": _variant("Tiny", "v1_1", 12.5, 130.0),
        "base_v1_1": _variant("Base", "v1_1", 114.0, 302.0),
        "nano_v1_2": _variant("Nano", "v1_2", 1.7, 117.4),
        "tiny_v1_2": _variant("Tiny", "v1_2", 12.5, 130.0),
        "small_v1_2": _variant("Small", "v1_2", 35.6, 203.0),
        "base_v1_2": _variant("Base", "v1_2", 114.0, 405.9),
    },
    default_variant="base_v1_2",
    config_aliases=_checked,
    config_for_data=_own_size,
    options=(
        Option(
            "temporal_mode",
            "auto",
            "One composite, or one per 30 days; auto takes the latter for windows of more than 30 days.",
            "prepare",
            choices=("auto", "single", "multi"),
        ),
        Option(
            "patch_size", _PATCH_SIZE, "Side of a patch in pixels; divides image_size.", "forward", minimum=1, maximum=8
        ),
        Option(
            "image_size",
            _IMAGE_SIZE,
            "Side of the input in pixels, and of a tile; a multiple of patch_size.",
            "prepare",
            minimum=_LEAST_SIZE,
            maximum=_LARGEST_SIZE,
        ),
        Option(
            "shape_adjust",
            "pad",
            "How data that is not square meets the network: padded by reflection, or cropped.",
            "prepare",
            choices=("pad", "crop"),
        ),
    ),
    notes=(
        "A series has a frame per 30 days of the window, at most twelve; a frame without imagery is left out.",
        "The cells and the vector of padded data are those of the data alone.",
        "v1 makes three tokens of every patch of Sentinel-2, the later families one: a ninth of the attention's work.",
        "Sentinel-1 is in decibels; linear power is converted.",
    ),
)
