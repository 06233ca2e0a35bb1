"""The connection to Ray's Jobs API: the token, and its failures told in one line."""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ptm_dist.errors import ConfigError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

REACH_SECONDS: Final = 10.0
READY_SECONDS: Final = 60.0
_TALKATIVE: Final = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
"""What tells of every upload and closed connection."""
_FAILURE: Final = re.compile(r"[\w.]*(Error|Exception): ")
_OVERRIDES: Final = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


def client_of(address: str, token_file: str | None) -> JobSubmissionClient:
    """Return a client of the Jobs API at `address`.

    Raises:
        ConfigError: it cannot be reached, or refuses the token.

    """
    token = read_token(token_file) if token_file else None
    _require_reachable(address)
    from ray.job_submission import JobSubmissionClient

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    headers = {"authorization": f"Bearer {token}"} if token else None
    with explained(address, token_file), _without_overrides():
        return JobSubmissionClient(address, headers=headers)


def submitted(client: JobSubmissionClient, **job: Any) -> str:
    """Submit a job whose driver takes no CPU from the workers and return its id; a head that has just started is waited for."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return client.submit_job(entrypoint_num_cpus=0, **job)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def read_token(token_file: str) -> str:
    """Return the token in a file that nobody else may read.

    Raises:
        ConfigError: it is not there, others may read it, or it holds no token.

    """
    path = Path(token_file).expanduser()
    try:
        about = path.stat()
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token_file: {path}: cannot be read ({getattr(error, 'strerror', None) or 'not ASCII'}).") from error
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise ConfigError(f"token_file: {path}: others may read it (mode {stat.S_IMODE(about.st_mode):04o}). Run: chmod 600 {path}")
    if not token or len(token.split()) != 1:
        raise ConfigError(f"token_file: {path}: holds no token; it is one word.")
    return token


@contextmanager
def explained(address: str, token_file: str | None, job_id: str = "") -> Iterator[None]:
    """Turn what Ray's client raises into an error that says what to do; never with the token in it."""
    from ray.exceptions import AuthenticationError
    from requests.exceptions import RequestException

    try:
        yield
    except AuthenticationError as error:
        # Ray finds a token of another cluster in the home by itself; who named none is told that one is asked for.
        told = "refuses the token" if token_file and "Missing" not in str(error) else "asks for a token"
        advice = f"{token_file} does not hold the one of this cluster" if token_file else "name its file as token_file"
        raise ConfigError(f"address: {address} {told}; {advice}.") from None
    except RuntimeError as error:
        if job_id and "status code 404" in str(error):
            raise ConfigError(f"{job_id}: {address} knows no such job. ptm job ls shows what there is.") from error
        raise ConfigError(f"address: {address} refuses: {_first_line(error)}") from error
    except (RequestException, ConnectionError, OSError) as error:
        raise ConfigError(f"address: {address} does not answer ({_first_line(error)}).") from error


def _first_line(error: Exception) -> str:
    """Return what a server said, which may come wrapped in the traceback of its own failure."""
    lines = [line.strip() for line in str(error).replace("\\n", "\n").splitlines()]
    told = [line.partition(": ")[2] for line in lines if _FAILURE.match(line)]
    return (told[-1] if told else next(iter(lines), type(error).__name__))[:300]


def _require_reachable(address: str) -> None:
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), REACH_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"address: {address} does not answer ({error.strerror or error}). Is the head running, and the tunnel to it open?"
        ) from error


@contextmanager
def _without_overrides() -> Iterator[None]:
    """Hide the variables by which Ray would go elsewhere than the cluster file says."""
    hidden = {name: os.environ.pop(name) for name in _OVERRIDES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
