"""``rs-embed weights``: a folder with the weights of models, each file verified against the hash in its card."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from serve_app.commands.arguments import model_and_variant
from serve_app.commands.command import Failed, Lines, Subcommands, add_command
from serve_app.commands.configuration import read_settings

if TYPE_CHECKING:
    from rs_embed_core.weights import HubFile
    from serve_app.settings import ModelSettings

_EXAMPLES = (
    "rs-embed weights --root weights --model dofa/large --model galileo",
    "rs-embed weights --root weights --serve-config k8s/overlays/mine/serve.yaml",
    "rs-embed serve --checkpoints weights --model dofa/large",
)


def add(commands: Subcommands) -> None:
    """Add ``weights``."""
    summary = "fill a folder with the weights of models, verified"
    parser = add_command(commands, "weights", weights, summary=summary, examples=_EXAMPLES)
    parser.add_argument("--root", type=Path, required=True, help="the folder; files go to <repo>/<file>")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", action="append", metavar="ID[/VARIANT]", help="a model; may be repeated")
    which.add_argument("--serve-config", type=Path, metavar="FILE", help="the models of a Serve config")
    parser.add_argument("--move", action="store_true", help="keep no second copy in the Hub client's cache")


def weights(args: argparse.Namespace) -> Lines:
    """Yield a line per file. What is there and right is kept; one that is not to be had costs the others nothing.

    Raises:
        Failed: weights are neither there nor to be had, or are not what their card says.
    """
    from rs_embed_core.errors import CheckpointError

    models = _of_serve_config(args.serve_config) if args.serve_config else _named(args.model)
    failed = False
    for name, file in wanted(models):
        try:
            yield f"{name}: {provide(file, args.root, move=args.move)}"
        except CheckpointError as error:
            yield f"{name}: {error}"
            failed = True
    if failed:
        raise Failed


def _named(texts: Iterable[str]) -> Iterator[ModelSettings]:
    flags = [dict(zip(("model", "variant"), model_and_variant(text), strict=True)) for text in texts]
    yield from read_settings(flags={"models": flags}).models


def _of_serve_config(path: Path) -> Iterator[ModelSettings]:
    import yaml

    for entry in yaml.safe_load(path.read_text("utf-8"))["applications"]:
        yield from read_settings(flags=entry["args"]).models


def wanted(models: Iterable[ModelSettings]) -> Iterator[tuple[str, HubFile]]:
    """Yield the weights that a service looks for, of all modalities, by the name of the deployment."""
    from rs_embed_core.registry import get_card
    from serve_app.router import default_ask

    for model in models:
        _, selection = default_ask(model)
        card, _ = get_card(model.model)
        networks = (card.variants_of(entry.modality).get(selection.variant) for entry in card.inputs)
        files = {network.weights for network in networks if network is not None and network.weights is not None}
        yield from ((selection.encoder, file) for file in sorted(files, key=str))


def provide(file: HubFile, root: Path, *, move: bool = False) -> str:
    """Where the file is now, and whether its hash is known.

    Args:
        move: remove the Hub client's own copy, so that the room is needed once.

    Raises:
        CheckpointError: not to be had, or another file than the card says.
    """
    from rs_embed_core.checkpoints import Checkpoints

    path = root / file.repo / file.file
    if not path.is_file():
        source, _ = Checkpoints().locate(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        shutil.copyfile(source, part)
        verify(part, file)
        part.replace(path)  # a reader sees the whole file or none
        if move:
            source.resolve().unlink()  # in the cache it is a link to the blob
            source.unlink(missing_ok=True)
    return f"{path} {verify(path, file)}"


def verify(path: Path, file: HubFile) -> str:
    """What is known of the file.

    Raises:
        CheckpointError: its hash is another than the card's.
    """
    from rs_embed_core.errors import CheckpointError

    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if file.sha256 is None:
        return f"sha256 {digest} (the card knows none: not verified)"
    if digest != file.sha256:
        hint = "It is damaged or another release: delete it and run this again."
        raise CheckpointError(f"{path} has the sha256 {digest}, not {file.sha256}.", hint=hint)
    return f"sha256 {digest}, verified"
