"""Copernicus-FM: a ViT for any spectral bands that knows place, day and area. Facts: golden/copernicusfm/spec.md."""

from __future__ import annotations

from collections.abc import Mapping

from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.inputs import Input, Options, Shape, Variant
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.reject import RejectNormalized
from rs_embed_core.preprocessing.sar import ToDecibels
from rs_embed_core.preprocessing.side_inputs import CentreLonLat, DayNumber, PatchArea, SideInput, Wavelengths
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import FillMissing, Standardize
from rs_embed_core.weights import HubFile

type _Bands = Mapping[str, tuple[float, float, float, float]]

# band: (wavelength nm, bandwidth nm, mean, std); statistics of BigEarthNet in the authors' Copernicus-Bench
# (zhu-xlab/Copernicus-FM), as in golden/copernicusfm/spec.md, "Input"
_OPTICAL: _Bands = {
    "B1": (440, 20, 1353.7, 897.3),
    "B2": (490, 65, 1117.2, 736.0),
    "B3": (560, 35, 1041.8, 684.8),
    "B4": (665, 30, 946.5, 620.0),
    "B5": (705, 15, 1199.1, 791.9),
    "B6": (740, 15, 2003.0, 1341.3),
    "B7": (783, 20, 2374.0, 1595.4),
    "B8": (842, 115, 2301.2, 1545.5),
    "B8A": (860, 20, 2599.7, 1750.1),
    "B9": (940, 20, 732.1, 475.1),
    "B11": (1610, 90, 1820.6, 1216.5),
    "B12": (2190, 180, 1118.2, 736.7),
}
_RADAR: _Bands = {"VV": (5e7, 1e9, -12.548, 5.257), "VH": (5e7, 1e9, -20.192, 5.912)}
_IMAGE_SIZE = 224
_FAINTEST = 1e-10  # -100 dB, as in olmoearth's adapter
_HIGHEST_NORMALISED = 2.0  # of data that is not raw any more, as DOFA's and Clay's adapters in rs-embed have it


def _standardize(bands: _Bands) -> Standardize:
    return Standardize(
        mean=tuple((band, row[2]) for band, row in bands.items()),
        std=tuple((band, row[3]) for band, row in bands.items()),
    )


def _side_inputs(bands: _Bands) -> tuple[SideInput, ...]:
    return (
        Wavelengths("wavelengths_nm", tuple((band, row[0]) for band, row in bands.items())),
        Wavelengths("bandwidths_nm", tuple((band, row[1]) for band, row in bands.items()), what="bandwidth"),
        CentreLonLat("lonlat"),
        DayNumber("day"),
        PatchArea("patch_km2", option="kernel_size"),
    )


def _shape(options: Options) -> Shape:
    return Shape(_IMAGE_SIZE, patch_size=int(options["kernel_size"]))


CARD = ModelCard(
    id="copernicusfm",
    title="Copernicus-FM",
    summary="Any subset of twelve Sentinel-2 bands, or Sentinel-1; knows wavelengths, place, day and area.",
    paper="https://arxiv.org/abs/2503.11849",
    code="https://github.com/zhu-xlab/Copernicus-FM",
    licence_code="Apache-2.0",
    licence_weights="CC-BY-4.0",
    aliases=(Alias("copernicus_fm"),),
    inputs=(
        Input(
            modality="s2",
            collection="COPERNICUS/S2_SR_HARMONIZED",
            bands=tuple(_OPTICAL),
            other_bands="subset",
            shape=_shape,
            chain=Chain(
                RejectNormalized(_HIGHEST_NORMALISED),
                FillMissing(0.0),
                _standardize(_OPTICAL),
                PadToSquare(),
                Resize(_IMAGE_SIZE),
                FirstFrame(),
            ),
            side_inputs=_side_inputs(_OPTICAL),
        ),
        Input(
            modality="s1",
            collection="COPERNICUS/S1_GRD",
            bands=tuple(_RADAR),
            other_bands="subset",
            linear=False,
            cloudy_pct=None,  # radar scenes have no cloud cover to filter by
            shape=_shape,
            chain=Chain(
                ToDecibels(_FAINTEST),
                _standardize(_RADAR),
                FillMissing(0.0),  # the mean: 0 dB would be brighter than anything
                PadToSquare(),
                Resize(_IMAGE_SIZE),
                FirstFrame(),
            ),
            side_inputs=_side_inputs(_RADAR),
        ),
    ),
    network="rs_embed_core.networks.copernicusfm:build",
    variants={
        "base": Variant(
            dim=768,
            build=(("dim", 768), ("depth", 12), ("heads", 12)),
            weights=HubFile(
                "torchgeo/copernicus-fm",
                "CopernicusFM_ViT_base_varlang-085350e4.pth",
                revision="f395812cc990ba25a451dbb9c9e6d95c8482947e",
                convert="rs_embed_core.networks.copernicusfm:fill_fc_norm",
            ),
            parameters_m=139.5,
            sample_mb=10.8,
            aliases=("b",),
        ),
    },
    default_variant="base",
    options=(
        Option(
            "kernel_size",
            16,
            "Pixels behind one token, a side: the patch kernel is resized to it. 16 is the size it was trained with.",
            "forward",
            choices=(4, 8, 16, 32),
        ),
    ),
    notes=(
        "pooled is the norm of the mean of the patches (mean) or their maximum (max); grid has no norm.",
        (
            "The published file has no weights for that norm: it stays at gain 1 and bias 0. Of a rectangular ROI "
            "pooled is the mean or max of its cells, without the norm."
        ),
        (
            "Place and day are those of the sample, area is that of a patch at the pixel size asked for. Pixels "
            "without a place get the token for an unknown one; in the published code one such sample takes the "
            "place from its whole batch."
        ),
        "Values are standardised by the statistics of BigEarthNet, which the authors use in their benchmark.",
        (
            "Sentinel-1 is in decibels; pixels in linear power are converted. Missing pixels count as 0 in Sentinel-2 "
            "and as average in Sentinel-1."
        ),
        (
            "The network also takes other variables (elevation, air quality) through a language embedding of their "
            "names; the embeddings are not published with it, so there is no modality for them here."
        ),
    ),
)
