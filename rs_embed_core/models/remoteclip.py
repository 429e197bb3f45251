"""RemoteCLIP: CLIP's image tower, fine-tuned on remote sensing. Facts: golden/remoteclip/spec.md."""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.errors import UnknownOption
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import CentreCrop, ResizeShorterSide8Bit
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import REFLECTANCE_TO_BYTES, Divide, FillMissing, Standardize
from rs_embed_core.specs.request import ModelConfig
from rs_embed_core.weights import HubFile

_BANDS = ("B4", "B3", "B2")
# OpenAI CLIP's statistics (open_clip/constants.py, OPENAI_DATASET_MEAN and _STD), red first
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_IMAGE_SIZE = 224


def _weights(repo: str, revision: str) -> HubFile:
    return HubFile(repo, "model.safetensors", revision, prefixes=("model.",), keep="visual.")


_VARIANTS = {
    "vit_b_32": Variant(
        dim=512,
        build=(("model_name", "ViT-B-32"),),
        weights=_weights("MVRL/remote-clip-vit-base-patch32", "db58b88"),
        parameters_m=87.8,
        sample_mb=1.8,
        aliases=("vit_b32", "b32"),
    ),
    "rn50": Variant(
        dim=1024,
        build=(("model_name", "RN50"),),
        weights=_weights("MVRL/remote-clip-resnet-50", "f77f47f49a5157bd50cb695eb80c12bf3031bb7d"),
        parameters_m=38.3,
        sample_mb=11.2,
        aliases=("resnet50",),
    ),
    "vit_l_14": Variant(
        dim=768,
        build=(("model_name", "ViT-L-14"),),
        weights=_weights("MVRL/remote-clip-vit-large-patch14", "b99b927"),
        parameters_m=304.0,
        sample_mb=12.6,
        aliases=("vit_l14", "l14"),
    ),
}
_REPOS = {variant.weights.repo: name for name, variant in _VARIANTS.items() if variant.weights}


def _model_id(config: ModelConfig) -> ModelConfig:
    """rs-embed's ``model_id`` (a Hub repo) as the variant it is."""
    values = dict(config)
    if "model_id" not in values:
        return config
    repo = values.pop("model_id")
    if repo not in _REPOS or "variant" in values:
        msg = f"model_config model_id={repo!r} is not possible for remoteclip."
        hint = f"model_id is one of {', '.join(_REPOS)}, without variant; or give variant."
        raise UnknownOption(msg, hint=hint, context={"option": "model_id", "known": list(_REPOS)})
    return (*values.items(), ("variant", _REPOS[str(repo)]))


CARD = ModelCard(
    id="remoteclip",
    title="RemoteCLIP",
    summary="CLIP image tower tuned on remote-sensing captions; RGB, good for retrieval and zero-shot.",
    paper="https://arxiv.org/abs/2306.11029",
    code="https://github.com/ChenDelong1999/RemoteCLIP",
    licence_code="Apache-2.0",
    licence_weights="not stated on the Hub pages",
    aliases=(Alias("remoteclip_s2rgb"),),
    inputs=(
        Input(
            modality="rgb",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=_BANDS,
            shape=Shape(_IMAGE_SIZE, patch_size=32, fit="crop"),
            chain=Chain(
                FillMissing(0.0),
                *REFLECTANCE_TO_BYTES,
                ResizeShorterSide8Bit(_IMAGE_SIZE),
                CentreCrop(_IMAGE_SIZE),
                Divide(255),
                Standardize(mean=tuple(zip(_BANDS, _MEAN, strict=True)), std=tuple(zip(_BANDS, _STD, strict=True))),
                FirstFrame(),
            ),
        ),
    ),
    network="rs_embed_core.networks.clip_visual:build",
    variants=_VARIANTS,
    default_variant="vit_b_32",
    roi_pooling="head",
    config_aliases=_model_id,
    notes=(
        "pooled is the projected image embedding, for mean and max alike; grid holds the last block's patches.",
        (
            "A rectangular ROI keeps the image vector of the square around it (rs-embed averages the grid there, so "
            "the vector's dimension changes with the ROI's shape)."
        ),
    ),
)
