"""SSL4EO-S12: backbones trained by contrast and distillation, as torchgeo publishes them."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import Resize
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Divide, FillMissing, Standardize
from rs_embed_core.weights import HubFile

_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
_IMAGE_SIZE = 224
_RESIZE = Resize(_IMAGE_SIZE, antialias=True)  # torchvision's Resize antialiases
_DECIBELS = Standardize(  # _mean_s1 and _std_s1: torchgeo 0.8.1, torchgeo/models/resnet.py
    mean=(("VV", -12.59), ("VH", -20.26)),
    std=(("VV", 5.26), ("VH", 5.91)),
)
_DIMS = {"vit_small": 384, "resnet50": 2048, "resnet18": 512}
_SAMPLE_MB = {"vit_small": 3.6, "resnet50": 10.4, "resnet18": 6.4}


def _shape(options: Options) -> Shape:
    """A transformer has cells of 16 pixels, a residual network shrinks the image to a 32nd."""
    return Shape(_IMAGE_SIZE, patch_size=16 if str(options["variant"]).startswith("vit") else 32, fit="stretch")


# Repositories, commits and files: torchgeo 0.8.1, torchgeo/models/resnet.py and vit.py. A file's name ends with the
# first digits of its hash.
def _variant(architecture: str, file: str, commit: str, parameters_m: float, bands: int = len(_BANDS)) -> Variant:
    return Variant(
        dim=_DIMS[architecture],
        build=(("architecture", architecture), ("bands", bands)),
        weights=HubFile(
            f"torchgeo/{file[:-13]}",
            file,
            revision=commit,
            unused=("head.*", "fc.*"),  # the classifier, of which torchgeo has no use either
            convert="rs_embed_core.networks.ssl4eo:with_counters",
        ),
        parameters_m=parameters_m,
        sample_mb=_SAMPLE_MB[architecture],
    )


CARD = ModelCard(
    id="ssl4eo",
    title="SSL4EO-S12",
    summary="MoCo and DINO backbones (ViT-S/16, ResNet) for all 13 bands of Sentinel-2 L1C, and for Sentinel-1.",
    paper="https://arxiv.org/abs/2211.07044",
    code="https://github.com/zhu-xlab/SSL4EO-S12",
    licence_code="Apache-2.0",
    licence_weights="CC-BY-4.0",
    inputs=(
        Input(
            modality="s2_l1c",
            collection="COPERNICUS/S2_HARMONIZED",
            bands=_BANDS,
            shape=_shape,
            chain=Chain(FillMissing(0.0), _RESIZE, Divide(10_000), FirstFrame()),
        ),
        Input(
            modality="s1",
            collection="COPERNICUS/S1_GRD",
            bands=("VV", "VH"),
            linear=False,
            cloudy_pct=None,  # radar scenes have no cloud cover to filter by
            shape=_shape,
            chain=Chain(_DECIBELS, FillMissing(0.0), _RESIZE, FirstFrame()),  # what is missing is average
            variants={
                "resnet50_moco": _variant(
                    "resnet50",
                    "resnet50_sentinel1_all_moco-906e4356.pth",
                    "e79862c667853c10a709bdd77ea8ffbad0e0f1cf",
                    23.5,
                    bands=2,
                ),
            },
        ),
    ),
    network="rs_embed_core.networks.ssl4eo:build",
    variants={
        "vit_small_moco": _variant(
            "vit_small",
            "vit_small_patch16_224_sentinel2_all_moco-67c9032d.pth",
            "1cb683f6c14739634cdfaaceb076529adf898c74",
            22.6,
        ),
        "vit_small_dino": _variant(
            "vit_small",
            "vit_small_patch16_224_sentinel2_all_dino-36bcc127.pth",
            "5b41dd418a79de47ac9f5be3e035405a83818a62",
            22.6,
        ),
        "resnet50_moco": _variant(
            "resnet50",
            "resnet50_sentinel2_all_moco-df8b932e.pth",
            "da4f3c9dbe09272eb902f3b37f46635fa4726879",
            23.5,
        ),
        "resnet50_dino": _variant(
            "resnet50",
            "resnet50_sentinel2_all_dino-d6c330e9.pth",
            "d7f14bf5530d70ac69d763e58e77e44dbecfec7c",
            23.5,
        ),
        "resnet18_moco": _variant(
            "resnet18",
            "resnet18_sentinel2_all_moco-59bfdff9.pth",
            "5b8cddc9a14f3844350b7f40b85bcd32aed75918",
            11.2,
        ),
    },
    default_variant="resnet50_moco",
    notes=(
        "These are encoders only: the classifiers and the projection heads of the training are left out.",
        "Sentinel-2 comes from the top of the atmosphere (L1C), which the models were trained on, not the surface.",
        (
            "The whole ROI is resized to 224 pixels. torchgeo's transforms resize it to 256 and keep the centre 224, "
            "which leaves out its border; the values are scaled as there."
        ),
        (
            "pooled of a ResNet is the mean (or max) of its 7 x 7 cells; of a ViT it is the class token, for mean "
            "and max alike, or of a rectangular ROI the mean or max of its 14 x 14 cells."
        ),
        "Sentinel-1 is in dB, and has the variant resnet50_moco alone, with weights of its own.",
    ),
)
