"""DOFA: a ViT whose patch embedding is generated from the channels' wavelengths. Facts: golden/dofa/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.reject import RejectNormalized
from rs_embed_core.preprocessing.side_inputs import Wavelengths
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import (
    Clip,
    Divide,
    FillMissing,
    Multiply,
    Standardize,
)
from rs_embed_core.weights import HubFile

# band: (wavelength um, mean, std) of reflectance x 255, from the authors' README demo (zhu-xlab/DOFA)
_BANDS = {
    "B4": (0.665, 114.1099739, 77.84352553),
    "B3": (0.560, 114.81779093, 69.96844919),
    "B2": (0.490, 126.63977424, 67.42465279),
    "B5": (0.705, 84.33539309, 64.57022983),
    "B6": (0.740, 97.84789168, 61.72545487),
    "B7": (0.783, 103.94461911, 61.34187099),
    "B8": (0.842, 101.435633, 60.29744676),
    "B11": (1.610, 72.32804172, 47.88519516),
    "B12": (2.190, 56.66528851, 42.55886798),
}
_IMAGE_SIZE = 224
_HIGHEST_NORMALISED = 2.0  # the adapter's own test for data that is not raw any more


def _weights(file: str, sha256: str | None = None) -> HubFile:
    return HubFile(
        "earthflow/DOFA",
        file,
        revision="7a5219e48d2f8848511b0fabea7920a8836bc480",
        sha256=sha256,
        wrappers=("state_dict", "model_state_dict", "model", "teacher", "student"),
        prefixes=("module.", "backbone.", "encoder.", "vit_model.", "model."),
        unused=("mask_token", "decoder*", "norm.*", "head.*", "projector.*"),  # the MAE's other half
        convert="rs_embed_core.networks.dofa:fill_fc_norm",
    )


CARD = ModelCard(
    id="dofa",
    title="DOFA",
    summary="Wavelength-conditioned ViT: any subset of nine Sentinel-2 bands, one network.",
    paper="https://arxiv.org/abs/2403.15356",
    code="https://github.com/zhu-xlab/DOFA",
    licence_code="MIT",
    licence_weights="CC-BY-4.0",
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_BANDS),
            other_bands="subset",
            shape=Shape(_IMAGE_SIZE, patch_size=16),
            chain=Chain(
                RejectNormalized(_HIGHEST_NORMALISED, lowest=None),
                FillMissing(0.0),
                Clip(0, 10_000),
                Divide(10_000),
                Multiply(255),
                Standardize(
                    mean=tuple((band, row[1]) for band, row in _BANDS.items()),
                    std=tuple((band, row[2]) for band, row in _BANDS.items()),
                ),
                PadToSquare(),
                Resize(_IMAGE_SIZE),
                FirstFrame(),
            ),
            side_inputs=(Wavelengths("wavelengths_um", tuple((band, row[0]) for band, row in _BANDS.items())),),
        ),
    ),
    network="rs_embed_core.networks.dofa:build",
    variants={
        "base": Variant(
            dim=768,
            build=(("dim", 768), ("depth", 12), ("heads", 12)),
            weights=_weights(
                "DOFA_ViT_base_e100.pth", "4720985e42b918ac0307009eb06121a3435d9bbce6fd95446f84824a538165b1"
            ),
            parameters_m=111.3,
            sample_mb=9.0,
            aliases=("b",),
        ),
        "large": Variant(
            dim=1024,
            build=(("dim", 1024), ("depth", 24), ("heads", 16)),
            weights=_weights("DOFA_ViT_large_e100.pth"),
            parameters_m=337.1,
            sample_mb=12.0,
            aliases=("l",),
        ),
    },
    roi_pooling="mean",
    default_variant="base",
    notes=(
        "Missing pixels are filled with 0; in rs-embed one NaN makes the whole output NaN.",
        "A file without fc_norm takes norm for it, as rs-embed does; any other missing key is an error.",
    ),
)
