"""SatVision-TOA: 14 MODIS channels at 1 km, a Swin transformer V2 of 2.6 billion parameters.

Facts: golden/satvision/spec.md.
"""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import Resize
from rs_embed_core.preprocessing.reject import RejectNormalized
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Clip, FillMissing, Standardize, UnlessWithin
from rs_embed_core.weights import HubFile

# channel: what counts as 0 and as 1, in percent of reflectance or in kelvin; golden/satvision/spec.md, "Provider input"
_CHANNELS = {
    "1": (0.0, 100.0),
    "2": (0.0, 100.0),
    "3": (0.0, 100.0),
    "26": (0.0, 100.0),
    "6": (0.0, 100.0),
    "20": (223.1222, 352.7182),
    "7": (0.0, 100.0),
    "27": (178.9174, 261.2920),
    "28": (204.3739, 282.5529),
    "29": (204.7677, 319.0373),
    "31": (194.8686, 295.0209),
    "32": (202.1759, 324.0677),
    "33": (201.3823, 321.5254),
    "34": (203.3537, 285.9848),
}
_CALIBRATE = Standardize(
    mean=tuple((band, low) for band, (low, _) in _CHANNELS.items()),
    std=tuple((band, high - low) for band, (low, high) in _CHANNELS.items()),
)
_LOWEST, _HIGHEST = -0.1, 1.5  # of values that count as scaled: golden/satvision/spec.md, "Provider input"
_FILL = FillMissing(0.0)
_NORMALIZATIONS: dict[str, tuple[Step, ...]] = {
    "auto": (_FILL, UnlessWithin(_LOWEST, _HIGHEST, _CALIBRATE)),
    "raw": (RejectNormalized(_HIGHEST), _FILL, _CALIBRATE),  # kelvin are never that low
    "unit": (_FILL,),
}
_IMAGE_SIZE = 128  # the end of the checkpoint's name
_CELL = 32  # pixels: patches of 4, halved three times


def _chain(options: Options) -> Chain:
    values = _NORMALIZATIONS[str(options["normalization"])]
    return Chain(*values, Clip(0, 1), Resize(_IMAGE_SIZE), FirstFrame())


CARD = ModelCard(
    id="satvision",
    title="SatVision-TOA",
    summary="Fourteen MODIS channels at the top of the atmosphere, 1 km, clouds and all.",
    paper="https://arxiv.org/abs/2411.17000",
    code="https://github.com/nasa-nccs-hpda/pytorch-caney",
    licence_code="Apache-2.0",
    licence_weights="not stated",
    aliases=(Alias("satvision_toa"),),
    inputs=(
        Input(
            modality="modis",
            collection="MODIS/061/MOD021KM",
            bands=tuple(_CHANNELS),
            scale_m=1000,
            cloudy_pct=100,
            composite="mosaic",
            shape=Shape(_IMAGE_SIZE, patch_size=_CELL, fit="stretch"),
            chain=_chain,
        ),
    ),
    network="rs_embed_core.networks.satvision:build",
    variants={
        "giant": Variant(
            dim=4096,
            build=(("dim", 512), ("third_stage", 42)),
            weights=HubFile(
                "nasa-cisto-data-science-group/satvision-toa-giant-patch8-window8-128",
                "mp_rank_00_model_states.pt",  # as the authors' own scripts fetch it; the repository's only .pt
                revision="main",
                wrappers=("state_dict", "model_state_dict", "model", "module", "net", "weights"),
                convert="rs_embed_core.networks.satvision:encoder",
            ),
            parameters_m=2595.0,
            sample_mb=23.1,
            batch_size=8,
        ),
    },
    default_variant="giant",
    roi_pooling="head",
    options=(
        Option(
            "normalization",
            "auto",
            "raw: percent of reflectance and kelvin; unit: scaled to 0..1 already; auto: unit where values look so.",
            "prepare",
            choices=tuple(_NORMALIZATIONS),
        ),
    ),
    notes=(
        (
            "The weights are 10.4 GB in float32. A replica needs 11 GB on its device beside the batch, and while it "
            "loads as much of the host's memory; the file is mapped, not copied."
        ),
        (
            "Earth Engine has no top-of-atmosphere MODIS: its reads (and synthetic ones) are a stand-in of surface "
            "reflectance and land-surface temperature, already scaled to 0..1. Channel 26 is green there, and 20 and "
            "27 to 34 are one temperature: good for wiring, not for science."
        ),
        "pooled is the model's own vector of the whole square, for mean and max alike, whatever the ROI in it.",
        "grid is the last stage's map before the norm, so its mean is not pooled.",
        "Each tile decides by itself what auto means.",
    ),
)
