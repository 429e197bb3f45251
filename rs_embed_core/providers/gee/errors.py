"""Stage fetch, Earth Engine: what a failure of the client means: the table of earth_engine.md, section 2.3."""

from __future__ import annotations

import logging
import math
from json import JSONDecodeError
from typing import TYPE_CHECKING

from rs_embed_core.errors import NoImagery, ProviderAuth, ProviderError, ProviderQuota, ProviderTimeout
from rs_embed_core.providers.calls import Pressure, Verdict
from rs_embed_core.providers.gee.decode import BadReplyError

if TYPE_CHECKING:
    from googleapiclient.errors import HttpError  # type: ignore[import-untyped]  # ships no types

_log = logging.getLogger(__name__)

TOO_LARGE = "computation_too_large"
_TRIES = 5  # of a failure that passes
_RATE_WAIT_S = 1.0  # at least, where the service complains of the rate and names no time
_RATE_REASONS = ("rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED")
_TOO_MUCH_WORK = ("Computation timed out", "memory limit exceeded", "is too large")
_TOO_MANY_PIXELS = (
    "Total request size",
    "grid dimension",
    "Pixel grid dimensions",
    "Number of bands",
    "Too many pixels",
)


def judge(error: Exception, about: str = "Earth Engine") -> Verdict:
    """What a failed request means.

    Args:
        error: raised by ``ee``, ``google.auth``, the transport or ``decode``.
        about: what was asked for, with which messages begin.

    Raises:
        Exception: ``error`` itself where it is none of theirs: a mistake in a program should show.
    """
    from ee.ee_exception import EEException  # slow to import, and loaded when anything can fail
    from google.auth.exceptions import GoogleAuthError
    from googleapiclient.errors import Error, HttpError

    # The client keeps the status only in what it was handling when it raised its own exception.
    answered = next((each for each in (error, error.__context__) if isinstance(each, HttpError)), None)
    if answered is not None:
        return _by_status(answered, about)
    if isinstance(error, GoogleAuthError):
        return _no_token(error)
    if isinstance(error, TimeoutError | ConnectionError | BadReplyError | JSONDecodeError):
        return _on_the_way(error, about)
    if isinstance(error, Error):
        message = f"the Earth Engine endpoint offers no usable API ({error})."
        hint = "Check the provider's url; leave it out for the standard endpoint."
        return Verdict(ProviderError(message, code="wrong_endpoint", hint=hint, retryable=False), breaks=True)
    if isinstance(error, EEException):
        return _permanent(f"{about}: {error}", "provider_rejected", "The request is wrong in itself; see the message.")
    raise error


def _on_the_way(error: Exception, about: str) -> Verdict:
    """No answer, or not a whole one."""
    if isinstance(error, TimeoutError):
        hint = "Try again, or ask for fewer frames or a smaller place."
        return Verdict(ProviderTimeout(f"{about}: Earth Engine did not answer in time.", hint=hint), tries=2)
    if isinstance(error, ConnectionError):
        return _passing(f"{about}: the connection to Earth Engine failed ({error}).", "provider_unreachable")
    return Verdict(_passing(f"{about}: the answer is damaged: {error}.", "bad_reply").error, tries=2)


def _by_status(error: HttpError, about: str) -> Verdict:
    status, text = int(error.resp.status), str(error.reason)
    body = error.content.decode("utf-8", "replace")
    if status == 429 or (status == 403 and any(reason in body for reason in _RATE_REASONS)):
        return _over_quota(text, status, _seconds(error.resp.get("retry-after")))
    if status == 401:
        return _refused(f"Earth Engine does not accept the credentials: {text}", "credentials_expired", _RENEW)
    if status == 403:
        return _forbidden(text)
    if status == 400:
        return _bad_request(text, about)
    if status >= 500 or status == 408:
        wait_s = _seconds(error.resp.get("retry-after"))
        verdict = _passing(f"{about}: Earth Engine answered {status} ({text}).", "provider_failed")
        return Verdict(verdict.error, tries=verdict.tries, retry_after_s=wait_s)
    return _permanent(f"{about}: Earth Engine answered {status}: {text}", "provider_rejected", "See the message.")


def _over_quota(text: str, status: int, wait_s: float | None) -> Verdict:
    lower = text.lower()
    if "eecu" in lower or "daily" in lower or "per day" in lower:
        hint = "It is filled up again at midnight Pacific Time; the project's owner can raise it."
        spent = ProviderQuota(
            f"the project's daily Earth Engine quota is spent: {text}", code="daily_quota", hint=hint, retryable=False
        )
        return Verdict(spent, retry_after_s=wait_s, breaks=True)
    of_rate = status == 403 or "per minute" in lower or "quota metric" in lower
    pressure: Pressure = "rate" if of_rate else "concurrency"
    hint = "Try again later; other users of the same project count too."
    error = ProviderQuota(f"Earth Engine takes no more requests of this project now: {text}", hint=hint)
    if of_rate and wait_s is None:
        wait_s = _RATE_WAIT_S
    return Verdict(error, tries=_TRIES, pressure=pressure, retry_after_s=wait_s)


_RENEW = "Run `earthengine authenticate`, or give the service account's key anew, and try again."


def _forbidden(text: str) -> Verdict:
    message = f"Earth Engine refuses the project or account: {text}"
    if "has not been used in project" in text or "is disabled" in text:
        return _refused(message, "api_disabled", "Enable the Earth Engine API for the project.")
    if "not registered" in text:
        return _refused(message, "project_not_registered", "Register the project for Earth Engine.")
    hint = "The account needs Earth Engine use and serviceusage.services.use on the project."
    return _refused(message, "no_permission", hint)


def _bad_request(text: str, about: str) -> Verdict:
    message = f"{about}: {text}"
    if any(part in text for part in _TOO_MANY_PIXELS):
        _log.error("a request was larger than Earth Engine allows: %s", text)  # the tiling should have seen to that
    if any(part in text for part in (*_TOO_MANY_PIXELS, *_TOO_MUCH_WORK)):
        return _permanent(message, TOO_LARGE, "Ask for a shorter window, fewer frames or a smaller place.")
    if "not found" in text and ("asset" in text or "does not exist" in text):
        return _permanent(message, "unknown_collection", "Check the collection's id, and that the account may read it.")
    if "did not match any bands" in text:
        return _permanent(message, "unknown_band", "The message names the band; see the collection's page for others.")
    if "Collection.first" in text or "is null" in text or "'null'" in text:
        return Verdict(NoImagery(message, hint="Ask for another window or a higher cloudy_pct."))
    return _permanent(message, "provider_rejected", "The request is wrong in itself; see the message.")


def _no_token(error: Exception) -> Verdict:
    """Google's own library could not get or use a token."""
    from google.auth.exceptions import (
        DefaultCredentialsError,
        GoogleAuthError,
        InvalidOperation,
        TransportError,
    )

    passing = isinstance(error, TransportError) or (isinstance(error, GoogleAuthError) and error.retryable)
    if passing:
        return _passing(f"Google's token service could not be reached ({error}).", "provider_unreachable")
    if isinstance(error, DefaultCredentialsError) and not isinstance(error, InvalidOperation):
        return Verdict(missing_credentials(str(error)), breaks=True)
    return _refused(f"Earth Engine does not accept the credentials: {error}", "credentials_expired", _RENEW)


def missing_credentials(text: str) -> ProviderAuth:
    """No credentials were found, or their file is of no use."""
    hint = "Run `earthengine authenticate`, name a service account's key file, or use Workload Identity."
    return ProviderAuth(f"there are no Earth Engine credentials: {text}", code="missing_credentials", hint=hint)


def _refused(message: str, code: str, hint: str) -> Verdict:
    return Verdict(ProviderAuth(message, code=code, hint=hint), breaks=True)


def _permanent(message: str, code: str, hint: str) -> Verdict:
    return Verdict(ProviderError(message, code=code, hint=hint, retryable=False))


def _passing(message: str, code: str) -> Verdict:
    return Verdict(ProviderError(message, code=code, hint="Try again later."), tries=_TRIES)


def _seconds(header: str | None) -> float | None:
    """A ``Retry-After`` in seconds; None where there is none or it is a date, which Google does not send."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
