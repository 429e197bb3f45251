"""TerraMind: the encoder of a generative multimodal model, on Sentinel-2 L2A. Facts: golden/terramind/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.errors import UnknownOption
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.fit import Resize
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import Clip, FillMissing, Standardize
from rs_embed_core.specs.request import ModelConfig, OptionValue
from rs_embed_core.weights import HubFile

_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
# untok_sen2l2a@224 of v1_pretraining_mean and _std, v01_pretraining_mean and _std: terrastackai/terratorch,
# terratorch/models/backbones/terramind/model/terramind_register.py at f111497
_V1_MEAN = (
    *(1390.458, 1503.317, 1718.197, 1853.91, 2199.1, 2779.975),
    *(2987.011, 3083.234, 3132.22, 3162.988, 2424.884, 1857.648),
)
_V1_STD = (
    *(2106.761, 2141.107, 2038.973, 2134.138, 2085.321, 1889.926),
    *(1820.257, 1871.918, 1753.829, 1797.379, 1434.261, 1334.311),
)
_V01_MEAN = (
    *(794.311, 925.161, 1183.128, 1338.041, 1667.254, 2233.633),
    *(2460.96, 2555.569, 2619.542, 2703.298, 2406.497, 1841.645),
)
_V01_STD = (
    *(1164.883, 1205.586, 1223.713, 1399.638, 1403.298, 1378.513),
    *(1434.924, 1491.141, 1454.089, 1660.395, 1473.248, 1365.08),
)


def _standardize(mean: tuple[float, ...], std: tuple[float, ...]) -> Standardize:
    return Standardize(mean=tuple(zip(_BANDS, mean, strict=True)), std=tuple(zip(_BANDS, std, strict=True)))


_V1, _V01 = _standardize(_V1_MEAN, _V1_STD), _standardize(_V01_MEAN, _V01_STD)
_SHAPE = Shape(224, patch_size=16, fit="stretch")  # the adapter stretches what is not square
_DEEPEST = 24  # blocks of the large variant


def _chain(options: Options) -> Chain:
    values: tuple[Step, ...] = ()
    if options["normalization"] == "zscore":
        values = (_V01 if str(options["variant"]).startswith("v01") else _V1,)
    return Chain(FillMissing(0.0), Clip(0, 10_000), Resize(_SHAPE.image_size), *values, FirstFrame())


def _short(variant: OptionValue) -> str:
    return str(variant).lower().replace("-", "_").removeprefix("terramind_")


def _names(config: ModelConfig) -> ModelConfig:
    """rs-embed's names: ``model_key`` for the variant, and ``modality``, which can only say what is so anyway."""
    values = dict(config)
    modality = values.pop("modality", "S2L2A")
    if str(modality).lower().replace("-", "").replace("_", "") != "s2l2a":
        msg = f"terramind has no modality {modality!r}."
        hint = "It is S2L2A: its other modalities take other bands than the twelve that are read."
        raise UnknownOption(msg, hint=hint, context={"known": ["s2_l2a"]})
    if "model_key" in values:
        key = values.pop("model_key")
        if _short(values.setdefault("variant", key)) != _short(key):
            msg = f"model_config has the variant {values['variant']!r} and the model_key {key!r}."
            raise UnknownOption(msg, hint="They mean the same: give one.", context={"option": "model_key"})
    return tuple(values.items())


def _variant(key: str, repo: str, parameters_m: float, sample_mb: float, **build: int) -> Variant:
    return Variant(
        dim=build["dim"],
        build=tuple(build.items()),
        weights=HubFile(
            repo,
            f"TerraMind_{key}.pt",
            revision="main",
            unused=(
                "decoder*",
                "mask_token",
                "encoder_embeddings.tok_*",
                "encoder_embeddings.untok_sen2l1c@224.*",
                "encoder_embeddings.untok_sen2rgb@224.*",
                "encoder_embeddings.untok_sen1???@224.*",
                "encoder_embeddings.untok_dem@224.*",
                "encoder_embeddings.caption.*",
                "encoder_embeddings.coords.*",
            ),
            convert="rs_embed_core.networks.terramind:zero_biases",
        ),
        parameters_m=parameters_m,
        sample_mb=sample_mb,
        aliases=(f"terramind_{key}",),
    )


CARD = ModelCard(
    id="terramind",
    title="TerraMind",
    summary="Encoder of a generative multimodal model; twelve Sentinel-2 L2A bands, five sizes.",
    paper="https://arxiv.org/abs/2504.11171",
    code="https://github.com/IBM/terramind",
    licence_code="Apache-2.0",
    licence_weights="Apache-2.0 (1.0; that of 0.1 is behind its gate)",
    inputs=(
        Input(
            modality="s2_l2a",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=_BANDS,
            shape=_SHAPE,
            chain=_chain,
        ),
    ),
    network="rs_embed_core.networks.terramind:build",
    variants={
        "v1_tiny": _variant(
            "v1_tiny", "ibm-esa-geospatial/TerraMind-1.0-tiny", 5.9, 2.7, dim=192, depth=12, heads=3, gated=False
        ),
        "v1_small": _variant(
            "v1_small", "ibm-esa-geospatial/TerraMind-1.0-small", 22.5, 3.3, dim=384, depth=12, heads=6, gated=False
        ),
        "v1_base": _variant(
            "v1_base", "ibm-esa-geospatial/TerraMind-1.0-base", 87.3, 6.6, dim=768, depth=12, heads=12, gated=True
        ),
        "v1_large": _variant(
            "v1_large", "ibm-esa-geospatial/TerraMind-1.0-large", 305.1, 8.8, dim=1024, depth=24, heads=16, gated=True
        ),
        "v01_base": _variant(
            "v01_base", "FAST-EO/TerraMind-0.1-base", 87.3, 6.6, dim=768, depth=12, heads=12, gated=True
        ),
    },
    default_variant="v1_small",
    config_aliases=_names,
    options=(
        Option(
            "layer_index",
            -1,
            "The block whose output is taken, from 0 or, below 0, from the end; only the last one's is normed.",
            "forward",
            minimum=-_DEEPEST,
            maximum=_DEEPEST - 1,
        ),
        Option(
            "normalization",
            "zscore",
            "Standardise with the variant's statistics, or take the numbers 0..10000 (none, off and raw alike).",
            "prepare",
            choices=("zscore", "none", "off", "raw"),
        ),
    ),
    notes=(
        "This is the encoder only: it gives embeddings and generates no imagery.",
        "v01_base has statistics of its own; the preprocessing shown is that of v1_small, as for all of 1.0.",
        (
            "The repository of v01_base is gated: accept its terms on the Hugging Face Hub and set HF_TOKEN, or put "
            "the file below checkpoints.root."
        ),
        "model_key=terramind_v1_base is another spelling of variant=v1_base.",
        "layer_index counts 12 blocks (24 of v1_large); one that the variant has not is refused.",
        "A file must hold every weight of the encoder, where the reference fills gaps at random.",
    ),
)
