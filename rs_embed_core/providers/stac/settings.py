"""Stage fetch, STAC: ``StacSettings``, which catalogue is read and how."""

from __future__ import annotations

from dataclasses import dataclass

from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.gate import Quota
from rs_embed_core.providers.stac.presets import FLAGGED, PRESETS, Preset, PresetName

_FILES_PER_SECOND = 1000.0  # object stores limit far above what one application asks


@dataclass(frozen=True)
class StacSettings:
    """Which catalogue is read and how.

    Attributes:
        preset: whose names and offset rule hold; also where to read, unless ``url`` or ``path`` says.
        url: another STAC API that holds the same.
        path: a static catalogue instead of an API: the file or URL of its ``collection.json``, ``catalog.json`` or
            ``items.json``.
        collection: what the catalogue calls Sentinel-2 L2A; None is the preset's name for it.
        token_url: another address that signs hrefs; None is the preset's, with its own API only.
        mask_clouds: leave out pixels that the scene classification calls defective, shadow, cloud or cirrus.
        at_once: files read at once.
        max_scenes: most scenes in one frame, the least cloudy first; None takes all.
        timeout_s: seconds that a read may take where the request sets no nearer deadline.

    Raises:
        ProviderError: ``invalid_settings``.
    """

    preset: PresetName = "earth-search"
    url: str | None = None
    path: str | None = None
    collection: str | None = None
    token_url: str | None = None
    mask_clouds: bool = False
    at_once: int = 32
    max_scenes: int | None = None
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise _invalid(f"preset is {self.preset!r}.", f"Presets are {', '.join(PRESETS)}.")
        if self.url is not None and self.path is not None:
            raise _invalid("both url and path are set.", "url is a STAC API, path a static catalogue.")
        if (self.preset, self.collection) == FLAGGED:
            hint = (
                "The values of some of its files were lowered by 1000 and the flag that says which is known to be"
                f" wrong; use {self.names.collection}, or the preset planetary-computer."
            )
            raise _invalid(f"collection is {self.collection!r} on Earth Search.", hint)
        if self.at_once < 1 or (self.max_scenes is not None and self.max_scenes < 1) or not self.timeout_s > 0:
            msg = f"at_once {self.at_once}, max_scenes {self.max_scenes} and timeout_s {self.timeout_s} are set."
            raise _invalid(msg, "They are at least 1, at least 1 or None, and above 0.")

    @property
    def quota(self) -> Quota:
        """Of reads of files."""
        return Quota(self.at_once, _FILES_PER_SECOND)

    @property
    def names(self) -> Preset:
        """The preset."""
        return PRESETS[self.preset]

    @property
    def collection_id(self) -> str:
        """What the catalogue calls Sentinel-2 L2A."""
        return self.collection or self.names.collection

    @property
    def signs_at(self) -> str | None:
        """The address that signs hrefs; None where they are open."""
        own = self.url is None and self.path is None
        return self.token_url or (self.names.token_url if own else None)


def _invalid(message: str, hint: str) -> ProviderError:
    return ProviderError(f"stac settings: {message}", code="invalid_settings", hint=hint, retryable=False)
