"""``rs-embed serve``: the service on this machine."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import TYPE_CHECKING

from serve_app.commands.arguments import model_and_variant
from serve_app.commands.command import Lines, Subcommands, add_command
from serve_app.commands.configuration import read_settings

if TYPE_CHECKING:
    from serve_app.settings import ServiceSettings

_EXAMPLES = (
    "rs-embed serve",
    "rs-embed serve --model mosaiks --model galileo/nano --port 9000",
    "rs-embed serve --provider gee --project my-project",
    "rs-embed serve --config service.yaml",
    "RS_EMBED_FETCH__CONCURRENCY=32 rs-embed serve",
)


def add(commands: Subcommands) -> None:
    """Add ``serve``."""
    summary = "start the service on this machine, with a Ray of its own"
    parser = add_command(commands, "serve", serve, summary=summary, examples=_EXAMPLES)
    parser.add_argument("--config", metavar="FILE", help="settings as YAML; flags and RS_EMBED_* variables win")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 8000)")
    parser.add_argument(
        "--model",
        action="append",
        metavar="ID[/VARIANT]",
        help="a model to serve; may be repeated (default: mosaiks)",
    )
    parser.add_argument(
        "--provider", choices=("gee", "stac", "synthetic"), help="where imagery comes from (default: synthetic)"
    )
    parser.add_argument("--project", metavar="ID", help="Google Cloud project that Earth Engine is used under")
    parser.add_argument("--checkpoints", metavar="DIR", help="weights, laid out <repo>/<file>")


def settings_of(args: argparse.Namespace) -> ServiceSettings:
    """The settings that file, environment and flags give."""
    flags: dict[str, object] = {}
    http = {"host": args.host, "port": args.port}
    if given := {key: value for key, value in http.items() if value is not None}:
        flags["http"] = given
    if args.model:
        flags["models"] = [_model(text) for text in args.model]
    if providers := _providers(args.provider, args.project):
        flags["providers"] = providers
    if args.checkpoints:
        flags["checkpoints"] = {"root": args.checkpoints}
    return read_settings(args.config, flags=flags)


def _providers(default: str | None, project: str | None) -> dict[str, object]:
    """Naming a provider sets it up, with whatever file and environment say of it."""
    flags: dict[str, object] = {}
    if default is not None:
        flags["default"] = default
        if default != "synthetic":
            flags[default] = {}
    if project is not None:
        flags["gee"] = {"project": project}
    return flags


def _model(text: str) -> dict[str, str]:
    model, variant = model_and_variant(text)
    return {"model": model, "variant": variant} if variant else {"model": model}


def serve(args: argparse.Namespace) -> Lines:
    """Yield when the service is up; go on until interrupted."""
    from serve_app.router import default_ask
    from serve_app.serving import serving

    settings = settings_of(args)
    for model in settings.models:
        default_ask(model)  # an unknown one is said before Ray starts
    names = ", ".join("/".join(filter(None, (model.model, model.variant))) for model in settings.models)
    yield f"starting Ray and {names} ..."
    stopped = threading.Event()
    with serving(settings) as service:
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray's own handlers would leave without a goodbye
            signal.signal(number, lambda *_: stopped.set())
        yield f"ready at {service.url} (documentation at {service.url}/docs); stop with Ctrl-C"
        yield f"for Ray jobs: RAY_ADDRESS={_ray_address()}"
        stopped.wait()
        yield "stopping ..."


def _ray_address() -> str:
    """Where this service's Ray is: ``auto`` would take any Ray of the machine."""
    import ray

    address: str = ray.get_runtime_context().gcs_address
    return address
