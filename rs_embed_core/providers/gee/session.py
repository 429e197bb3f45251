"""Stage fetch, Earth Engine: the client's one state per process: who asks, for which project, where."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rs_embed_core.errors import InvalidRequest, ProviderAuth, ProviderError
from rs_embed_core.providers.calls import Asking, Tally, Turnstile, terms, too_late
from rs_embed_core.providers.gate import Quota
from rs_embed_core.providers.gee.errors import judge, missing_credentials
from rs_embed_core.providers.gee.transport import PooledTransport

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

HIGH_VOLUME_URL = "https://earthengine-highvolume.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/earthengine", "https://www.googleapis.com/auth/cloud-platform")
_TAG = re.compile(r"[a-z0-9]([-_a-z0-9]{0,61}[a-z0-9])?")  # earth_engine.md 2.5
_REMEMBERED_S = 10.0  # what is wrong with an account is told to whoever comes next, before it is tried again

type Account = tuple[str | None, str | None, str]
"""What a process can only have one of: project, endpoint, credentials."""


@dataclass(frozen=True)
class GeeSettings:
    """How Earth Engine is used.

    Attributes:
        project: the Google Cloud project that pays; None takes the one that the credentials name.
        url: of the endpoint; None is the standard one, ``high-volume`` Google's other.
        credentials: ``auto`` (the token of ``earthengine authenticate``, else Application Default Credentials, which
            include Workload Identity), ``anonymous`` (an emulator), or the path of a service account's key file.
        workload_tag: under which costs are listed in the project's monitoring.
        at_once: requests under way.
        per_second: requests begun in a second.
        deadline_s: for one request, where the read's own deadline is not nearer; Earth Engine gives up after 300.
    """

    project: str | None = None
    url: str | None = None
    credentials: str = "auto"
    workload_tag: str = "rs-embed"
    at_once: int = 32
    per_second: float = 80.0
    deadline_s: float = 300.0

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.workload_tag):
            raise InvalidRequest(
                f"workload_tag is {self.workload_tag!r}.",
                hint="Use 1 to 63 of a-z, 0-9, - and _, with a letter or digit at both ends.",
            )

    @property
    def endpoint(self) -> str | None:
        """The URL for the client."""
        return HIGH_VOLUME_URL if self.url == "high-volume" else self.url

    @property
    def quota(self) -> Quota:
        """Of requests."""
        return Quota(self.at_once, self.per_second)

    @property
    def account(self) -> Account:
        """Who asks, and where."""
        return self.project, self.endpoint, self.credentials


@dataclass(frozen=True)
class Session:
    """A client that is ready: the project that pays, the endpoint, the transport."""

    project: str
    url: str
    transport: PooledTransport


@dataclass
class _Process:
    """The state of ``ee`` in this process.

    Attributes:
        lock: held while it is being started.
        current: the session and its account, None before.
        failures: why an account could not be used, and when that was.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    current: tuple[Account, Session] | None = None
    failures: dict[Account, tuple[ProviderError, float]] = field(default_factory=dict)


_process = _Process()


def open_session(settings: GeeSettings, gate: Turnstile) -> Session:
    """The process's session, started by the first who asks while the others wait.

    Raises:
        ProviderAuth: no project, or no usable credentials.
        ProviderError: the service cannot be reached, or the process uses it for another account already.
    """
    if _process.current is not None:
        return _same(_process.current, settings.account)
    if not _process.lock.acquire(timeout=min(terms().left_s, threading.TIMEOUT_MAX)):
        raise too_late("waiting for Earth Engine to be initialised")
    try:
        if _process.current is not None:  # by another thread, meanwhile
            return _same(_process.current, settings.account)
        return _start(settings, gate)
    finally:
        _process.lock.release()


def _same(current: tuple[Account, Session], account: Account) -> Session:
    owner, session = current
    if owner == account:
        return session
    raise ProviderError(
        f"this process uses Earth Engine with project {session.project} at {session.url}.",
        code="earth_engine_in_use",
        hint="The client has one project, endpoint and account per process: use another process.",
        retryable=False,
    )


def _start(settings: GeeSettings, gate: Turnstile) -> Session:
    account = settings.account
    error, when = _process.failures.get(account, (None, 0.0))
    if error is not None and time.monotonic() - when < _REMEMBERED_S:
        raise error
    try:
        session = Asking(judge, gate, Tally()).ask(lambda _: _initialise(settings))
    except ProviderError as failure:
        if not failure.retryable:
            _process.failures[account] = failure, time.monotonic()
        raise
    _process.current = account, session
    return session


def _initialise(settings: GeeSettings) -> Session:
    import ee  # noqa: PLC0415 - slow to import, so on first use
    from ee import deprecation  # noqa: PLC0415

    credentials, project = _account(settings)
    transport = PooledTransport(connections=settings.at_once, longest_s=settings.deadline_s)
    # A list that is not empty counts as loaded; loading it would go past url, transport and deadline.
    deprecation.deprecated_assets = {"-": deprecation.DeprecatedAsset("-", None, None, None)}
    ee.data.setMaxRetries(0)  # one layer retries, and it is not the client
    ee.Initialize(credentials=credentials, url=settings.endpoint, http_transport=transport, project=project)
    ee.data.setDefaultWorkloadTag(settings.workload_tag)
    return Session(project, settings.endpoint or ee.data.DEFAULT_CLOUD_API_BASE_URL, transport)


def _account(settings: GeeSettings) -> tuple[Credentials, str]:
    """Credentials and project.

    Raises:
        ProviderAuth: ``missing_credentials`` or ``missing_project``.
    """
    if settings.credentials == "anonymous":
        from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415

        credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google.auth's
        own = None
    elif settings.credentials == "auto":
        credentials = _found()
        own = credentials.quota_project_id
    else:
        credentials, own = _from_file(settings.credentials)
    project = settings.project or own
    if not project:
        raise ProviderAuth(
            "Earth Engine needs a Google Cloud project, and neither the settings nor the credentials name one.",
            code="missing_project",
            hint="Set the provider's project to one that is registered for Earth Engine.",
        )
    return credentials, project


def _found() -> Any:  # noqa: ANN401 - google.auth types its credentials loosely
    """The token that ``earthengine authenticate`` stored, else Application Default Credentials."""
    import google.auth  # noqa: PLC0415
    from ee import oauth  # noqa: PLC0415
    from google.oauth2.credentials import Credentials  # noqa: PLC0415

    try:
        stored = oauth.get_credentials_arguments()
    except OSError:
        stored = {}
    if stored.get("refresh_token"):
        return Credentials(None, **stored)  # type: ignore[no-untyped-call]  # google.auth's
    credentials, _ = google.auth.default(scopes=_SCOPES)
    return credentials


def _from_file(path: str) -> tuple[Any, str | None]:
    from google.oauth2.service_account import Credentials  # noqa: PLC0415

    try:
        credentials = Credentials.from_service_account_file(path, scopes=_SCOPES)  # type: ignore[no-untyped-call]  # google.auth's
    except (OSError, ValueError) as error:
        raise missing_credentials(f"{path} is no service account's key file ({error})") from error
    return credentials, credentials.project_id
