"""The HTTP side: a thread per connection, kept alive."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.emulator.faults import Conduct, Fault
from tests.emulator.replies import Reply, in_json, refusal
from tests.emulator.scenes import Catalogue
from tests.emulator.service import Service, kind_of

CONTROL = "/__ctl"


class Server(ThreadingHTTPServer):
    """The emulator on a port of the loopback interface; 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, catalogue: Catalogue, port: int, conduct: Conduct) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.conduct = conduct
        self.service = Service(catalogue, self.url)

    def handle_error(self, request: object, client_address: object) -> None:
        """Report what is not a client that left."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *_: object) -> None:
        """Say nothing: the counters tell."""

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == CONTROL:
            self._send(self._control(body))
            return
        began, kind, conduct = time.monotonic(), kind_of(path), self.server.conduct
        event = conduct.enter(kind, self.client_address[1], self._told(body))
        try:
            reply = self._reply(event, path, body)
            if not isinstance(event, Reply):
                conduct.wait(kind, began)
        finally:
            conduct.leave(kind)
        self._send(reply, event if isinstance(event, Fault) else None)

    def _control(self, body: bytes) -> Reply:
        try:
            self.server.conduct.obey(json.loads(body or b"{}"))
        except ValueError as error:
            return refusal(400, str(error))
        return in_json(self.server.conduct.counters())

    def _told(self, body: bytes) -> Mapping[str, str | None]:
        """What the request says of its sender."""
        try:
            tag = json.loads(body).get("workloadTag") if body else None
        except ValueError:
            tag = None
        return {
            "project": self.headers.get("x-goog-user-project"),
            "authorization": self.headers.get("authorization"),
            "workload_tag": tag,
        }

    def _reply(self, event: Reply | Fault | None, path: str, body: bytes) -> Reply:
        if isinstance(event, Reply):
            return event
        if event is None:
            return self.server.service.reply(path, body)
        time.sleep(event.delay)
        if (error := event.reply()) is not None:
            return error
        answer = self.server.service.reply(path, body)
        return Reply(answer.status, answer.body, answer.content_type, event.headers)

    def _send(self, reply: Reply, fault: Fault | None = None) -> None:
        if fault is not None and fault.hang_up:
            self._hang_up()
            return
        try:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if fault is not None and fault.truncate:
                self.wfile.write(reply.body[: len(reply.body) // 2])
                self._hang_up()
            else:
                self.wfile.write(reply.body)
        except ConnectionError:  # the client did not wait
            self.close_connection = True

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):  # the client was faster
            self.connection.shutdown(socket.SHUT_RDWR)
