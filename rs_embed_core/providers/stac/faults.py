"""Stage fetch, STAC: what a failed request means (stac.md, section 5)."""

from __future__ import annotations

from rs_embed_core.errors import ProviderAuth, ProviderError, ProviderQuota, ProviderTimeout
from rs_embed_core.providers.calls import Verdict

_GONE = (404, 410)
_LOGIN = (401, 403)
_BUSY = (429, 503)  # S3 says 503 Slow Down where others say 429


class RequestFailed(Exception):
    """A request that failed, in our own words: those of GDAL and of HTTP clients may hold a signature.

    Attributes:
        what: which request, without its query.
        status: of HTTP; None where there was no answer.
        text: what went wrong.
        signed: its href carried a signature, and another one may help.
        retry_after_s: the service's word on when to come back.
    """

    def __init__(
        self,
        what: str,
        text: str,
        *,
        status: int | None = None,
        signed: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{what}: {text}")
        self.what = what
        self.text = text
        self.status = status
        self.signed = signed
        self.retry_after_s = retry_after_s


class FileFailed(Exception):
    """A local file that is missing or damaged; trying again cannot help."""


def shown(href: str) -> str:
    """An address without its query, which may be a signature."""
    return href.split("?", 1)[0]


def judge(error: Exception) -> Verdict:
    """What a failure means and whether the request may be sent again."""
    if isinstance(error, RequestFailed):
        return _judge_request(error)
    if isinstance(error, FileFailed):
        hint = "The catalogue names a file that cannot be read; repair or rebuild it."
        return Verdict(ProviderError(f"stac: {error}.", code="bad_file", hint=hint, retryable=False))
    msg = f"stac: {type(error).__name__}: {error}."
    return Verdict(ProviderError(msg, hint="This is a defect of the provider.", retryable=False))


def _judge_request(error: RequestFailed) -> Verdict:
    msg, status = f"stac: {error.what}: {error.text}.", error.status
    if status in _BUSY:
        hint = "The service is busy; fewer files at once (at_once) may help."
        busy = ProviderQuota(msg, hint=hint) if status == 429 else ProviderError(msg, code="provider_busy", hint=hint)
        return Verdict(busy, tries=5, pressure="rate", retry_after_s=error.retry_after_s)
    if status in _LOGIN:
        hint = "The service refuses access; check token_url, or whether the file is open to everyone."
        return Verdict(ProviderAuth(msg, hint=hint), tries=2 if error.signed else 1)
    if status in _GONE:
        hint = "The catalogue names a file, or the settings an address, that does not exist."
        return Verdict(ProviderError(msg, code="not_found", hint=hint, retryable=False))
    if status is None and "timed out" in error.text:
        return Verdict(ProviderTimeout(msg, hint="Give a longer timeout_s, or try again later."), tries=2)
    if status is None or status >= 500:
        hint = "The service or the way to it failed; try again later."
        return Verdict(ProviderError(msg, hint=hint), tries=4, retry_after_s=error.retry_after_s)
    hint = "The service does not understand the request; check the addresses in the settings."
    return Verdict(ProviderError(msg, code="provider_rejected", hint=hint, retryable=False))
