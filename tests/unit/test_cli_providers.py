"""The command line where it has to do with providers: precomputed products, flags, the emulator, the doctor."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import ProxyHandler, build_opener

import psutil
import pytest

from rs_embed_core.registry import get_card, list_models
from serve_app.cli import build_parser, main
from serve_app.commands.models import counted
from serve_app.commands.serve import settings_of
from serve_app.settings import ServiceSettings

PATIENCE_S = 30


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


# --- models ------------------------------------------------------------------------------------------------


def test_precomputed_products_are_told_from_models_in_the_list(run) -> None:
    _, text, _ = run("models")
    kinds = {line.split()[0]: line for line in text.splitlines() if line}
    products = [model for model in list_models() if get_card(model)[0].product is not None]
    assert {"copernicus", "gse", "tessera"} <= set(products)
    assert [name for name, line in kinds.items() if "precomputed" in line] == products


@pytest.mark.parametrize(
    ("model", "lines"),
    [
        (
            "gse",
            [
                "  source    precomputed, read through gee",
                "  window    must be given; the calendar year in which it starts is read",
                "    annual: 64 values, no weights (default)",
                "      values A00 to A63",
                "    Pixels without an embedding are NaN in a grid and left out of a vector.",
            ],
        ),
        (
            "tessera",
            [
                "  source    precomputed, read through tessera",
                "  window    2021-01-01 to 2022-01-01 where none is given; the calendar year in which it starts",
                "      values T000 to T127",
            ],
        ),
        ("copernicus", ["  source    precomputed, read through copernicus", "      values C000 to C767"]),
    ],
)
def test_a_product_is_described(model: str, lines: list[str], run) -> None:
    code, text, _ = run("models", model)
    assert code == 0
    assert [line for line in lines if line not in text] == []
    for nonsense in ("None", "preprocessing", "parameters", " m\n"):
        assert nonsense not in text


def test_a_model_that_computes_is_described_as_before(run) -> None:
    _, text, _ = run("models", "mosaiks")
    for line in (
        "  window    2022-06-01 to 2022-09-01 where none is given",
        "    s2: COPERNICUS/S2_SR_HARMONIZED at 10 m",
    ):
        assert line in text.splitlines()
    assert "precomputed" not in text
    assert "0.0 M" not in text


def test_json_of_a_product_has_everything(run) -> None:
    _, text, _ = run("models", "gse", "--json")
    product = json.loads(text, parse_constant=pytest.fail)
    assert (product["type"], product["provider"], product["default_window"]) == ("precomputed", "gee", None)
    assert len(product["inputs"][0]["bands"]) == 64


@pytest.mark.parametrize(
    ("names", "ends"),
    [
        ([f"A{i:02d}" for i in range(64)], ("A00", "A63")),
        ([f"B{i}" for i in range(1, 30)], ("B1", "B29")),
        ([f"A{i:02d}" for i in range(3)], None),
        ([f"A{i:02d}" for i in [*range(30), 31]], None),
        (["VV", *(f"A{i:02d}" for i in range(30))], None),
        ([], None),
    ],
)
def test_long_runs_of_names_are_shortened(names: list[str], ends: tuple[str, str] | None) -> None:
    assert counted(names) == ends


# --- serve -------------------------------------------------------------------------------------------------


def _settings(*argv: str) -> ServiceSettings:
    return settings_of(build_parser().parse_args(["serve", *argv]))


def test_naming_a_provider_sets_it_up() -> None:
    providers = _settings("--provider", "gee", "--project", "mine").providers
    assert (providers.default, providers.names) == ("gee", ("synthetic", "gee"))
    assert providers.gee is not None
    assert providers.gee.project == "mine"
    assert _settings("--provider", "stac").providers.names == ("synthetic", "stac")
    assert _settings("--provider", "synthetic").providers.names == ("synthetic",)


def test_a_project_alone_sets_earth_engine_up_beside_the_default() -> None:
    providers = _settings("--project", "mine").providers
    assert (providers.default, providers.names) == ("synthetic", ("synthetic", "gee"))


def test_naming_a_provider_keeps_what_the_environment_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RS_EMBED_PROVIDERS__GEE__PROJECT", "of-the-environment")
    monkeypatch.setenv("RS_EMBED_PROVIDERS__GEE__AT_ONCE", "5")
    gee = _settings("--provider", "gee").providers.gee
    assert gee is not None
    assert (gee.project, gee.at_once) == ("of-the-environment", 5)


def test_a_provider_that_there_is_not_is_one_line(run) -> None:
    code, text, error = run("serve", "--provider", "nosuch")
    assert (code, text) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "nosuch" in error


# --- dev emulator ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """``rs-embed dev emulator`` on a port of its own, and what it said when it was ready."""

    process: subprocess.Popen[str]
    url: str
    usage: str


@contextmanager
def dev_emulator() -> Iterator[Running]:
    command = [sys.executable, "-m", "serve_app.cli", "dev", "emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first, _, *usage = (process.stdout.readline() for _ in range(4))
            yield Running(process, first.split(" at ")[1].split(";")[0], "".join(usage))
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def earth_engine() -> Iterator[Running]:
    with dev_emulator() as running:
        yield running


def test_the_emulator_answers_when_it_says_so(earth_engine: Running) -> None:
    with build_opener(ProxyHandler({})).open(
        f"{earth_engine.url}/$discovery/rest?version=v1", timeout=PATIENCE_S
    ) as reply:
        assert json.load(reply)["name"] == "earthengine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_emulator_ends_with_its_command(number: signal.Signals) -> None:
    with dev_emulator() as running:
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert children
        running.process.send_signal(number)
        _, errors = running.process.communicate(timeout=PATIENCE_S)
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert alive == []
    assert errors == ""
    assert running.process.returncode == 130  # as a shell says it


def test_a_port_that_is_taken_is_one_line(run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, text, error = run("dev", "emulator", "--port", str(other.getsockname()[1]))
    assert (code, text) == (2, "")
    assert "in use" in error
    assert error.count("\n") == 1


# --- doctor ------------------------------------------------------------------------------------------------


def _told(running: Running) -> tuple[dict[str, str], list[str]]:
    """Environment and arguments of the command that the emulator's usage shows."""
    words = shlex.split(running.usage.replace("\\\n", ""))
    at = words.index("rs-embed")
    return dict(word.split("=", 1) for word in words[:at]), words[at + 1 :]


def _doctor(**environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code and the checks by name; in a process of its own, which Earth Engine's client is configured for."""
    command = [sys.executable, "-m", "serve_app.cli", "doctor", "--json"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_the_command_that_the_emulator_shows_reads_from_it(
    earth_engine: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, argv = _told(earth_engine)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    providers = settings_of(build_parser().parse_args(argv)).providers
    assert providers.gee is not None
    assert (providers.default, providers.gee.url) == ("gee", earth_engine.url)
    code, checks = _doctor(RS_EMBED_PROVIDERS__GEE__PROJECT=str(providers.gee.project))
    assert code == 0
    assert checks["Earth Engine"]["level"] == "ok"
    assert checks["Earth Engine"]["found"] == f"project emulated at {earth_engine.url}"


def test_the_doctor_says_that_earth_engine_cannot_be_reached(earth_engine: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]  # nobody listens there afterwards
    environment, _ = _told(earth_engine)
    environment |= {"RS_EMBED_PROVIDERS__GEE__URL": f"http://127.0.0.1:{port}", "RS_EMBED_PROVIDERS__GEE__PROJECT": "x"}
    code, checks = _doctor(**environment)
    assert code == 1
    assert checks["Earth Engine"]["level"] == "fail"
    assert str(port) in checks["Earth Engine"]["found"]
    assert checks["Earth Engine"]["advice"]


def test_the_doctor_lists_no_weights_of_products_and_no_provider_that_is_not_set_up(run) -> None:
    _, text, _ = run("doctor")
    listed = [line for line in text.splitlines() if "weights of" in line]
    assert any("mosaiks" in line for line in listed)
    assert not [line for line in listed for product in ("gse", "tessera", "copernicus") if f"of {product}:" in line]
    assert "Earth Engine" not in text
