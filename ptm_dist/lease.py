"""Who may write to a run: numbered leases, of which the highest counts. For hosts that share a file system but no kernel lock.

A lease is a file `lease/<number>.json` that is created exclusively, so that of several who want the next number one gets it. Its holder
renews it; whoever sees it unchanged for longer than it promises may take the next number. The number is a fencing token: every commit
checks that no higher one is there, so that a holder who was paused and comes back can no longer write.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ptm_dist.errors import DataUnavailableError, RunOwnedError, StorageError
from ptm_dist.kept import started_at
from ptm_dist.store import explain_disk_errors, read_json, write_json

LEASE_SECONDS: Final = 60.0
"""How long a lease holds without being renewed."""
_RENEWALS: Final = 4
"""Renewals in that time."""


@dataclass
class Lease:
    """The right to write to a run."""

    folder: Path
    number: int
    seconds: float
    _ended: threading.Event = field(default_factory=threading.Event)
    _beat: int = 0

    def require(self) -> None:
        """Make sure that nobody has taken over.

        Raises:
            RunOwnedError: somebody has.

        """
        require(self.folder, self.number)

    def renew(self) -> None:
        """Tell others that the holder lives."""
        self._beat += 1
        write_json(self.folder / _name(self.number), _about(self.seconds, self._beat))

    def _keep(self, on_loss: Callable[[], None]) -> None:
        while not self._ended.wait(self.seconds / _RENEWALS):
            if _newest(self.folder) != self.number:
                on_loss()
                return
            with suppress(StorageError):  # A full disk may have room at the next try.
                self.renew()


@contextmanager
def held(run: Path, seconds: float = LEASE_SECONDS, on_loss: Callable[[], None] = lambda: None) -> Iterator[Lease]:
    """Hold the lease of a run directory; one of this machine whose process has ended is taken over at once, others are watched first.

    `on_loss` is called, in a thread, when somebody else has taken over.

    Raises:
        RunOwnedError: somebody else holds it, or was faster.
        StorageError: the directory cannot be written.

    """
    folder = run / "lease"  # RunFolder.lease_path
    with explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    newest = _newest(folder)
    if newest:
        _require_ended(folder, newest)
    lease = Lease(folder, newest + 1, seconds)
    try:
        with explain_disk_errors(folder), (folder / _name(lease.number)).open("x", encoding="utf8") as file:
            json.dump(_about(seconds, 0), file)
    except FileExistsError as error:
        raise RunOwnedError(f"{run}: another process has just taken it. Wait for it, or choose another --run.") from error
    for number in _numbers(folder):
        if number < newest:
            (folder / _name(number)).unlink(missing_ok=True)
    keeper = threading.Thread(target=lease._keep, args=(on_loss,), name="lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease._ended.set()
        keeper.join()
        with suppress(StorageError):
            if _newest(folder) == lease.number:
                write_json(folder / _name(lease.number), _about(seconds, lease._beat) | {"ended": True})


def require(folder: Path, number: int) -> None:
    """Make sure that lease `number` still counts.

    Raises:
        RunOwnedError: there is a higher one.

    """
    newest = _newest(folder)
    if newest > number:
        holder = _read(folder / _name(newest))
        raise RunOwnedError(
            f"{folder.parent}: {_called(holder)} has taken it over (lease {newest}, this attempt holds {number}). Nothing more is written."
        )


def is_live(run: Path) -> bool:
    """Return whether somebody holds the lease of a run and has renewed it lately. Nothing is written to find out."""
    folder = run / "lease"
    path = folder / _name(_newest(folder))
    about = _read(path)
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return False
    return bool(about) and not about.get("ended") and not _is_gone(about) and age < float(about.get("seconds", LEASE_SECONDS))


def _require_ended(folder: Path, number: int) -> None:
    """Return once the holder of a lease has ended, has been silent for too long, or was never able to write."""
    path = folder / _name(number)
    first = _read(path)
    if first.get("ended") or _is_gone(first):
        return
    deadline = time.monotonic() + float(first.get("seconds", LEASE_SECONDS))
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = _read(path)
        if now.get("ended") or _is_gone(now):
            return
        if _newest(folder) != number or now.get("beat") != first.get("beat"):
            raise RunOwnedError(f"{folder.parent} is in use by {_called(now)}. Wait for it, stop it, or choose another --run.")


def _is_gone(about: dict[str, Any]) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
    return about.get("host") == socket.gethostname() and about.get("started") != started_at(int(about.get("pid", 0)))


def _about(seconds: float, beat: int) -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started_at(os.getpid()), "seconds": seconds, "beat": beat}


def _called(about: dict[str, Any]) -> str:
    return f"process {about.get('pid', 'unknown')} on {about.get('host', 'an unknown host')}"


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())


def _newest(folder: Path) -> int:
    return max(_numbers(folder), default=0)


def _read(path: Path) -> dict[str, Any]:
    """Return what a lease says; nothing where its maker has not written it yet."""
    try:
        return read_json(path)
    except DataUnavailableError:
        return {}
