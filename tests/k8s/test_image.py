"""The Dockerfile, where there is no container engine: linted, and its steps run in a folder."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.k8s.containerfile import Builder, Step, environment, stages

TREE = Path(__file__).resolve().parents[2]
TEXT = (TREE / "Dockerfile").read_text()
STAGES = stages(TEXT)
BIN = Path(sys.executable).parent

type InImage = Callable[..., str]


def _steps(name: str, word: str) -> list[Step]:
    return [step for step in STAGES[name].steps if step.word == word]


def _pin(lock: str, name: str) -> str:
    (version,) = re.findall(rf"^{name}==(\S+)", (TREE / "requirements" / lock).read_text(), re.MULTILINE)
    return version


# --- read --------------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    subprocess.run([BIN / "hadolint", TREE / "Dockerfile"], check=True)


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(TEXT.replace(" --no-install-recommends", ""))
    found = subprocess.run([BIN / "hadolint", wrong], check=False, capture_output=True, text=True)
    assert found.returncode == 1
    assert "DL3015" in found.stdout


def test_no_registry_is_named() -> None:
    images = {stage.parent for stage in STAGES.values()} - set(STAGES)
    assert images == {"${PYTHON_IMAGE}", "weights-${WEIGHTS}"}
    assert re.findall(r"\b(?:[\w-]+\.)+(?:io|com|org|dev|net)\b", TEXT) == []


def test_tools_are_pinned_to_what_the_tests_run_with() -> None:
    assert environment(STAGES["installer"].steps)["UV_VERSION"] == _pin("dev.txt", "uv")
    python = re.search(r"PYTHON_IMAGE=python:(\d+\.\d+)-slim", TEXT)
    assert python is not None
    assert python[1] == f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("target", ["cuda", "cpu"])
def test_traces_and_further_packages_have_their_pins(target: str) -> None:
    (install,) = (step.rest for step in _steps(f"packages-{target}", "RUN"))
    assert "${PACKAGES:-}" in install
    assert "--constraints requirements/dev.txt" in install
    traces = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["optional-dependencies"]["traces"]
    pinned = [_pin("service.txt", entry.split(">=")[0]) for entry in traces]
    assert len(pinned) == len(traces)
    assert "requirements/service.txt" in install or "--extra traces" in install
    assert _pin("dev.txt", "geotessera")


@pytest.mark.parametrize("target", ["cuda", "cpu"])
def test_what_runs_is_no_root_and_offline(target: str) -> None:
    lines = [*STAGES["runtime"].steps, *STAGES[target].steps]
    assert [step.rest for step in lines if step.word == "USER"] == ["1000:1000"]
    assert not [step for step in lines if step.word == "ENTRYPOINT"]  # KubeRay says what runs
    settings = environment(lines)
    assert settings["HF_HUB_OFFLINE"] == "1"
    assert settings["RS_EMBED_CHECKPOINTS__ROOT"] == "/weights"
    copied = [step.rest for step in STAGES[target].steps if step.word == "COPY"]
    assert copied == [
        "--from=weights /weights /weights",
        f"--from=packages-{target} /opt/venv /opt/venv",
        "--from=service /opt/venv /opt/venv",
    ]


def test_gpu_pods_find_the_driver_where_gke_mounts_it() -> None:
    """Its device plugin changes no configuration of the linker, and base images for CUDA set this themselves."""
    assert environment(STAGES["cuda"].steps)["LD_LIBRARY_PATH"].split(":") == ["/usr/local/nvidia/lib64"]
    assert "LD_LIBRARY_PATH" not in environment(STAGES["runtime"].steps)


def test_programs_that_kuberay_and_the_manifests_call_are_installed() -> None:
    (install,) = [step.rest for step in _steps("system", "RUN") if "apt-get" in step.rest]
    assert {"bash", "curl", "wget", "libexpat1", "ca-certificates"} <= set(install.split())


def test_the_build_gets_what_it_copies_and_nothing_else() -> None:
    lines = (TREE / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:].rstrip("/") for rule in rules if rule.startswith("!")}
    copies = [step.rest.split()[:-1] for stage in STAGES.values() for step in _steps(stage.name, "COPY")]
    wanted = {source.split("/")[0] for sources in copies if not sources[0].startswith("--from") for source in sources}
    assert allowed == wanted
    dropped = [rule for rule in rules[1:] if not rule.startswith("!")]
    assert any(fnmatch.fnmatch("serve_app/__pycache__", rule) for rule in dropped)


# --- run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_image(tmp_path_factory: pytest.TempPathFactory) -> InImage:
    """Build the CUDA target's packages and the service as the Dockerfile says; run commands as its user would."""
    folder = tmp_path_factory.mktemp("image")
    kept = ("HOME", "PIP_CERT", "SSL_CERT_FILE", "UV_CACHE_DIR")
    outside = {name: os.environ[name] for name in kept if name in os.environ}
    tools = folder / "tools"  # what the stages system and installer bring
    tools.mkdir()
    (tools / "uv").symlink_to(BIN / "uv")
    (tools / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    outside["PATH"] = os.pathsep.join([str(tools), "/usr/local/bin", "/usr/bin", "/bin"])
    # Not as in the image: packages come from the cache that `make setup` filled, and are not compiled.
    # UV_PYTHON is never set: uv would install into that interpreter's environment, which is the tests' own.
    outside |= {"UV_NO_CACHE": "0", "UV_COMPILE_BYTECODE": "0"}
    builder = Builder(TEXT, TREE, folder, outside)
    for name in ("packages-cuda", "service"):
        builder.build(name)
    settings = builder.assemble("cuda")
    home = Path(settings["HOME"])
    home.mkdir(parents=True, exist_ok=True)
    settings |= {"RAY_AUTH_MODE": "disabled", "HOME": str(home)}

    def go(*command: str) -> str:
        ran = subprocess.run(command, cwd=home, env=settings, check=False, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return go


def test_the_default_command_answers(in_image: InImage) -> None:
    (command,) = [yaml.safe_load(step.rest) for step in _steps("runtime", "CMD")]
    assert command == ["rs-embed", "--help"]
    assert "Earth embeddings" in in_image(*command)


def test_all_pinned_packages_are_there_and_fit(in_image: InImage) -> None:
    listed = in_image("uv", "pip", "list", "--format", "freeze")
    locked = (TREE / "requirements" / "service.txt").read_text().split()
    assert set(locked) <= set(listed.split())
    in_image("uv", "pip", "check")


def test_the_models_are_listed(in_image: InImage) -> None:
    assert "mosaiks" in in_image("rs-embed", "models")


def test_the_service_imports_from_the_image_and_not_from_the_tree(in_image: InImage) -> None:
    code = (
        "import serve_app.app as app, rs_embed_core as core, ray; print(app.__file__, core.__file__, ray.__version__)"
    )
    *files, ray = in_image("python", "-c", code).split()
    for file in files:
        assert "/opt/venv/lib/" in file
        assert not Path(file).is_relative_to(TREE)
    assert ray == _pin("service.txt", "ray")


@pytest.mark.parametrize("command", ["start", "kuberay-autoscaler", "drain-node", "job"])
def test_what_the_operator_and_the_manifests_say_to_ray(command: str, in_image: InImage) -> None:
    assert "Usage: ray" in in_image("bash", "-c", f"ray {command} --help")


def test_files_that_are_no_code_are_in_the_wheel(in_image: InImage) -> None:
    code = "import importlib.resources as r; print(r.files('serve_app') / 'py.typed')"
    assert Path(in_image("python", "-c", code).strip()).is_file()
