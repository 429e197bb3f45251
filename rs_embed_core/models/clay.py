"""Clay v1.5: a ViT conditioned on wavelengths, pixel size, place and date. Facts: golden/clay/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.errors import UnknownOption
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.reject import RejectNormalized
from rs_embed_core.preprocessing.side_inputs import CentreOnCircles, PixelSize, Wavelengths, WeekAndHour
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import FillMissing, Standardize
from rs_embed_core.specs.request import ModelConfig
from rs_embed_core.weights import HubFile

# band: (mean, std, wavelength um), sentinel-2-l2a of configs/metadata.yaml at Clay-foundation/model,
# commit 0fa6dc7e9441fb9e4099b69992f8884ca7c2cd4e
_BANDS = {
    "B2": (1105.0, 1809.0, 0.493),
    "B3": (1355.0, 1757.0, 0.560),
    "B4": (1552.0, 1888.0, 0.665),
    "B5": (1887.0, 1870.0, 0.704),
    "B6": (2422.0, 1732.0, 0.740),
    "B7": (2630.0, 1697.0, 0.783),
    "B8": (2743.0, 1742.0, 0.842),
    "B8A": (2785.0, 1648.0, 0.865),
    "B11": (2388.0, 1470.0, 1.610),
    "B12": (1835.0, 1379.0, 2.190),
}
_IMAGE_SIZE = 256  # the size that the authors trained on: golden/clay/spec.md, "Input"
_HIGHEST_NORMALISED = 2.0  # the adapter's own test for data that is not raw any more
_WEIGHTS = HubFile(
    "made-with-clay/Clay",
    "v1.5/clay-v1.5.ckpt",
    revision="main",
    wrappers=("state_dict",),
    convert="rs_embed_core.networks.clay:encoder_of",
)


def _model_size(config: ModelConfig) -> ModelConfig:
    """rs-embed's ``model_size`` as the variant it is."""
    values = dict(config)
    if "model_size" not in values:
        return config
    if "variant" in values:
        msg = "model_config has both model_size and variant."
        raise UnknownOption(msg, hint="They mean the same: give variant.", context={"option": "model_size"})
    return (("variant", values.pop("model_size")), *values.items())


CARD = ModelCard(
    id="clay",
    title="Clay v1.5",
    summary="Any subset of ten Sentinel-2 bands; knows wavelengths, pixel size, place and week.",
    paper="https://clay-foundation.github.io/model/",
    code="https://github.com/Clay-foundation/model",
    licence_code="Apache-2.0",
    licence_weights="Apache-2.0 (earlier revisions: OpenRAIL)",
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_BANDS),
            other_bands="subset",
            shape=Shape(_IMAGE_SIZE, patch_size=8),
            chain=Chain(
                RejectNormalized(_HIGHEST_NORMALISED),
                FillMissing(0.0),
                Standardize(
                    mean=tuple((band, row[0]) for band, row in _BANDS.items()),
                    std=tuple((band, row[1]) for band, row in _BANDS.items()),
                ),
                PadToSquare(),
                Resize(_IMAGE_SIZE),
                FirstFrame(),
            ),
            side_inputs=(
                Wavelengths("waves", tuple((band, row[2]) for band, row in _BANDS.items())),
                PixelSize("gsd"),
                WeekAndHour("time"),
                CentreOnCircles("latlon"),
            ),
        ),
    ),
    network="rs_embed_core.networks.clay:build",
    variants={
        "large": Variant(
            dim=1024,
            build=(("dim", 1024), ("depth", 24), ("heads", 16)),
            weights=_WEIGHTS,
            parameters_m=311.4,
            sample_mb=51.0,
            batch_size=16,
        ),
        "base": Variant(
            dim=768,
            build=(("dim", 768), ("depth", 12), ("heads", 12)),
            weights=_WEIGHTS,
            parameters_m=92.1,
            sample_mb=38.2,
        ),
        "small": Variant(
            dim=384,
            build=(("dim", 384), ("depth", 6), ("heads", 6), ("mlp_ratio", 2)),
            weights=_WEIGHTS,
            parameters_m=11.0,
            sample_mb=14.4,
        ),
        "tiny": Variant(
            dim=192,
            build=(("dim", 192), ("depth", 6), ("heads", 4), ("dim_head", 48), ("mlp_ratio", 2)),
            weights=_WEIGHTS,
            parameters_m=4.0,
            sample_mb=7.2,
        ),
    },
    roi_pooling="mean",
    default_variant="large",
    config_aliases=_model_size,
    notes=(
        "Only the large weights are published; for another size put your own file in their place.",
        "pooled is the class token, for mean and max alike; grid holds the patches of the last block.",
        "Missing pixels are filled with 0; in rs-embed one NaN makes the whole output NaN.",
        "model_size is another name for variant.",
    ),
)
