"""The provider over real HTTP: a STAC API, files by range requests, signatures, and faults of all of them."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.errors import NoImagery, ProviderAuth, ProviderError, ProviderQuota, ProviderTimeout
from rs_embed_core.providers.calls import Terms, under
from rs_embed_core.providers.stac import StacProvider, StacSettings
from rs_embed_core.providers.stac.faults import FileFailed, RequestFailed, judge
from rs_embed_core.providers.stac.http import get
from rs_embed_core.providers.stac.signing import Signer
from tests.unit.stac.server import StacServer, serving
from tests.unit.stac.written import around, write

S2 = "COPERNICUS/S2_SR_HARMONIZED"
JUNE = Period(dt.date(2022, 6, 1), dt.date(2022, 7, 1))
JULY = Period(dt.date(2022, 7, 1), dt.date(2022, 8, 1))
ONE_SCENE = Period(dt.date(2022, 6, 16), dt.date(2022, 6, 17))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stac")
    write(folder)
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[StacServer]:
    with serving(root) as running:
        yield running


def remote(server: StacServer, **settings: object) -> StacProvider:
    return StacProvider(StacSettings(preset="planetary-computer", url=server.url, **settings))


def read(provider: StacProvider, *periods: Period, bands: tuple[str, ...] = ("B2", "B5"), **plan: object) -> Chip:
    return provider.fetch(FetchPlan(S2, bands, around(), periods or (JUNE,), **plan))


@pytest.fixture(scope="module")
def local(root: Path) -> StacProvider:
    return StacProvider(StacSettings(preset="planetary-computer", path=str(root / "collection.json")))


# --- the same pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("composite", ["median", "mosaic"])
def test_remote_is_local(server, local, composite):
    far = read(remote(server), JUNE, JULY, composite=composite)
    near = read(local, JUNE, JULY, composite=composite)
    assert np.array_equal(far.data, near.data)
    assert np.array_equal(far.valid, near.valid)
    assert far.acquisitions == near.acquisitions
    assert dict(far.facts)["stac_catalogue"] == server.url
    assert dict(far.facts)["requests"] == 1 + 2 * len(far.acquisitions)


@pytest.mark.parametrize("name", ["collection.json", "items.json"])
def test_a_static_catalogue_by_address(server, local, name):
    provider = StacProvider(StacSettings(preset="planetary-computer", path=f"{server.url}/{name}"))
    assert np.array_equal(read(provider).data, read(local).data)
    read(provider, JULY)
    assert server.count(name) == 1


def test_only_the_window_is_read(server):
    chip = read(remote(server), ONE_SCENE, bands=("B2",))
    assert 0 < dict(chip.facts)["bytes"] < 12_000  # some 44 x 44 pixels of 480 x 480, 2 bytes each


def test_searches_are_paged_and_kept(server, local):
    provider = remote(server)
    months = Period(dt.date(2022, 5, 1), dt.date(2022, 8, 1))
    here, beside = around((12.005, 48.1), pixels=30), around((12.007, 48.102), pixels=30)
    for grid, cloudy_pct in ((here, None), (here, 30), (beside, 30)):
        plan = FetchPlan(S2, ("B2",), grid, (months,), cloudy_pct=cloudy_pct)
        assert provider.fetch(plan).acquisitions == local.fetch(plan).acquisitions
    assert server.count("/search") == 3  # 10 items, 4 on a page


def test_threads_share_one_search(server):
    provider = remote(server)
    threads = [threading.Thread(target=read, args=(provider,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.count("/search") == 2  # its pages


def test_no_imagery(server):
    with pytest.raises(NoImagery, match="at most 0 % cloud"):
        read(remote(server), Period(dt.date(2022, 7, 2), dt.date(2022, 7, 5)), cloudy_pct=0)


# --- signatures --------------------------------------------------------------------------------------------


def signing(server: StacServer) -> StacProvider:
    server.token = "sig=first"  # noqa: S105 - a made-up one
    return remote(server, token_url=f"{server.url}/token")


def test_hrefs_are_signed_with_one_token(server, local):
    chip = read(signing(server))
    assert np.array_equal(chip.data, read(local).data)
    assert server.count("/token/sentinel-2-l2a") == 1


def test_a_refused_signature_is_renewed_once(server, local):
    provider = signing(server)
    read(provider, bands=("B2",))
    server.token = "sig=second"  # noqa: S105
    chip = read(provider, bands=("B5",))
    assert np.array_equal(chip.data, read(local, bands=("B5",)).data)
    assert server.count("/token/") == 2


def test_a_signature_that_stays_refused(server):
    provider = remote(server, token_url=f"{server.url}/token")
    server.token = "sig=first"  # noqa: S105
    server.faults["B2.tif"] = [403] * 20
    with pytest.raises(ProviderAuth, match="403") as caught:
        read(provider, ONE_SCENE, bands=("B2",))
    assert not caught.value.retryable
    assert "sig=" not in str(caught.value)
    assert server.count("B2.tif") == 2


def test_an_ageing_signature_is_renewed(server):
    server.token = "sig=first"  # noqa: S105
    signer = Signer(f"{server.url}/token", "c")
    assert signer.signed("https://a.example/b.tif", 10.0) == "https://a.example/b.tif?sig=first"
    signer.signed("https://a.example/b.tif", 10.0)
    assert server.count("/token/c") == 1
    server.expiry = (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=4)).isoformat()
    signer.refused("https://a.example/b.tif?sig=another")
    signer.signed("https://a.example/b.tif", 10.0)
    assert server.count("/token/c") == 1
    for asked in (2, 3):  # good for less than five minutes: not kept
        signer.refused("https://a.example/b.tif?sig=first")
        signer.signed("https://a.example/b.tif", 10.0)
        assert server.count("/token/c") == asked


def test_a_token_answer_that_is_none(server):
    server.faults["/token/"] = ["cut"]
    with pytest.raises(RequestFailed):
        Signer(f"{server.url}/token", "c").signed("https://a.example/b.tif", 10.0)


# --- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [429, 500, 503, "reset"])
@pytest.mark.parametrize("path", ["/search", "B2.tif"])
def test_a_passing_fault_is_got_over(server, local, fault, path):
    # curl tries a dropped connection again by itself, up to three times in a row
    server.faults[path] = [fault] * (4 if fault == "reset" and path == "B2.tif" else 1)
    chip = read(remote(server), ONE_SCENE, bands=("B2",))
    assert np.array_equal(chip.data, read(local, ONE_SCENE, bands=("B2",)).data)
    assert 1 <= dict(chip.facts)["retries"] <= 2


def test_a_fault_in_the_middle_of_a_file_is_got_over(server, local):
    server.faults["GET"] = [503] * 3  # after HEAD: GDAL does not tell why it could not read on
    chip = read(remote(server), ONE_SCENE, bands=("B2",))
    assert np.array_equal(chip.data, read(local, ONE_SCENE, bands=("B2",)).data)


def test_a_cut_answer_of_the_catalogue_is_asked_for_again(server, local):
    server.faults["/search"] = ["cut"]
    assert read(remote(server), ONE_SCENE).acquisitions == read(local, ONE_SCENE).acquisitions
    assert server.count("/search") == 2


@pytest.mark.parametrize("path", ["/search", "B2.tif"])
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (403, ProviderAuth, "provider_auth"),
        (404, ProviderError, "not_found"),
        (400, ProviderError, "provider_rejected"),
    ],
)
def test_a_refusal_is_not_asked_again(server, path, status, kind, code):
    server.faults[path] = [status] * 30
    with pytest.raises(kind, match=str(status)) as caught:
        read(remote(server), ONE_SCENE, bands=("B2",))
    assert (caught.value.code, caught.value.retryable) == (code, False)
    assert caught.value.hint
    assert server.count(path) == 1


@pytest.mark.parametrize("path", ["/search", "B2.tif", "GET"])
@pytest.mark.parametrize("status", [429, 503, 500])
def test_a_lasting_fault_ends_with_the_deadline(server, path, status):
    server.faults[path] = [status] * 1000
    begun = time.monotonic()
    with under(Terms(deadline=begun + 0.7)), pytest.raises(ProviderError) as caught:
        read(remote(server), ONE_SCENE, bands=("B2",))
    assert caught.value.retryable
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("failure", "kind", "tries", "retryable"),
    [
        (RequestFailed("a", "b", status=429), ProviderQuota, 5, True),
        (RequestFailed("a", "b", status=503), ProviderError, 5, True),
        (RequestFailed("a", "b", status=500), ProviderError, 4, True),
        (RequestFailed("a", "no answer"), ProviderError, 4, True),
        (RequestFailed("a", "timed out"), ProviderTimeout, 2, True),
        (RequestFailed("a", "b", status=401), ProviderAuth, 1, False),
        (RequestFailed("a", "b", status=403, signed=True), ProviderAuth, 2, False),
        (RequestFailed("a", "b", status=410), ProviderError, 1, False),
        (RequestFailed("a", "b", status=400), ProviderError, 1, False),
        (FileFailed("a is damaged"), ProviderError, 1, False),
        (ZeroDivisionError("a"), ProviderError, 1, False),
    ],
)
def test_the_table_of_faults(failure, kind, tries, retryable):
    verdict = judge(failure)
    assert type(verdict.error) is kind
    assert (verdict.tries, verdict.error.retryable) == (tries, retryable)
    assert (verdict.pressure != "none") == (tries == 5)
    assert verdict.error.hint


@pytest.mark.parametrize("path", ["/search", "B2.tif", "/token/", "items.json", "GET"])
def test_a_server_that_never_answers(server, path):
    server.faults[path] = ["stall"] * 100
    provider = signing(server) if path == "/token/" else remote(server)
    if path == "items.json":
        provider = StacProvider(StacSettings(preset="planetary-computer", path=f"{server.url}/items.json"))
    begun = time.monotonic()
    with under(Terms(deadline=begun + 2.0)), pytest.raises(ProviderError) as caught:
        read(provider, ONE_SCENE, bands=("B2",))
    assert isinstance(caught.value, ProviderTimeout) or path == "GET"  # GDAL does not tell what failed there
    assert caught.value.retryable
    assert time.monotonic() - begun < 15


def test_the_deadline_of_the_settings(server):
    server.faults["/search"] = ["stall"] * 100
    with pytest.raises(ProviderTimeout, match="timed out"):
        read(remote(server, timeout_s=0.5))


def test_what_the_service_says_about_coming_back(server):
    server.faults["items.json"] = [429]
    with pytest.raises(RequestFailed) as caught:
        get(f"{server.url}/items.json?secret", 10.0)
    verdict = judge(caught.value)
    assert (verdict.retry_after_s, verdict.pressure) == (1.0, "rate")
    assert verdict.tries > 1
    assert "secret" not in str(verdict.error)


def test_nobody_is_there():
    provider = StacProvider(StacSettings(url="http://127.0.0.1:9", timeout_s=5))
    with pytest.raises(ProviderError, match="no answer") as caught:
        read(provider)
    assert caught.value.retryable


# --- light to import ---------------------------------------------------------------------------------------


def test_importing_and_building_loads_no_reader():
    code = (
        "import sys; from rs_embed_core.providers.stac import StacProvider; StacProvider();"
        "heavy = {'rasterio', 'pystac', 'pystac_client', 'pyproj', 'shapely', 'urllib3', 'requests'};"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
