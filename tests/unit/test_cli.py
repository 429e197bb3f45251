from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rioxarray
from PIL import Image

from rs_embed_core.errors import UnknownProvider
from rs_embed_core.registry import get_card
from serve_app.cli import build_parser, main
from serve_app.commands.serve import settings_of
from tests.unit.http_service import local_service

POINT = ["--point", "8.54", "47.37", "320"]
SUMMER = ["--start", "2022-06-01", "--end", "2022-09-01"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local_service() as address:
        yield address


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run a command line: its exit code, output and errors."""

    def go(*argv: str) -> tuple[int, str, str]:
        try:
            code = main(argv)
        except SystemExit as leaving:  # argparse's way
            code = int(leaving.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


# --- the parser --------------------------------------------------------------------------------------------


def test_help_of_every_command_has_examples_that_parse(run) -> None:
    code, text, _ = run("--help")
    assert code == 0
    commands = ["serve", "models", "embed", "quicklook", "doctor"]
    assert [name for name in commands if name in text] == commands
    for name in commands:
        code, text, _ = run(name, "--help")
        assert code == 0
        examples = [line.strip() for line in text.partition("examples:")[2].splitlines() if line.strip()]
        assert examples
        for example in examples:
            words = example.split()
            argv = words[words.index("rs-embed") + 1 :]
            assert build_parser().parse_args(argv).run is not None


def test_version(run) -> None:
    code, text, _ = run("--version")
    assert code == 0
    assert text.startswith("rs-embed ")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "COMMAND"),
        (["embed", "mosaiks"], "--bbox --point --rois"),
        (["embed", "mosaiks", "--point", "8", "x", "1"], "'x'"),
        (["embed", "mosaiks", *POINT, "--local", "--url", "http://x"], "not allowed"),
        (["embed", "nosuch", *POINT, "--local"], "there is no model 'nosuch'"),
        (["embed", "mosaiks", "--point", "8", "97", "1", "--local"], "lat is 97.0, outside [-90, 90]"),
        (["embed", "mosaiks", "--bbox", "9", "47", "8", "48", "--local"], "not west of"),
        (["embed", "mosaiks", *POINT, "--year", "2022", "--start", "2022-01-01"], "--year and --start"),
        (["embed", "mosaiks", *POINT, "--start", "2022-01-01"], "end is None"),
        (["embed", "mosaiks", *POINT, "--set", "seed"], "no value"),
        (["embed", "mosaiks", *POINT, "--set", "sed=1", "--local"], "seed"),
        (["embed", "mosaiks", *POINT, "--out", "x.csv"], ".parquet"),
        (["embed", "mosaiks", *POINT, "--out", "x.tif"], "--output pooled"),
        (["embed", "mosaiks", "--rois", "nowhere.csv"], "nowhere.csv"),
        (["models", "dofo"], "Did you mean dofa"),
        (["serve", "--config", "nowhere.yaml"], "there is no settings file"),
        (["serve", "--port", "70000"], "http.port"),
        (["serve", "--model", "nosuch"], "there is no model 'nosuch'"),
        (["serve", "--model", "dofa/huge"], "huge"),
    ],
)
def test_a_mistake_is_one_line_with_what_would_be_right(argv: list[str], said: str, run) -> None:
    code, text, error = run(*argv)
    assert code == 2
    assert text == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


def test_a_service_that_is_not_there(run) -> None:
    address = f"http://127.0.0.1:{_free_port()}"
    code, _, error = run("embed", "mosaiks", *POINT, "--url", address)
    assert code == 2
    assert f"no service answers at {address}" in error
    assert "rs-embed serve" in error


# --- models ------------------------------------------------------------------------------------------------


def test_models(run, url: str) -> None:
    code, text, _ = run("models")
    assert code == 0
    assert "mosaiks" in text
    assert "remoteclip" in text
    code, text, _ = run("models", "--json")
    assert {model["id"] for model in json.loads(text)} >= {"mosaiks", "dofa"}
    code, text, _ = run("models", "dofa")
    assert "base" in text
    assert "licence" in text
    code, text, _ = run("models", "dofa", "--json")
    assert json.loads(text)["id"] == "dofa"
    code, text, _ = run("models", "mosaiks", "--url", url)
    assert "served    gaussian: ready" in text


# --- embed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["local", "service"])
def test_embed_one(where: str, run, url: str) -> None:
    who = ["--local"] if where == "local" else ["--url", url]
    code, text, _ = run("embed", "mosaiks", *POINT, *SUMMER, "--set", "features=16", "--json", *who)
    assert code == 0
    (result,) = json.loads(text)["embeddings"]
    assert result["shape"] == [16]
    assert len(result["embedding"]) == 16
    assert result["meta"]["model"] == "mosaiks"
    assert result["meta"]["temporal"] == {"mode": "range", "start": "2022-06-01", "end": "2022-09-01"}
    code, text, _ = run("embed", "mosaiks", *POINT, "--year", "2022", *who)
    assert code == 0
    assert text.startswith("0: mosaiks gaussian, 512 values: ")


def test_a_file_of_rois_becomes_a_geoparquet(tmp_path: Path, run, url: str) -> None:
    rois, out = tmp_path / "rois.csv", tmp_path / "out.parquet"
    rows = [f"{8 + i / 10},47,320" for i in range(20)]
    rois.write_text("\n".join(["lon,lat,buffer_m", *rows]))
    code, text, _ = run("embed", "mosaiks", "--rois", str(rois), "--year", "2022", "--out", str(out), "--url", url)
    assert code == 0
    assert text == f"20 of 20 ROIs written to {out}\n"
    frame = gpd.read_parquet(out)
    assert sorted(frame["index"]) == list(range(20))
    assert len(frame["embedding"].iloc[0]) == 512


def test_failed_rois_are_listed_and_the_others_written(tmp_path: Path, run, url: str) -> None:
    rois, out = tmp_path / "rois.csv", tmp_path / "out.parquet"
    rois.write_text("minlon,minlat,maxlon,maxlat\n8,47,8.01,47.01\n0,-60,60,60\n9,47,9.01,47.01\n")
    argv = ["embed", "mosaiks", "--rois", str(rois), "--year", "2022", "--out", str(out), "--url", url]
    code, text, _ = run(*argv)
    assert code == 1
    assert "1: failed: the ROI needs" in text
    assert "2 of 3 ROIs written" in text
    assert sorted(gpd.read_parquet(out)["index"]) == [0, 2]
    code, text, _ = run(*argv, "--json")
    assert code == 1
    results = json.loads(text)["embeddings"]
    assert results[1]["problem"]["code"] == "roi_too_large"
    assert "embedding" not in results[0]


def test_grids_become_geotiff_and_numpy(tmp_path: Path, run) -> None:
    grid = ["embed", "mosaiks", *POINT, *SUMMER, "--output", "grid", "--set", "features=4", "--local"]
    code, _, _ = run(*grid, "--out", str(tmp_path / "grid.tif"))
    assert code == 0
    code, _, _ = run(*grid, "--out", str(tmp_path / "grid.npy"))
    assert code == 0
    array = np.load(tmp_path / "grid.npy")
    with rioxarray.open_rasterio(tmp_path / "grid.tif") as raster:
        assert raster.rio.crs.to_epsg() == 3857
        assert np.array_equal(raster.values, array)
        west, south, east, north = raster.rio.bounds()
        assert json.loads(raster.attrs["RS_EMBED_META"])["model"] == "mosaiks"
    assert 640 <= east - west < 660  # whole pixels around the ROI
    assert 640 <= north - south < 660


# --- quicklook ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["local", "service"])
def test_quicklook_draws_imagery_and_grid(where: str, tmp_path: Path, run, url: str) -> None:
    who = ["--local"] if where == "local" else ["--url", url]
    out = tmp_path / "look.png"
    code, text, _ = run("quicklook", "mosaiks", *POINT, *SUMMER, "--out", str(out), "--height", "100", *who)
    assert code == 0
    assert "imagery and" in text
    assert _size(out) == (212, 100)


def test_quicklook_without_imagery_says_why(tmp_path: Path, run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown_here(name: str) -> None:
        raise UnknownProvider(f"there is no backend {name!r}.")

    monkeypatch.setattr("rs_embed_core.providers.get_provider", unknown_here)
    out = tmp_path / "look.png"
    code, text, _ = run("quicklook", "mosaiks", *POINT, *SUMMER, "--out", str(out), "--url", url)
    assert code == 0
    assert "without the imagery: there is no backend 'synthetic'" in text
    assert _size(out) == (512, 512)


# --- serve and doctor --------------------------------------------------------------------------------------


def test_flags_of_serve_win_over_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "service.yaml"
    config.write_text("http: {port: 1111, host: 127.0.0.9}\nfetch: {actors: 3}\n")
    monkeypatch.setenv("RS_EMBED_HTTP__PORT", "2222")
    monkeypatch.setenv("RS_EMBED_FETCH__CONCURRENCY", "5")
    argv = ["serve", "--config", str(config), "--port", "3333", "--model", "mosaiks", "--model", "dofa/large"]
    settings = settings_of(build_parser().parse_args([*argv, "--provider", "synthetic", "--checkpoints", "/w"]))
    assert (settings.http.port, settings.http.host) == (3333, "127.0.0.9")
    assert (settings.fetch.actors, settings.fetch.concurrency) == (3, 5)
    assert [(model.model, model.variant) for model in settings.models] == [
        ("mosaiks", None),
        ("dofa", "large"),
    ]
    assert settings.checkpoints.root == Path("/w")


def test_doctor_says_what_is_there_and_what_to_do(run, url: str) -> None:
    code, text, _ = run("doctor", "--url", url)
    assert code == 0
    levels = {line.split()[0] for line in text.splitlines()}
    assert levels <= {"ok", "warn"}
    for name in ("python", "ray", "torch", "device", "weights of mosaiks", f"service: {url}"):
        assert name in text


def test_doctor_looks_for_the_weights_of_every_modality(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variant in get_card("satmaepp")[0].variants.values():
        path = tmp_path / variant.weights.repo / variant.weights.file
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setenv("RS_EMBED_CHECKPOINTS__ROOT", str(tmp_path))
    _, text, _ = run("doctor", "--json")
    (check,) = [check for check in json.loads(text)["checks"] if check["name"] == "weights of satmaepp"]
    assert (check["level"], check["found"]) == ("warn", "large")
    assert "s2_10b large (" in check["advice"]


def test_doctor_fails_where_the_service_does_not_answer(run) -> None:
    code, text, _ = run("doctor", "--json", "--url", f"http://127.0.0.1:{_free_port()}")
    assert code == 1
    report = json.loads(text)
    assert report["ok"] is False
    (failed,) = [check for check in report["checks"] if check["level"] == "fail"]
    assert failed["name"] == "service"
    assert "rs-embed serve" in failed["advice"]


def test_doctor_tells_another_program_on_the_port(run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("RS_EMBED_HTTP__PORT", str(other.getsockname()[1]))
        other.listen()
        monkeypatch.setattr("serve_app.client.transport._SILENCE_S", 0.2)
        code, text, _ = run("doctor")
    assert code == 0
    assert "another program uses" in text
