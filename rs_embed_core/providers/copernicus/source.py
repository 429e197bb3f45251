"""Stage fetch: where the file of the ``copernicus`` map is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rs_embed_core.errors import ProviderError
from rs_embed_core.weights import hub_failures

REPO = "torchgeo/copernicus_embed"  # golden/copernicus/spec.md, "File"
FILE = "embed_map_310k.tif"
REVISION = "435b4a7bdce6f6fdbf4272f9d6e54f2604f35fdb"
DOWNLOAD = f"Download {FILE} of the Hugging Face dataset {REPO}, revision {REVISION}"


@dataclass(frozen=True)
class CopernicusSettings:
    """Where the map is.

    Attributes:
        path: the GeoTIFF, or a folder with an ``embed_map_*.tif``; None is the Hugging Face Hub and its local cache.
        offline: never ask the Hub; what its cache holds is still used.
        minimum_bytes: a smaller file is an incomplete download.
    """

    path: Path | None = None
    offline: bool = False
    minimum_bytes: int = 734_003_200


def locate(settings: CopernicusSettings) -> Path:
    """The file, downloaded if need be and allowed.

    Raises:
        ProviderError: ``file_missing`` or ``file_incomplete``.
    """
    path = _from_hub(offline=settings.offline) if settings.path is None else _local(settings.path.expanduser())
    size = path.stat().st_size
    if size < settings.minimum_bytes:
        msg = f"{path} has {size} bytes, fewer than {settings.minimum_bytes}: an incomplete download or a pointer."
        raise ProviderError(msg, code="file_incomplete", hint=f"{DOWNLOAD}, again.", retryable=False)
    return path


def _local(path: Path) -> Path:
    if path.is_file():
        return path
    maps = sorted(path.glob("embed_map_*.tif"))
    if not maps:
        raise _missing(f"{path} is no file, and no folder with an embed_map_*.tif.", retryable=False)
    return maps[0]


def _from_hub(*, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(REPO, FILE, repo_type="dataset", revision=REVISION, local_files_only=offline))
    except hub_failures() as error:
        where = "in the local cache of the Hub" if offline else "to be had from the Hub"
        msg = f"the copernicus map is not {where} ({type(error).__name__})."
        raise _missing(msg, retryable=not offline) from error


def _missing(msg: str, *, retryable: bool) -> ProviderError:
    hint = f"{DOWNLOAD}, and give its path to the provider, or allow access to the Hub."
    context = {"repo": REPO, "file": FILE, "revision": REVISION}
    return ProviderError(msg, code="file_missing", hint=hint, retryable=retryable, context=context)
