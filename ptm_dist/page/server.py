"""The page of a run that goes on, served to this machine alone."""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final

from ptm_dist.errors import ConfigError
from ptm_dist.page.html import as_json, page, policy
from ptm_dist.page.run import data_of
from ptm_dist.watched import Watched

HOST: Final = "127.0.0.1"
THREADS: Final = 4
REST: Final = 4.0
"""After the page was made anew it stays for so many times what that took."""
SECONDS: Final = 10.0
"""How long one request may take to arrive."""


class News:
    """What the page shows now, made anew when the run has written something; numbered, so that a page asks for what it has not seen."""

    def __init__(self, run: Watched) -> None:
        self._run, self._lock, self._number, self._changed, self._rests_until = run, threading.Lock(), 0, True, 0.0
        self._look()

    def newest(self, seen: int = 0) -> dict[str, Any] | None:
        """Return number and data, or None where `seen` is the newest."""
        with self._lock:
            self._look()
            return None if seen == self._number else {"number": self._number, "data": self._shown}

    def _look(self) -> None:
        """Make the page anew if there is something new, and then rest: a long run must not keep a processor busy with being shown."""
        was_alive = self._run.alive
        self._changed |= self._run.refresh() or self._run.alive != was_alive
        began_at = time.monotonic()
        if self._changed and began_at >= self._rests_until:
            self._shown, self._changed, self._number = data_of(self._run), False, self._number + 1
            self._rests_until = time.monotonic() + REST * (time.monotonic() - began_at)


class _Server(HTTPServer):
    """Answers with a few threads, however many ask."""

    request_queue_size = 16

    def __init__(self, port: int, news: News, title: str) -> None:
        self.news, self.title = news, title
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="page")
        super().__init__((HOST, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._pool.submit(self._answer, request, client_address)

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # Whoever asked has gone.
        finally:
            self.shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = SECONDS

    def do_GET(self) -> None:
        """Answer with the page or with its data."""
        port = self.server.server_port
        if self.headers.get("Host") not in {f"{HOST}:{port}", f"localhost:{port}"}:
            # A name that leads here from a page of somebody else's.
            self._send(403, "text/plain", "ask for this page by its own address\n")
            return
        asked = urllib.parse.urlsplit(self.path)
        if asked.path == "/":
            self._send(200, "text/html", page(self.server.title, "run", self.server.news.newest(), live=True))
        elif asked.path == "/data.json":
            seen = urllib.parse.parse_qs(asked.query).get("seen", ["0"])[0]
            news = self.server.news.newest(int(seen) if seen.isdigit() else 0)
            self._send(204 if news is None else 200, "application/json", "" if news is None else as_json(news))
        else:
            self._send(404, "text/plain", "there is only /\n")

    def _send(self, code: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}
        headers |= {"Content-Security-Policy": f"{policy('run', live=True)}; frame-ancestors 'none'"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to whoever watches."""


@contextmanager
def serve(run: Watched, port: int = 0) -> Iterator[str]:
    """Serve the page of a run to this machine while the block runs; yield its URL. Port 0 takes a free one.

    Raises:
        ConfigError: the port is taken.

    """
    try:
        server = _Server(port, News(run), f"{run.recipe.name}: report")
    except OSError as error:
        raise ConfigError(
            f"--port {port}: cannot listen on {HOST} ({error.strerror or error}). Leave it out to take a free one."
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="page server", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
