"""Locate weights, verify them, rename their keys and load them strictly.

A silent partial load is a wrong answer: a missing key, an extra key that the card does not list, a shape that
does not fit or a wrong hash is a ``CheckpointError`` that names it.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import importlib
import logging
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from rs_embed_core.embedding import CheckpointInfo
from rs_embed_core.errors import CheckpointError
from rs_embed_core.weights import HubFile, hub_failures

_log = logging.getLogger(__name__)
_SHOWN_KEYS = 5
_CHUNK = 1 << 22
_FULL_COMMIT = 40
_ABBREVIATED = re.compile("[0-9a-f]{7,39}")

# Some authors publish the checkpoint of a training run, its command line beside the weights: values, no code.
torch.serialization.add_safe_globals([argparse.Namespace])

type State = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoints:
    """Where weights come from: ``root`` (laid out ``<repo>/<file>``) wins, else the Hub at a pinned revision.

    Attributes:
        root: a directory of weights, for air-gapped machines and baked images.
        offline: never ask the Hub; its local cache is still used.
    """

    root: Path | None = None
    offline: bool = False
    _hashes: dict[tuple[Path, int, int], str] = field(default_factory=dict, compare=False, repr=False)

    def locate(self, weights: HubFile) -> tuple[Path, str]:
        """The local file and the revision it is from.

        Raises:
            CheckpointError: not there, and not to be had.
        """
        if self.root is not None:
            path = Path(self.root) / weights.repo / weights.file
            if path.is_file():
                return path, weights.revision
        if weights.url:
            where = "checkpoints.root" if self.root is None else str(self.root)
            raise CheckpointError(
                f"the weights {weights.repo}/{weights.file} are not here, and they are not on the Hugging Face Hub.",
                hint=f"Download {weights.url} and put it at {where}/{weights.repo}/{weights.file}.",
                context={"repo": weights.repo, "file": weights.file, "url": weights.url},
            )
        return self._from_hub(weights)

    def _from_hub(self, weights: HubFile) -> tuple[Path, str]:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - a provider's SDK, slow to import

        try:
            commit = self._commit(weights)
            path = Path(hf_hub_download(weights.repo, weights.file, revision=commit, local_files_only=self.offline))
        except hub_failures() as error:
            msg = f"the weights {weights.repo}/{weights.file} (revision {weights.revision}) are not here."
            where = "checkpoints.root" if self.root is None else str(self.root)
            hint = (
                f"Put the file at {where}/{weights.repo}/{weights.file}, or allow access to the Hugging Face "
                f"Hub ({type(error).__name__})."
            )
            raise CheckpointError(
                msg, hint=hint, context={"repo": weights.repo, "file": weights.file, "revision": weights.revision}
            ) from error
        parts = path.parts
        return path, parts[parts.index("snapshots") + 1] if "snapshots" in parts else commit

    def _commit(self, weights: HubFile) -> str:
        """The revision in full: the Hub serves no abbreviated commit, and some fact sheets know no other.

        Raises:
            FileNotFoundError: no commit of the repository (offline: none in the cache) begins like this.
        """
        revision = weights.revision
        if len(revision) >= _FULL_COMMIT or not _ABBREVIATED.fullmatch(revision):
            return revision
        from huggingface_hub import HfApi, constants  # noqa: PLC0415 - slow to import, and rarely needed

        if self.offline:
            folder = Path(constants.HF_HUB_CACHE) / f"models--{weights.repo.replace('/', '--')}" / "snapshots"
            commits = sorted(path.name for path in folder.glob(f"{revision}*"))
        else:
            commits = [entry.commit_id for entry in HfApi().list_repo_commits(weights.repo)]
        for commit in commits:
            if commit.startswith(revision):
                return commit
        raise FileNotFoundError(f"{weights.repo} has no commit {revision}")

    def load(self, weights: HubFile, network: nn.Module) -> CheckpointInfo:
        """Fill the network from its file.

        A file in ``root`` with another hash than the published one loads and is reported as not verified; one from
        the Hub does not.

        Raises:
            CheckpointError: no file, a wrong hash, an unreadable file, or keys or shapes that do not fit.
        """
        path, revision = self.locate(weights)
        digest = self._sha256(path)
        verified = None if weights.sha256 is None else digest == weights.sha256
        if verified is False and not self._is_own(path):
            msg = f"{path} has the sha256 {digest}, not {weights.sha256}."
            raise CheckpointError(msg, hint="The file is damaged or another release: fetch it again.")
        fill(network, to_network_keys(read(path), weights), weights)
        _log.info("weights loaded", extra={"repo": weights.repo, "file": weights.file, "sha256": digest})
        return CheckpointInfo(weights.repo, weights.file, revision, digest, verified)

    def _is_own(self, path: Path) -> bool:
        """Whether the operator put the file there: fine-tuned weights are welcome, and said in a notice."""
        return self.root is not None and path.is_relative_to(self.root)

    def _sha256(self, path: Path) -> str:
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size)  # a file that was replaced is another file
        if key not in self._hashes:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            self._hashes[key] = digest.hexdigest()
        return self._hashes[key]


def read(path: Path) -> Mapping[str, object]:
    """The content of a ``safetensors`` or pickle file, tensors on the CPU; a pickle may hold tensors only.

    Raises:
        CheckpointError: not readable, or a pickle with code in it.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - only where a file is read
    from safetensors.torch import load_file  # noqa: PLC0415 - see above

    content: object
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:  # files of torch before 1.6 are no zip archives and cannot be mapped
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).split(".")[0]  # torch goes on to explain how to load code after all
        msg = f"{path} is not a readable checkpoint: {reason}."
        raise CheckpointError(msg, hint="Fetch the file again; only tensors are accepted.") from error
    if not isinstance(content, Mapping):
        msg = f"{path} holds a {type(content).__name__}, not a state dict."
        raise CheckpointError(msg, hint="Give the published file.")
    return content


def to_network_keys(content: Mapping[str, object], weights: HubFile) -> State:
    """The tensors of a published file under the network's own names."""
    for wrapper in weights.wrappers:
        inner = content.get(wrapper)
        if isinstance(inner, Mapping):
            content = inner
    if weights.parts:
        content = _of_parts(content, weights.parts)
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in weights.prefixes:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    if weights.keep:
        state = {key.removeprefix(weights.keep): value for key, value in state.items() if key.startswith(weights.keep)}
    if weights.convert is not None:
        module, name = weights.convert.split(":")
        convert: Callable[[State], State] = vars(importlib.import_module(module))[name]
        state = convert(state)
    return state


def _of_parts(content: Mapping[str, object], parts: tuple[str, ...]) -> dict[str, object]:
    """The entries of some nested dicts, each key behind the name of its dict."""
    nested = [(part, inner) for part in parts if isinstance(inner := content.get(part), Mapping)]
    return {f"{part}.{key}": value for part, inner in nested for key, value in inner.items()}


def fill(network: nn.Module, state: State, weights: HubFile) -> None:
    """Load a state dict strictly; keys that match ``weights.unused`` are left out first.

    Raises:
        CheckpointError: missing or unexpected keys, or shapes that do not fit; the first few are named.
    """
    own = network.state_dict()
    extra = [key for key in state if key not in own]
    unused = {key for key in extra if any(fnmatch.fnmatch(key, pattern) for pattern in weights.unused)}
    problems = [
        ("missing", sorted(set(own) - set(state))),
        ("unexpected", sorted(set(extra) - unused)),
        ("misshapen", sorted(key for key in own if key in state and own[key].shape != state[key].shape)),
    ]
    if any(keys for _, keys in problems):
        named = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems if keys)
        msg = f"{weights.repo}/{weights.file} does not fit the network ({named})."
        hint = f"Give the published file of revision {weights.revision}."
        raise CheckpointError(msg, hint=hint, context={what: list(keys) for what, keys in problems})
    network.load_state_dict({key: state[key] for key in own}, strict=True)


def _some(keys: list[str]) -> str:
    shown = ", ".join(keys[:_SHOWN_KEYS])
    return shown if len(keys) <= _SHOWN_KEYS else f"{shown}, ..."
