"""Where published weights are: ``HubFile``. Data only; ``checkpoints.py`` reads the files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HubFile:
    """Weights on the Hugging Face Hub, and the way from the file to the network's own keys.

    Attributes:
        revision: commit; ``main`` only where the fact sheet knows no commit (meta reports the one loaded).
        sha256: checked when known.
        wrappers: names of nested dicts to unwrap, outermost first, where present.
        parts: names of the nested dicts that are used, for a file that is one of state dicts: a key is then that of its
            part, a dot and its own.
        prefixes: stripped in this order, each if every key has it.
        keep: only keys below this prefix are used, without it (``visual.``).
        unused: patterns of keys in the file that the network has no use for; any other extra key is an error.
        url: where the authors publish the file if not on the Hub; it is not fetched, ``checkpoints.root`` must have it.
        convert: last change of the flat state dict, where data cannot say it.
    """

    repo: str
    file: str
    revision: str
    sha256: str | None = None
    wrappers: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    keep: str = ""
    unused: tuple[str, ...] = ()
    convert: str | None = None
    url: str = ""


def hub_failures() -> tuple[type[Exception], ...]:
    """What the Hub's client raises where a file is not to be had: its own errors, its downloader's and its transport's.

    A mistake in a program is none of them.
    """
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 - slow to import

    # The transport is httpx in some releases of the client and httpx2 in others; the client's error is one of its.
    transport: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
    return *transport, OSError, ValueError, RuntimeError
