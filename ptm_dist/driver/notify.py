"""Tells people that a run started, restarted, finished or gave up, by posting to an address that nobody but them may see.

Messages leave from a thread of their own, so that a slow or dead receiver neither delays nor fails a run. The address and the secret
that signs are in a file; neither is ever part of a log, an event, an exception or a repr.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import stat
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ptm_dist.driver.messages import SIGNED, Address, Event, remember, request_of, text_of, verdict_of, what_of
from ptm_dist.errors import ConfigError
from ptm_dist.terms import Notify

Refused = Callable[[str], None]

TIMEOUT_SECONDS: Final = 10.0
"""For connecting, and for each wait for more of an answer."""
MOST_TRIES: Final = 6
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
"""Between tries; doubled each time, up to the second."""
MOST_WAITING: Final = 32
"""Messages that wait to be posted; beyond that the oldest gives way."""
LARGEST_BYTES: Final = 4096
"""Of an address file, and of what is read of an answer."""


def read_address(notify: Notify) -> Address:
    """Read the address of a receiver, and on a second line the secret that signs, if it has one.

    Raises:
        ConfigError: the file cannot be read, others may read it, or it holds no address; what it holds is not told.

    """
    path = Path(notify.url_file).expanduser()
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"notify.url_file: {path} cannot be read ({error.strerror}). Write the address into it, and chmod 600.") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigError(
            f"notify.url_file: {path} can be read or written by everybody, and the address in it is a secret. chmod 600 {path} "
            "(a mounted Kubernetes Secret: defaultMode: 0440)."
        )
    try:
        lines = [line.strip() for line in data.decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError:
        lines = []
    if len(data) > LARGEST_BYTES or not 1 <= len(lines) <= 2:
        raise ConfigError(
            f"notify.url_file: {path}: write the address on one line, and on a second the secret that signs, if there is one."
        )
    if len(lines) == 2 and notify.kind not in SIGNED:
        raise ConfigError(f"notify.url_file: {path}: messages of kind {notify.kind} are not signed; remove the second line.")
    problem = _problem(lines[0])
    if problem:
        raise ConfigError(f"notify.url_file: {path}: the address {problem}.")
    return Address(*lines)


def _problem(url: str) -> str:
    """Return what is wrong with an address, in words that do not repeat it; "" if nothing is."""
    try:
        split = urlsplit(url)
        host, _ = split.hostname, split.port
    except ValueError:
        return "is none"
    if split.scheme not in {"http", "https"} or not host:
        return "must begin with https:// and name a host"
    if not url.isprintable() or " " in url:
        return "holds a space or a control character"
    if split.username or split.password:
        return "names a user; give a token in its path or query instead"
    if split.scheme == "http" and not _is_loopback(host):
        return "must begin with https://; http:// is for this machine only"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Notifier:
    """Tells one receiver about one run."""

    def __init__(self, notify: Notify, run_name: str, refused: Refused | None = None) -> None:
        """Read the address and get ready; nothing is posted yet.

        `run_name` is what commands on the run take, so that a message can say where to look. `refused` hears, from another thread, one
        line for each message that could not be delivered; by default it goes to standard error.

        Raises:
            ConfigError: there is no usable address.

        """
        self._kind, self._run = notify.kind, run_name
        self._address = read_address(notify)
        self._refused = refused or _to_standard_error
        self._known: Event = {}
        self._waiting: deque[tuple[str, Event]] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"notify-{self._kind}", daemon=True)
        self._thread.start()

    def tell(self, event: Event) -> None:
        """See an event of the driver or of the workers, and post a message if it is one that people want to hear of; returns at once."""
        try:
            what = what_of(event, self._known)
            remember(event, self._known)
            text = what and text_of(self._run, what, event, self._known)
        except Exception as error:  # An event of a form that nobody expects is no reason to end a run.
            self._say(f"{event.get('event')}: no message could be made of it ({type(error).__name__})")
            return
        if text:
            with self._changed:
                self._waiting.append((text, dict(event)))
                self._changed.notify()

    def close(self, seconds: float) -> None:
        """Give what still waits so many seconds to leave; the rest is dropped, and said to be."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
        if left and self._thread.is_alive():
            self._say(f"{left} messages were not posted before the end of the driver")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if not self._waiting:
                    return
                text, event = self._waiting[0]
            # It stays in the queue until it has left, so that `close` counts it.
            reason = self._deliver(text, event)
            with self._changed:
                if self._waiting and self._waiting[0][1] is event:
                    self._waiting.popleft()
            if reason:
                self._say(f"{event.get('event')} of attempt {event.get('attempt')} was not posted: {reason}")

    def _deliver(self, text: str, event: Event) -> str:
        """Post a message, again if that may help; return why it could not be delivered, "" if it was."""
        wait, tries, reason, again = FIRST_WAIT_SECONDS, 0, "", True
        while again and tries < MOST_TRIES:
            if tries:
                # Closing cuts a long wait short, and those that follow.
                _ = time.sleep(min(wait, 1.0)) if self._closing.is_set() else self._closing.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            tries += 1
            try:
                url, body = request_of(self._kind, self._address, text, event | {"run": self._run})
                reason, again = _post(self._kind, url, body)
            except Exception as error:  # Whatever happens here must not reach the run; its text may hold the address.
                reason, again = type(error).__name__, False
        return f"{self._address.hidden(reason)} (tried {tries} times)" if reason else ""

    def _say(self, line: str) -> None:
        with suppress(Exception):  # A log that cannot be written is no reason to end the thread.
            self._refused(f"notify {self._kind}: {line}")


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _opener() -> urllib.request.OpenerDirector:
    """Return what posts over HTTP and does nothing else: a redirect would take the message to somebody whom nobody named."""
    opener = urllib.request.OpenerDirector()
    request = urllib.request
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _post(kind: str, url: str, body: Any) -> tuple[str, bool]:
    """Post once; return why the receiver did not take it ("" if it did), and whether another try may help."""
    data = json.dumps(body, ensure_ascii=False, default=str).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json; charset=utf-8"}, method="POST")  # noqa: S310  checked
    try:
        with _opener().open(request, timeout=TIMEOUT_SECONDS) as answer:
            return verdict_of(kind, answer.read(LARGEST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP {error.code}", error.code >= 500 or error.code in {408, 429}
    except urllib.error.URLError as error:
        return getattr(error.reason, "strerror", None) or type(error.reason).__name__, True
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, not isinstance(error, http.client.InvalidURL)
