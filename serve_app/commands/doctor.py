"""``rs-embed doctor``: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import argparse
import platform
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from serve_app.commands.command import Failed, Lines, Subcommands, add_command, add_json, dumps
from serve_app.commands.configuration import read_settings

if TYPE_CHECKING:
    from serve_app.provider_sections import GeeSection
    from serve_app.settings import ServiceSettings

_EXAMPLES = ("rs-embed doctor", "rs-embed doctor --url http://127.0.0.1:8000", "rs-embed doctor --json")
_PACKAGES = ("rs-embed-serve", "ray", "torch", "numpy", "pyarrow", "xarray", "httpx2")
_RAY = "2.60."  # serve_app uses names of Ray Serve that other releases may not have
_PYTHON = (3, 12)
_PATIENCE_S = 10.0  # with a provider: a person waits
_STORE_MB = 200  # the smallest object store that the service starts with


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what to do where it is not well."""

    level: Literal["ok", "warn", "fail"]
    name: str
    found: str
    advice: str = ""


def add(commands: Subcommands) -> None:
    """Add ``doctor``."""
    summary = "check this machine, the weights and the service"
    parser = add_command(commands, "doctor", doctor, summary=summary, examples=_EXAMPLES)
    parser.add_argument("--url", help="a service that must answer (default: look for one here)")
    add_json(parser)


def doctor(args: argparse.Namespace) -> Lines:
    """Yield a line per check.

    Raises:
        Failed: something does not work.
    """
    settings = read_settings()
    found = []
    for check in _checks(settings, args.url):
        found.append(check)
        if not args.json:
            advice = f"  -> {check.advice}" if check.advice else ""
            yield f"{check.level:<4}  {check.name}: {check.found}{advice}"
    failed = [check for check in found if check.level == "fail"]
    if args.json:
        yield dumps({"ok": not failed, "checks": [asdict(check) for check in found]})
    if failed:
        raise Failed


def _checks(settings: ServiceSettings, url: str | None) -> Iterator[Check]:
    yield _python()
    yield from map(_package, _PACKAGES)
    yield from _room_for_ray()
    yield _service(url, settings)
    yield _guarded("device", _device)
    yield from _providers(settings)
    yield from _weights(settings)


def _providers(settings: ServiceSettings) -> Iterator[Check]:
    """Yield whether what is set up under providers can be reached."""
    if settings.providers.gee is not None:
        yield _earth_engine(settings.providers.gee)


def _earth_engine(section: GeeSection) -> Check:
    from rs_embed_core.errors import RSEmbedError
    from rs_embed_core.providers.calls import Terms, under
    from rs_embed_core.providers.gee import GeeProvider

    try:
        with under(Terms(time.monotonic() + _PATIENCE_S)):
            project, url = GeeProvider(section.plain()).check()
    except RSEmbedError as error:
        return Check("fail", "Earth Engine", error.message, error.hint or "")
    return Check("ok", "Earth Engine", f"project {project} at {url}")


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    """A check that may fail in any way: that is what it is to find out."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - see above
        return Check("fail", name, f"{type(error).__name__}: {error}", "Install the package again.")


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < _PYTHON:
        return Check("fail", "python", found, "Use Python 3.12.")
    if sys.version_info[:2] > _PYTHON:
        return Check("warn", "python", found, "The pinned packages are for Python 3.12.")
    return Check("ok", "python", found)


def _package(name: str) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check("fail", name, "not installed", "Run make setup.")
    if name == "ray" and not found.startswith(_RAY):
        return Check("fail", name, found, f"Install ray[serve] {_RAY}*.")
    return Check("ok", name, found)


def _room_for_ray() -> Iterator[Check]:
    """Shared memory for the object store, and room for Ray's logs and sockets."""
    shared = Path("/dev/shm")  # noqa: S108 - where Ray puts it
    if shared.exists():
        free = shutil.disk_usage(shared).free / 1e6
        advice = "" if free >= _STORE_MB else "Enlarge it (docker run --shm-size=2g)."
        yield Check("ok" if not advice else "fail", "shared memory", f"{free:.0f} MB free", advice)
    where = Path(tempfile.gettempdir())
    free = shutil.disk_usage(where).free / 1e9
    advice = "" if free >= 1 else "Ray writes logs and sockets there: make room or set TMPDIR."
    yield Check("ok" if not advice else "warn", "temporary files", f"{free:.1f} GB free in {where}", advice)


def _service(url: str | None, settings: ServiceSettings) -> Check:
    from rs_embed_core.errors import RSEmbedError
    from serve_app.client import EmbeddingClient

    where = url or f"http://{settings.http.host}:{settings.http.port}"
    if url is None and _is_free(settings.http.host, settings.http.port):
        return Check("warn", "service", f"none at {where}; the port is free", "Start one: rs-embed serve.")
    try:
        with EmbeddingClient(where) as client:
            state = client.ready()
    except RSEmbedError as error:
        if url is None:
            return Check("warn", "service", f"another program uses {where}", "Serve on another --port.")
        return Check("fail", "service", error.message, error.hint or "")
    models = state.get("models")
    texts = [
        f"{name} {model.get('status')}"
        for name, model in (models if isinstance(models, dict) else {}).items()
        if isinstance(model, dict)
    ]
    ready = state.get("ready") is True
    advice = "" if ready else "Wait, or look at the service's log."
    return Check("ok" if ready else "warn", "service", f"{where}: {', '.join(texts)}", advice)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) != 0


def _device() -> Check:
    from rs_embed_core.encoder import resolve_device

    device = str(resolve_device("auto"))
    advice = "Large models are slow without a GPU." if device == "cpu" else ""
    return Check("ok", "device", device, advice)


def _weights(settings: ServiceSettings) -> Iterator[Check]:
    """Yield which networks of each model have their weights on this machine; precomputed products have none."""
    from rs_embed_core.checkpoints import Checkpoints
    from rs_embed_core.errors import CheckpointError
    from rs_embed_core.registry import get_card, list_models

    checkpoints = Checkpoints(root=settings.checkpoints.root, offline=True)
    for card in (get_card(model)[0] for model in list_models()):
        if card.product is not None:
            continue
        here, missing = [], []
        for name, variant in card.networks.items():
            try:
                if variant.weights is not None:
                    checkpoints.locate(variant.weights)
                here.append(name)
            except CheckpointError:
                missing.append(f"{name} ({variant.weights.repo}/{variant.weights.file})")  # type: ignore[union-attr]  # located
        advice = ""
        if missing:
            how = "set RS_EMBED_CHECKPOINTS__ROOT" if settings.checkpoints.root is None else "put them there"
            advice = f"Fetched on first use where the Hub can be reached; else {how}: {', '.join(missing)}."
        found = ", ".join(here) if here else "none here"
        yield Check("warn" if missing else "ok", f"weights of {card.id}", found, advice)
