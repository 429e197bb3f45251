"""FoMo-Net: every band is tokens of its own, tagged by a spectral key. Facts: golden/fomo/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.side_inputs import BandKeys
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Clip, Divide, FillMissing, StretchFrames
from rs_embed_core.weights import HubFile

# band: row of the published table of 37 kinds of band (FoMo-Bench, configs/datasets/fomo_pretraining_datasets.json);
# 16 is B10, which surface reflectance does not have
_SPECTRAL_KEYS = {
    "B1": 6,
    "B2": 7,
    "B3": 8,
    "B4": 9,
    "B5": 10,
    "B6": 11,
    "B7": 12,
    "B8": 13,
    "B8A": 14,
    "B9": 15,
    "B11": 17,
    "B12": 18,
}
_SHAPE = Shape(64, patch_size=16)
_NORMALIZATIONS: dict[str, tuple[Step, ...]] = {
    "unit_scale": (Divide(10_000),),
    "per_tile_minmax": (Divide(10_000), StretchFrames(1e-6)),
    "none": (),
}


def _chain(options: Options) -> Chain:
    normalize = _NORMALIZATIONS[str(options["normalization"])]
    fit = (PadToSquare(), Resize(_SHAPE.image_size), FirstFrame())
    return Chain(FillMissing(0.0), Clip(0, 10_000), *normalize, *fit)


CARD = ModelCard(
    id="fomo",
    title="FoMo-Net",
    summary="Transformer over the patches of single bands; twelve Sentinel-2 bands, trained for forests.",
    paper="https://arxiv.org/abs/2312.10114",
    code="https://github.com/RolnickLab/FoMo-Bench",
    licence_code="MIT",
    licence_weights="not stated",
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_SPECTRAL_KEYS),
            shape=_SHAPE,
            chain=_chain,
            side_inputs=(BandKeys("spectral_keys", tuple(_SPECTRAL_KEYS.items())),),
        ),
    ),
    network="rs_embed_core.networks.fomo:build",
    variants={
        "base": Variant(
            dim=768,
            # FoMo-Net_1 as FoMo-Bench's examples/pretrained_fomo_example.py builds it
            build=(("dim", 768), ("depth", 12), ("heads", 12), ("mlp_dim", 2048)),
            weights=HubFile(
                "RolnickLab/FoMo-Bench",
                "fomo_single_embedding_layer_weights.pt",
                revision="main",
                wrappers=("state_dict",),
                prefixes=("module.", "model."),
                # README of FoMo-Bench: its weights are on no Hub
                url="https://www.dropbox.com/scl/fi/4ckmxlcbc0tcod8hknp7c/fomo_single_embedding_layer_weights.pt?rlkey=26tlf3yaz93vvcosr0qrvklub&dl=1",
            ),
            parameters_m=67.2,
            sample_mb=5.0,
        ),
    },
    default_variant="base",
    options=(
        Option(
            "normalization",
            "unit_scale",
            "How values are scaled; the network normalises every patch by itself, so it hardly shows.",
            "prepare",
            choices=tuple(_NORMALIZATIONS),
        ),
    ),
    notes=(
        (
            "The authors publish the weights on Dropbox, linked in the README of the code, not on the Hub: put the "
            "file into checkpoints.root."
        ),
        "pooled max is over the tokens of all bands, so it is at least the maximum of the grid, their mean per patch.",
        "A tile is 64 pixels: an ROI of a few hundred pixels is dozens of tiles.",
    ),
)
