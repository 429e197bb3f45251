"""Verdicts on what the client raises: the table of earth_engine.md, 2.3, with exceptions made as it makes them."""

from __future__ import annotations

import json
import logging

import httplib2
import pytest
from ee.ee_exception import EEException
from google.auth.exceptions import DefaultCredentialsError, InvalidOperation, RefreshError, TransportError
from googleapiclient.errors import HttpError, UnknownApiNameOrVersion

from rs_embed_core.errors import NoImagery, ProviderAuth, ProviderError, ProviderQuota, ProviderTimeout
from rs_embed_core.providers.gee.decode import BadReplyError
from rs_embed_core.providers.gee.errors import judge


def _answered(status: int, message: str, **headers: str) -> EEException:
    """What ``ee`` raises for an error reply: the text alone, the status in what it was handling."""
    body = json.dumps({"error": {"code": status, "message": message}}).encode()
    response = httplib2.Response({"status": str(status), "content-type": "application/json", **headers})
    cause = HttpError(response, body)
    error = EEException(cause.reason)
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("status", "message", "cls", "code"),
    [
        (400, "Computation timed out.", ProviderError, "computation_too_large"),
        (400, "User memory limit exceeded.", ProviderError, "computation_too_large"),
        (400, "Total request size (60 bytes) must be less than or equal to 50 bytes.",
         ProviderError, "computation_too_large"),
        (400, "ImageCollection.load: asset 'A/B' not found (does not exist or caller does not have access).",
         ProviderError, "unknown_collection"),
        (400, "Image.select: Band pattern 'B99' did not match any bands.", ProviderError, "unknown_band"),
        (400, "Collection.first: the collection is empty.", NoImagery, "no_imagery"),
        (400, "Image.select: Parameter 'input' is required and may not be null.", ProviderError, "provider_rejected"),
        (404, "Not found.", ProviderError, "provider_rejected"),
        (401, "Invalid token.", ProviderAuth, "credentials_expired"),
        (403, "Permission denied.", ProviderAuth, "no_permission"),
    ],
)  # fmt: skip
def test_permanent_failures(status: int, message: str, cls: type[ProviderError], code: str) -> None:
    verdict = judge(_answered(status, message), "A/B (B4)")
    assert type(verdict.error) is cls
    assert (verdict.error.code, verdict.error.retryable, verdict.tries) == (code, False, 1)
    assert verdict.error.hint
    assert message in verdict.error.message
    assert verdict.breaks == (status in {401, 403})


def test_messages_name_what_was_asked_for() -> None:
    assert judge(_answered(400, "Odd."), "A/B (B4)").error.message.startswith("A/B (B4): ")


@pytest.mark.parametrize(
    ("error", "pressure", "wait_s"),
    [
        (_answered(429, "Too many concurrent aggregations."), "concurrency", None),
        (_answered(429, "Too Many Requests", **{"retry-after": "7"}), "concurrency", 7.0),
        (_answered(429, "Quota exceeded for quota metric 'x' and limit 'y per minute'"), "rate", 1.0),
        (_answered(429, "Quota exceeded for quota metric 'x'", **{"retry-after": "3"}), "rate", 3.0),
        (_answered(403, "rateLimitExceeded"), "rate", 1.0),
    ],
)
def test_too_many_requests(error: EEException, pressure: str, wait_s: float | None) -> None:
    verdict = judge(error)
    assert type(verdict.error) is ProviderQuota
    assert (verdict.pressure, verdict.retry_after_s, verdict.tries, verdict.breaks) == (pressure, wait_s, 5, False)
    assert verdict.error.retryable


def test_the_daily_quota_breaks() -> None:
    verdict = judge(_answered(429, "The project's daily EECU quota is spent.", **{"retry-after": "3600"}))
    assert (verdict.error.code, verdict.error.retryable, verdict.tries) == ("daily_quota", False, 1)
    assert (verdict.breaks, verdict.retry_after_s, verdict.pressure) == (True, 3600.0, "none")


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_server_errors_pass(status: int) -> None:
    verdict = judge(_answered(status, "Computation timed out."))  # the status counts, not the text
    assert (verdict.error.code, verdict.error.retryable, verdict.tries) == ("provider_failed", True, 5)


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "nan", "inf", "soon"])
def test_a_retry_after_that_is_no_number_of_seconds_is_ignored(header: str) -> None:
    assert judge(_answered(503, "", **{"retry-after": header})).retry_after_s is None


def test_discovery_fails_without_the_client_s_own_exception() -> None:
    cause = _answered(503, "Down.").__context__
    assert isinstance(cause, HttpError)
    assert judge(cause).error.code == "provider_failed"


@pytest.mark.parametrize(
    ("error", "cls", "code", "tries"),
    [
        (ConnectionError("reset by peer"), ProviderError, "provider_unreachable", 5),
        (TimeoutError("read timed out"), ProviderTimeout, "provider_timeout", 2),
        (BadReplyError("no NPY"), ProviderError, "bad_reply", 2),
        (json.JSONDecodeError("no JSON", "<html>", 0), ProviderError, "bad_reply", 2),
        (TransportError("token endpoint down"), ProviderError, "provider_unreachable", 5),
        (RefreshError("token endpoint busy", retryable=True), ProviderError, "provider_unreachable", 5),
    ],
)
def test_failures_on_the_way_pass(error: Exception, cls: type[ProviderError], code: str, tries: int) -> None:
    verdict = judge(error)
    assert type(verdict.error) is cls
    assert (verdict.error.code, verdict.tries, verdict.error.retryable) == (code, tries, True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefreshError("invalid_grant: Token has been expired or revoked."), "credentials_expired"),
        (InvalidOperation("Anonymous credentials cannot be refreshed."), "credentials_expired"),
        (DefaultCredentialsError("Your default credentials were not found."), "missing_credentials"),
    ],
)
def test_credentials_of_no_use(error: Exception, code: str) -> None:
    verdict = judge(error)
    assert type(verdict.error) is ProviderAuth
    assert (verdict.error.code, verdict.breaks, verdict.tries) == (code, True, 1)
    assert "earthengine authenticate" in str(verdict.error.hint)


def test_an_endpoint_that_is_not_earth_engine() -> None:
    verdict = judge(UnknownApiNameOrVersion("name: earthengine  version: v1"))
    assert (verdict.error.code, verdict.error.retryable, verdict.breaks) == ("wrong_endpoint", False, True)


def test_the_client_s_own_complaint_is_permanent() -> None:
    assert judge(EEException("Unrecognized argument type."), "A/B").error.code == "provider_rejected"


def test_our_own_mistakes_are_not_the_service_s() -> None:
    mistake = KeyError("grid")
    with pytest.raises(KeyError) as caught:
        judge(mistake)
    assert caught.value is mistake


def test_a_request_above_the_limits_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        judge(_answered(400, "Pixel grid dimensions (40000x1) must be less than or equal to 32768."))
    assert "larger than Earth Engine allows" in caplog.text
