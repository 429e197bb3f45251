"""Scale-MAE: a ViT that is told the size of a pixel on the ground. Facts: golden/scalemae/spec.md."""

from __future__ import annotations

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import NoteShorterSide, Resize8Bit
from rs_embed_core.preprocessing.side_inputs import PixelSize
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import REFLECTANCE_TO_BYTES, Divide, FillMissing, Standardize
from rs_embed_core.weights import HubFile

_BANDS = ("B4", "B3", "B2")
# ImageNet's statistics (torchvision.transforms.Normalize in the reference), red first
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_IMAGE_SIZE = 224


CARD = ModelCard(
    id="scalemae",
    title="Scale-MAE",
    summary="Masked autoencoder on RGB of many resolutions; the size of a pixel on the ground is an input.",
    paper="https://arxiv.org/abs/2212.14532",
    code="https://github.com/bair-climate-initiative/scale-mae",
    licence_code="CC-BY-NC-4.0",
    licence_weights="Apache-2.0",
    aliases=(Alias("scalemae_rgb"),),
    inputs=(
        Input(
            modality="rgb",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=_BANDS,
            shape=Shape(_IMAGE_SIZE, patch_size=16, fit="stretch"),
            chain=Chain(
                FillMissing(0.0),
                NoteShorterSide("shorter_side_px"),
                *REFLECTANCE_TO_BYTES,
                Resize8Bit(_IMAGE_SIZE),
                Divide(255),
                Standardize(mean=tuple(zip(_BANDS, _MEAN, strict=True)), std=tuple(zip(_BANDS, _STD, strict=True))),
                FirstFrame(),
            ),
            side_inputs=(PixelSize("scale_m"),),
        ),
    ),
    network="rs_embed_core.networks.scalemae:build",
    variants={
        "large": Variant(
            dim=1024,
            build=(("dim", 1024), ("depth", 24), ("heads", 16)),
            weights=HubFile(
                "MVRL/scalemae-vitlarge-800",
                "pytorch_model.bin",
                revision="e323e809d77bbd02678098343aea59b4780eebd6",
                prefixes=("model.",),
                unused=("norm.*",),  # the final norm: in the file, but not applied
            ),
            parameters_m=303.1,
            sample_mb=10.5,
        ),
    },
    default_variant="large",
    notes=(
        "scale_m is an input of the network: the same pixels at another scale_m give another embedding.",
        (
            "The network is told scale_m * min(height, width) / 224, the size of a pixel after resizing, also where "
            "the longer side is squeezed more."
        ),
        "The last layer norm of the checkpoint is not applied, as in rs-embed.",
    ),
)
