"""Fill a directory with the weights of the models in a Serve config, each verified against the hash in its card.

What is there and right is kept. Weights that are on no Hub are put there by hand, at <repo>/<file>. Ends with 1 where
a model's weights are neither there nor to be had, or are not what their card says: the other models' are fetched all
the same.
"""

import argparse
import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.registry import get_card
from rs_embed_core.weights import HubFile
from serve_app.router import default_ask
from serve_app.settings import ServiceSettings


def main() -> int:
    """0 where every model has its weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve-config", type=Path, required=True, help="what is in spec.serveConfigV2")
    parser.add_argument("--root", type=Path, required=True, help="the directory; files go to <repo>/<file>")
    parser.add_argument("--move", action="store_true", help="keep no second copy in the Hub client's cache")
    args = parser.parse_args()
    config = yaml.safe_load(args.serve_config.read_text())
    failed = False
    for settings in (ServiceSettings.model_validate(entry["args"]) for entry in config["applications"]):
        for name, weights in wanted(settings):
            try:
                print(f"{name}: {provide(weights, args.root, move=args.move)}", flush=True)
            except CheckpointError as error:
                print(f"{name}: {error}", flush=True)
                failed = True
    return int(failed)


def wanted(settings: ServiceSettings) -> Iterator[tuple[str, HubFile]]:
    """The weights that the service will look for, by the name of the deployment."""
    for model in settings.models:
        _, selection = default_ask(model)
        card, _ = get_card(model.model)
        networks = (card.variants_of(entry.modality).get(selection.variant) for entry in card.inputs)
        files = {network.weights for network in networks if network is not None and network.weights is not None}
        yield from ((selection.encoder, weights) for weights in sorted(files, key=str))


def provide(weights: HubFile, root: Path, *, move: bool = False) -> str:
    """Where the file is now, and whether its hash is known.

    Args:
        move: remove the Hub client's own copy, so that the room is needed once.

    Raises:
        CheckpointError: not to be had, or another file than the card says.
    """
    path = root / weights.repo / weights.file
    if not path.is_file():
        source, _ = Checkpoints().locate(weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        shutil.copyfile(source, part)
        verify(part, weights)
        part.replace(path)  # a reader sees the whole file or none
        if move:
            source.resolve().unlink()  # in the cache it is a link to the blob
            source.unlink(missing_ok=True)
    return f"{path} {verify(path, weights)}"


def verify(path: Path, weights: HubFile) -> str:
    """What is known of the file.

    Raises:
        CheckpointError: its hash is another than the card's.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if weights.sha256 is None:
        return f"sha256 {digest} (the card knows none: not verified)"
    if digest != weights.sha256:
        hint = "It is damaged or another release: delete it and run this again."
        raise CheckpointError(f"{path} has the sha256 {digest}, not {weights.sha256}.", hint=hint)
    return f"sha256 {digest}, verified"


if __name__ == "__main__":
    sys.exit(main())
