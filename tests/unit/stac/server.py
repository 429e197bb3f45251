"""A small HTTP server for remote reads: files with ranges, the ``/search`` of a STAC API, tokens, and faults."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PAGE = 4


class StacServer(ThreadingHTTPServer):
    """Serves one folder.

    Attributes:
        seen: method and path of every request.
        faults: answers that the next requests get instead, by a part of ``GET /path``.
        token: files ask for it in their query, unless it is None.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.seen: list[tuple[str, str]] = []
        self.faults: dict[str, list[int | str]] = {}
        self.token: str | None = None
        self.expiry = "2999-01-01T00:00:00Z"
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, part: str) -> int:
        """Requests whose path has this part."""
        return sum(part in path for _, path in self.seen)

    def fault(self, request: str) -> int | str | None:
        for part, answers in self.faults.items():
            if part in request and answers:
                return answers.pop(0)
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StacServer

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any] | None = None) -> None:
        server = self.server
        server.seen.append((self.command, self.path))
        match server.fault(f"{self.command} {self.path}"):
            case int(status):
                self._send(status, b"{}", Retry_After="1")
            case "reset":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            case "stall":
                server.released.wait(30)
                self.close_connection = True
            case "cut":
                self._send(200, b'{"features": [', length=1000)
                self.close_connection = True
            case _:
                self._serve(body)

    def _serve(self, body: dict[str, Any] | None) -> None:
        path, _, query = self.path.partition("?")
        server = self.server
        if path == "/search" and body is not None:
            self._send(200, json.dumps(_search(server, body)).encode())
        elif path.startswith("/token/"):
            answer = {"token": server.token, "msft:expiry": server.expiry}
            self._send(200, json.dumps(answer).encode())
        elif path.endswith(".tif") and server.token is not None and query != server.token:
            self._send(403, b"")
        elif not (file := server.root / path[1:]).is_file():
            self._send(404, b"")
        else:
            self._send_file(file.read_bytes())

    def _send_file(self, content: bytes) -> None:
        if part := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
            self._send(206, content[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(content)}")
        else:
            self._send(200, content, Accept_Ranges="bytes")

    def _send(self, status: int, content: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _search(server: StacServer, body: dict[str, Any]) -> dict[str, Any]:
    """One page; as in real APIs the interval is closed, and the box counts, not the footprint."""
    items = json.loads((server.root / "items.json").read_text())["features"]
    west, south, east, north = body["bbox"]
    start, end = body["datetime"].split("/")
    found = [
        item
        for item in items
        if item["collection"] in body["collections"]
        and start <= item["properties"]["datetime"] <= end
        and item["bbox"][0] <= east
        and item["bbox"][2] >= west
        and item["bbox"][1] <= north
        and item["bbox"][3] >= south
    ]
    first = int(body.get("token", 0))
    for item in found:
        for asset in item["assets"].values():
            asset["href"] = f"{server.url}/{asset['href'].removeprefix('./')}"
    page: dict[str, Any] = {"type": "FeatureCollection", "features": found[first : first + _PAGE], "links": []}
    if first + _PAGE < len(found):
        following = {**body, "token": str(first + _PAGE)}
        page["links"] = [{"rel": "next", "href": f"{server.url}/search", "method": "POST", "body": following}]
    return page


@contextmanager
def serving(root: Path) -> Iterator[StacServer]:
    """A running server on a free port."""
    server = StacServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
