from __future__ import annotations

from pathlib import Path

import numpy as np

from rs_embed_core.chip import Chip
from rs_embed_core.providers.synthetic import SyntheticProvider
from serve_app.deployments.provider_table import ProviderTable
from serve_app.settings import CacheSettings, ProviderSettings
from tests.unit.copernicus_maps import INLAND, SAMPLE, asked

ON_DISK = {"memory_mb": 0}  # nothing into Ray's object store: there is no Ray here


def table(providers: dict[str, object], **cache: object) -> ProviderTable:
    return ProviderTable.build(
        ProviderSettings.model_validate(providers), CacheSettings.model_validate(ON_DISK | cache)
    )


def copernicus(tmp_path: Path, map_of: Path = SAMPLE) -> ProviderTable:
    return table({"copernicus": {"path": map_of, "minimum_bytes": 0}}, disk_path=tmp_path / "chips")


def where(chip: Chip) -> object:
    return dict(chip.facts)["cache"]


def test_by_default_there_is_only_what_needs_no_account() -> None:
    built = table({})
    assert list(built.providers) == ["synthetic"]
    assert built.gates == {}
    assert isinstance(built.providers["synthetic"], SyntheticProvider)  # bare: drawing is cheaper than keeping


def test_what_the_settings_name_is_there_and_services_have_their_quota() -> None:
    sections = {"gee": {"at_once": 5}, "stac": {"at_once": 7}, "tessera": {}, "copernicus": {}}
    built = table(sections)
    assert list(built.providers) == ["synthetic", *sections]
    assert [provider.name for provider in built.providers.values()] == list(built.providers)
    assert list(built.gates) == ["gee", "stac"]


def test_a_chip_is_read_once_and_then_found_on_disk(tmp_path: Path) -> None:
    read = asked(INLAND)
    first = copernicus(tmp_path).providers["copernicus"].fetch(read)
    again = copernicus(tmp_path).providers["copernicus"].fetch(read)  # as after a restart
    assert (where(first), where(again)) == ("miss", "disk")
    np.testing.assert_array_equal(again.data, first.data)


def test_without_a_directory_nothing_is_kept_on_disk() -> None:
    provider = table({"copernicus": {"path": SAMPLE, "minimum_bytes": 0}}).providers["copernicus"]
    assert [where(provider.fetch(asked(INLAND))) for _ in range(2)] == ["miss", "miss"]


def test_another_map_s_chips_are_not_taken_for_this_one_s(tmp_path: Path) -> None:
    read = asked(INLAND)
    copernicus(tmp_path).providers["copernicus"].fetch(read)
    other = copernicus(tmp_path, next(SAMPLE.glob("*.tif"))).providers["copernicus"].fetch(read)
    assert where(other) == "miss"
