"""`/metrics` on a port and threads of its own, which answer while the event loop is busy."""

import socket
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

SECONDS = 5.0  # that a client may be silent
MOST = 8  # connections at once, each of which is a thread; beyond them the oldest goes


class _Handler(WSGIRequestHandler):
    timeout = SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class _Server(ThreadingWSGIServer):
    """prometheus_client's, with bounds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._open: OrderedDict[socket.socket, None] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__(*args, **kwargs)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            if len(self._open) > MOST:
                oldest, _ = self._open.popitem(last=False)
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread reads the end, and closes it
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left, or came too late."""


class _ServerV6(_Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" is every address, IPv4's as well
        super().server_bind()


def start_metrics_server(port: int, host: str, registry: CollectorRegistry) -> WSGIServer:
    """Serve `registry` on `host` and `port`, where 0 is a free one. Raises OSError or UnicodeError if it cannot."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    kind = _ServerV6 if family == socket.AF_INET6 else _Server
    server = make_server(str(address[0]), port, _with_head(make_wsgi_app(registry)), kind, _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _with_head(app: WSGIApplication) -> WSGIApplication:
    """HEAD is a GET that keeps its body to itself (RFC 9110, section 9.3.2)."""

    def answer(asked: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if asked["REQUEST_METHOD"] != "HEAD":
            return list(app(asked, start_response))
        started: list[Any] = []
        body = b"".join(app({**asked, "REQUEST_METHOD": "GET"}, lambda *given: started.append(given)))  # type: ignore[arg-type]
        status, headers = started[0]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return []

    return answer
