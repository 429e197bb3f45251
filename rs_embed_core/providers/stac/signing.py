"""Stage fetch, STAC: ``Signer``, short-lived signatures for the hrefs of a collection (Planetary Computer).

Its documented endpoint answers ``{"token": "...", "msft:expiry": "2030-01-01T00:00:00Z"}`` for a collection, and
the token is the query of every href of it. Written from that documentation and tried against a local server only:
the service itself was out of reach.
"""

from __future__ import annotations

import datetime as dt
import json
import threading

from rs_embed_core.providers.stac.faults import RequestFailed, shown
from rs_embed_core.providers.stac.http import get

_EARLY = dt.timedelta(minutes=5)  # a read that starts now must still end in time


class Signer:
    """Signs hrefs with a token that is asked for when there is none, when it ages, and when it was refused.

    Args:
        url: of the tokens; the collection is added.
        collection: whose files are signed.
    """

    def __init__(self, url: str, collection: str) -> None:
        self._url = f"{url}/{collection}"
        self._lock = threading.Lock()  # held while asking: others wait for the same token
        self._token: str | None = None
        self._good_until = dt.datetime.min.replace(tzinfo=dt.UTC)

    def signed(self, href: str, left_s: float) -> str:
        """The href with a token that is good for a while.

        Raises:
            RequestFailed: no token was given.
        """
        with self._lock:
            if self._token is None or dt.datetime.now(dt.UTC) >= self._good_until:
                self._token, self._good_until = self._ask(left_s)
            return f"{href}?{self._token}"

    def refused(self, signed: str) -> None:
        """Ask for another token next time, if this href has the present one."""
        with self._lock:
            if self._token is not None and signed.endswith(f"?{self._token}"):
                self._token = None

    def _ask(self, left_s: float) -> tuple[str, dt.datetime]:
        body = get(self._url, left_s)
        try:
            answer = json.loads(body)
            return answer["token"], dt.datetime.fromisoformat(answer["msft:expiry"]) - _EARLY
        except (ValueError, KeyError, TypeError) as error:
            raise RequestFailed(shown(self._url), f"no token in the answer ({type(error).__name__})") from error
