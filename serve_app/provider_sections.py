"""The providers' parts of the settings: the library's own with their defaults, checked and described."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from rs_embed_core.providers.copernicus import CopernicusSettings
from rs_embed_core.providers.gee import GeeSettings
from rs_embed_core.providers.stac import StacSettings
from rs_embed_core.providers.stac.presets import PresetName
from rs_embed_core.providers.tessera import TesseraSettings

_gee, _stac, _tessera, _copernicus = GeeSettings(), StacSettings(), TesseraSettings(), CopernicusSettings()


class Section(BaseModel):
    """A part of the settings; a key that it does not have is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GeeSection(Section):
    """Google Earth Engine."""

    project: str | None = Field(
        _gee.project, description="Google Cloud project that pays; empty takes the credentials' own."
    )
    url: str | None = Field(_gee.url, description="Endpoint; empty is the standard one, high-volume Google's other.")
    credentials: str = Field(
        _gee.credentials,
        description="auto (stored user token, else Application Default Credentials), anonymous, or a key file.",
    )
    workload_tag: str = Field(_gee.workload_tag, description="Tag under which the project's costs are listed.")
    at_once: int = Field(_gee.at_once, ge=1, description="Requests under way at once, of all fetch actors together.")
    per_second: float = Field(
        _gee.per_second, gt=0, description="Requests begun per second, of all fetch actors together."
    )
    deadline_s: float = Field(
        _gee.deadline_s, gt=0, description="Longest request where the caller sets no nearer deadline."
    )

    def plain(self) -> GeeSettings:
        """What the provider takes."""
        return GeeSettings(**self.model_dump())


class StacSection(Section):
    """A STAC catalogue of Sentinel-2 L2A files."""

    preset: PresetName = Field(_stac.preset, description="Whose names and radiometric offset hold.")
    url: str | None = Field(_stac.url, description="Another STAC API that holds the same.")
    path: str | None = Field(
        _stac.path, description="A static catalogue instead: collection.json, catalog.json, items.json."
    )
    collection: str | None = Field(
        _stac.collection, description="Its name for Sentinel-2 L2A; empty takes the preset's."
    )
    mask_clouds: bool = Field(
        _stac.mask_clouds, description="Leave out what the scene classification calls cloud or shadow."
    )
    max_scenes: int | None = Field(_stac.max_scenes, ge=1, description="Most scenes in one frame; empty takes all.")
    at_once: int = Field(_stac.at_once, ge=1, description="Files read at once, of all fetch actors together.")
    token_url: str | None = Field(_stac.token_url, description="Another address that signs hrefs.")
    timeout_s: float = Field(
        _stac.timeout_s, gt=0, description="Longest read where the request sets no nearer deadline."
    )

    def plain(self) -> StacSettings:
        """What the provider takes."""
        return StacSettings(**self.model_dump())


class TesseraSection(Section):
    """The tiles of TESSERA."""

    root: Path | None = Field(
        _tessera.root, description="Folder in geotessera's layout; empty downloads what is wanted."
    )
    dataset_version: str = Field(
        _tessera.dataset_version, description="Data set; embeddings of different ones are not comparable."
    )
    dataset_variant: str | None = Field(
        _tessera.dataset_variant, description="Variant of the data set; empty takes the version's own."
    )
    cache_dir: Path = Field(_tessera.cache_dir, description="Where downloaded tiles go.")
    offline: bool = Field(_tessera.offline, description="Never download.")

    def plain(self) -> TesseraSettings:
        """What the provider takes."""
        return TesseraSettings(**self.model_dump())


class CopernicusSection(Section):
    """The map of Copernicus-Embed."""

    path: Path | None = Field(_copernicus.path, description="The GeoTIFF or its folder; empty takes it from the Hub.")
    offline: bool = Field(_copernicus.offline, description="Never ask the Hub.")
    minimum_bytes: int = Field(_copernicus.minimum_bytes, ge=0, description="A smaller file is an incomplete download.")

    def plain(self) -> CopernicusSettings:
        """What the provider takes."""
        return CopernicusSettings(**self.model_dump())
