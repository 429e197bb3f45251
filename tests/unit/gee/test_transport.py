"""The transport under ``ee``, against a small server of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rs_embed_core.providers.calls import Terms, under
from rs_embed_core.providers.gee.transport import PooledTransport

_BODY = bytes(range(256)) * 20_000  # 5 MB: several pieces


class _Handler(BaseHTTPRequestHandler):
    """Does what the path says."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        behaviour = self.path.strip("/")
        if behaviour == "silence":
            self.server.over.wait(30)  # then the connection is cut
            return
        self.send_response(418 if behaviour == "teapot" else 200, "Short and stout")
        if behaviour == "restricted":
            self.send_header("X-Earth-Engine-Quota-Status", "parallelism_restricted=true")
        self.send_header("X-Port", str(self.client_address[1]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "drops":
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.server.over.wait(0.2)
        elif behaviour == "half":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
        """Be quiet."""


class _Server(ThreadingHTTPServer):
    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what is tested."""


@pytest.fixture
def url() -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.over.set()
        server.shutdown()


@pytest.fixture
def transport() -> PooledTransport:
    return PooledTransport(connections=2, longest_s=60.0)


def test_the_whole_body_comes_back(url: str, transport: PooledTransport) -> None:
    response, content = transport.request(f"{url}/echo", "POST", body=_BODY, headers={"Accept": "*/*"})
    assert content == _BODY
    assert response.status == 200
    assert response["content-length"] == str(len(_BODY))


def test_connections_are_kept(url: str, transport: PooledTransport) -> None:
    ports = {transport.request(f"{url}/echo", "POST", body=b"x")[0]["x-port"] for _ in range(5)}
    assert len(ports) == 1


def test_an_error_is_an_answer_with_its_own_reason(url: str, transport: PooledTransport) -> None:
    response, content = transport.request(f"{url}/teapot", "POST", body=b"no coffee")
    assert (response.status, response.reason, content) == (418, "Short and stout", b"no coffee")


@pytest.mark.parametrize("behaviour", ["silence", "drops"])
def test_no_whole_answer_before_the_deadline(url: str, transport: PooledTransport, behaviour: str) -> None:
    with under(Terms(time.monotonic() + 0.5)), pytest.raises(TimeoutError):  # the server ends it otherwise, and later
        transport.request(f"{url}/{behaviour}", "POST", body=b"0123456789")


def test_the_longest_time_counts_where_there_is_no_deadline(url: str) -> None:
    with pytest.raises(TimeoutError):
        PooledTransport(connections=1, longest_s=0.3).request(f"{url}/silence", "POST", body=b"x")


def test_a_deadline_that_has_passed(url: str, transport: PooledTransport) -> None:
    with under(Terms(time.monotonic() - 1)), pytest.raises(TimeoutError):
        transport.request(f"{url}/echo", "POST", body=b"x")


def test_a_body_cut_in_half_is_a_broken_connection(url: str, transport: PooledTransport) -> None:
    with pytest.raises(ConnectionError, match="IncompleteRead"):
        transport.request(f"{url}/half", "POST", body=_BODY)
    assert transport.request(f"{url}/echo", "POST", body=b"next")[1] == b"next"


def test_nobody_listens(transport: PooledTransport) -> None:
    with pytest.raises(ConnectionError):
        transport.request("http://127.0.0.1:9/", "POST", body=b"x")


def test_restriction_is_noted_and_kept_from_the_client(url: str, transport: PooledTransport) -> None:
    response, _ = transport.request(f"{url}/restricted", "POST", body=b"x")
    assert transport.restricted
    assert "x-earth-engine-quota-status" not in response
    transport.request(f"{url}/echo", "POST", body=b"x")
    assert not transport.restricted
