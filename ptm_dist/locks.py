"""Locks of a run directory that the kernel frees when their process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptm_dist.errors import RunOwnedError
from ptm_dist.store import explain_disk_errors


@contextmanager
def locked(directory: Path, role: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock `role` of a directory.

    Raises:
        RunOwnedError: another process holds it for longer than `wait_seconds`.

    """
    with explain_disk_errors(directory), (directory / f".{role}.lock").open("a+") as file:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(file.fileno()):
            if time.monotonic() >= deadline:
                file.seek(0)
                owner = file.read() or "unknown"
                raise RunOwnedError(f"{directory} is in use by process {owner.strip()}. Wait for it, stop it, or choose another --run.")
            time.sleep(0.2)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
