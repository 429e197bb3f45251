"""Presto: a vector for every pixel from its months of Sentinel-2 and Sentinel-1. Facts: golden/presto/spec.md."""

from __future__ import annotations

from rs_embed_core.card import ModelCard
from rs_embed_core.chip import Period
from rs_embed_core.inputs import Input, Options, Shape, Source, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import RefuseLarger
from rs_embed_core.preprocessing.side_inputs import BandKeys, CentreLatLon, Months
from rs_embed_core.preprocessing.time import Frames, stride_count
from rs_embed_core.preprocessing.values import MaskMissing, Standardize
from rs_embed_core.weights import HubFile

# band: (mean, std) for (x + add) / div of golden/presto/spec.md, "Input", as (-add, div); in the network's order
_S1 = {"VV": (-25.0, 25.0), "VH": (-25.0, 25.0)}
_S2 = dict.fromkeys(("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"), (0.0, 10_000.0))
_CHANNELS = tuple((band, place) for place, band in enumerate((*_S1, *_S2)))  # golden/presto/spec.md, "Input"
_RADAR = "COPERNICUS/S1_GRD"  # dB; the authors' deploy/2_Generate_Embeddings.js has both of these collections
_OPTICAL = "COPERNICUS/S2_SR_HARMONIZED"

_LONGEST_MONTH_DAYS = 31
_MOST_MONTHS = 24  # max_sequence_length: golden/presto/spec.md, "Checkpoint"
_USUAL_MONTHS = 12  # NUM_TIMESTEPS of the authors' presto/dataops/pipelines/s1_s2_era5_srtm.py
_WARM_PX, _TILE_PX = 64, 128  # sides of an example and of a tile: every pixel costs the same, wherever it is
_MOST_PX = 512  # a quarter of a million series and 134 MB of vectors; more is for tiles


def _chain(values: dict[str, tuple[float, float]]) -> Chain:
    mean = tuple((band, row[0]) for band, row in values.items())
    std = tuple((band, row[1]) for band, row in values.items())
    return Chain(RefuseLarger(_MOST_PX), Standardize(mean, std), MaskMissing("missing"))


def _months(window: Period, options: Options) -> int:
    """As many as the window's calendar months where it has whole ones: equal parts are then centred in each."""
    return stride_count(window, days=_LONGEST_MONTH_DAYS, at_most=int(options["max_frames"]))


def _input(
    modality: str, collection: str, values: dict[str, tuple[float, float]], *, also: tuple[Source, ...] = ()
) -> Input:
    return Input(
        modality=modality,
        collection=collection,
        bands=tuple(values),
        also=also,
        other_bands="subset",
        shape=Shape(_WARM_PX, patch_size=1, fit="native", tile_size=_TILE_PX),
        chain=_chain(values),
        time=Frames(_months, at_most=_MOST_MONTHS, widest_gap_days=_LONGEST_MONTH_DAYS),
        side_inputs=(BandKeys("channels", _CHANNELS), Months("months"), CentreLatLon("latlon")),
        linear=collection != _RADAR,
        region="rectangle",
    )


CARD = ModelCard(
    id="presto",
    title="Presto",
    summary="One vector per pixel from its monthly series of Sentinel-2, Sentinel-1 or both; small and fast.",
    paper="https://arxiv.org/abs/2304.14065",
    code="https://github.com/nasaharvest/presto",
    licence_code="MIT",
    licence_weights="MIT",
    inputs=(
        _input("s2", _OPTICAL, _S2),
        _input("s1_s2", _OPTICAL, _S2 | _S1, also=(Source(_RADAR, tuple(_S1), cloudy_pct=None, linear=False),)),
        _input("s1", _RADAR, _S1),
    ),
    network="rs_embed_core.networks.presto:build",
    variants={
        "base": Variant(
            dim=128,
            build=(("dim", 128), ("depth", 2), ("heads", 8)),  # golden/presto/spec.md, "Checkpoint"
            weights=HubFile(
                "torchgeo/presto",
                "model-e5e57c68.pth",
                revision="43f8d500a930772d226b309a06ec32be6dc077dd",
                keep="encoder.",
            ),
            parameters_m=0.4,
            sample_mb=94.0,
            batch_size=16,
        ),
    },
    default_variant="base",
    options=(
        Option(
            "max_frames",
            _USUAL_MONTHS,
            "Most frames that a window gives: one per month up to so many, then longer ones.",
            "prepare",
            minimum=1,
            maximum=_MOST_MONTHS,
        ),
    ),
    notes=(
        f"One cell per pixel of 10 m, nothing resized: more than {_MOST_PX} pixels a side take input_prep=tile.",
        "A missing value is left out of its pixel's series, as in training; nothing is filled in.",
        "With it go the bands of the same token: B2 B3 B4; B5 B6 B7; B11 B12; VV VH; NDVI of B4 and B8.",
        "A month without any acquisition takes the composite of the whole window.",
        "The place is the centre of the sample, the same for all of its pixels.",
        "Surface reflectance goes in, as in the authors' script for embeddings; pretraining read top of atmosphere.",
        "Tokens for ERA5, SRTM and Dynamic World exist in the network, and are not read here.",
    ),
)
