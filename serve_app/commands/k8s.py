"""``rs-embed k8s``: manifests for Kubernetes from a small values file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from serve_app.commands.command import Failed, Lines, Subcommands, add_command

if TYPE_CHECKING:
    from serve_app.kubernetes.values import Values

_EXAMPLES = (
    "rs-embed k8s render values.yaml --out k8s/overlays/mine",
    "rs-embed k8s render values.yaml --out k8s/overlays/mine --check",
)
_MANIFESTS = Path(__file__).resolve().parents[2] / "k8s"


def add(commands: Subcommands) -> None:
    """Add ``k8s``."""
    summary = "write a kustomize overlay from a values file"
    parser = add_command(commands, "k8s", k8s, summary=summary, examples=_EXAMPLES)
    parser.add_argument("what", choices=["render"], help="what to do")
    parser.add_argument("values", metavar="VALUES.yaml", help="what the installation is to have")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="the overlay's folder")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the files would change")
    parser.add_argument(
        "--manifests", metavar="DIR", type=Path, default=_MANIFESTS, help="the folder k8s/ (default: the source tree's)"
    )


def k8s(args: argparse.Namespace) -> Lines:
    """Yield what was written, and what the installation will hold.

    Raises:
        RSEmbedError: values that cannot work, in one line.
        OSError: a file cannot be read or written.
        Failed: the files are not what ``--check`` expects.
    """
    from serve_app.kubernetes.manifests import Manifests
    from serve_app.kubernetes.overlay import render
    from serve_app.kubernetes.values import read_values

    values = read_values(args.values)
    manifests = Manifests(args.manifests.resolve())
    files = render(values, manifests, args.out.resolve(), Path(args.values).name)
    changed = [name for name, text in files.items() if _text(args.out / name) != text]
    if args.check:
        yield from (f"{args.out / name}: not what {args.values} says" for name in changed)
        if changed:
            raise Failed
        yield f"{args.out} is what {args.values} says"
        return
    _write({args.out / name: files[name] for name in changed})
    yield from (f"{args.out / name}: {'written' if name in changed else 'unchanged'}" for name in files)
    yield from _summary(values)
    yield f"look: kubectl kustomize {args.out}    apply: kubectl apply --server-side -k {args.out}"


def _text(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def _write(files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def _summary(values: Values) -> Lines:
    """Yield what each model takes, where GPU pods go, and what is left to do by hand."""
    from serve_app.kubernetes.checks import advice
    from serve_app.kubernetes.devices import gpus_held
    from serve_app.kubernetes.settings import loads

    yield from advice(values)
    if values.gpu is None:
        return
    on_gpus = loads(values)
    for load in on_gpus:
        least, most = load.replicas
        of = load.share * values.gpu.memory_mb / 1000
        yield f"{load.name}: {least} to {most} replicas, each at least {load.least_mb / 1000:.1f} of {of:.1f} GB"
    held, most = gpus_held(on_gpus, least=True), gpus_held(on_gpus, least=False)
    where = ", ".join(f"{key}={value}" for key, value in values.gpu.labels.items()) or "any label"
    yield f"GPUs: {held} always, {most} under load, at most {values.gpu.count}; on nodes with {where}"
