"""A small HTTP server for pages that are made when they are asked for: GET only, a few requests at a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

Page = Callable[[], tuple[str, bytes] | None]
"""Returns the content type and the body; None while there is nothing to tell."""

MOST_AT_ONCE: Final = 8
"""Requests that are answered at the same time; more wait in the queue of the socket, so that no crowd of them slows training down."""
PATIENCE_SECONDS: Final = 5.0
"""How long a client may take to say what it wants, and to take the answer."""


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_SECONDS
    server_version, sys_version = "ptm", ""
    pages: ClassVar[Mapping[str, Page]] = {}

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", f"here are {', '.join(self.pages)}\n".encode())
        elif (made := page()) is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"try again\n")
        else:
            self._answer(HTTPStatus.OK, *made)

    def _refuse(self) -> None:
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET only\n")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing: a scrape is no event of the run."""


class PageServer(ThreadingHTTPServer):
    """Serves pages from threads until it is closed.

    Raises:
        OSError: the port is taken or the interface does not exist.

    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, pages: Mapping[str, Page], host: str, port: int) -> None:
        self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(address[:2], type("Handler", (_Handler,), {"pages": dict(pages)}))  # type: ignore[arg-type]
        threading.Thread(target=self.serve_forever, args=(0.1,), name="metrics", daemon=True).start()

    def url(self, path: str) -> str:
        """Return the address of a page."""
        host, port = self.server_address[:2]
        host = str(host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, as the base class does: that may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer from a thread, as soon as one of the few is free."""
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and let the next one in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""
