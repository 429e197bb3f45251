"""Stage fetch, STAC: small documents over HTTP, within the time that is left."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from rs_embed_core.providers.stac.faults import RequestFailed, shown

if TYPE_CHECKING:
    from urllib3 import PoolManager

_CONNECT_S, _READ_S = 5.0, 30.0


@cache
def _pool() -> PoolManager:
    from urllib3 import PoolManager

    return PoolManager(maxsize=8, retries=False)


def is_remote(href: str) -> bool:
    """Whether an href is an address rather than a file's path."""
    return "://" in href


def get(url: str, left_s: float) -> bytes:
    """The body at an address.

    Raises:
        RequestFailed: no answer in time, or none with status 200.
    """
    from urllib3 import Timeout, exceptions

    timeout = Timeout(connect=min(_CONNECT_S, left_s), read=min(_READ_S, left_s))
    try:
        answer = _pool().request("GET", url, timeout=timeout)
    except exceptions.HTTPError as error:
        text = "timed out" if isinstance(error, exceptions.TimeoutError) else f"no answer ({type(error).__name__})"
        raise RequestFailed(shown(url), text) from error
    if answer.status != 200:
        after = answer.headers.get("Retry-After", "")
        raise RequestFailed(
            shown(url),
            f"HTTP status {answer.status}",
            status=answer.status,
            retry_after_s=float(after) if after.isdigit() else None,
        )
    return answer.data
