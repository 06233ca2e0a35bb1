"""Hands the events of rank 0 to trackers, from a thread of its own: none of them delays or ends training."""

from __future__ import annotations

import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from ptm_dist.trackers.base import Event, Tracker, TrackerSettings

if TYPE_CHECKING:
    from ptm_dist.run import RunFolder

MOST_WAITING: Final = 10_000
"""Events that wait for slow trackers; beyond that they are dropped."""
CLOSING_SECONDS: Final = 30.0


def without_secrets(text: str) -> str:
    """Return the start of a text, with what the environment holds of keys and passwords blotted out."""
    secrets = {value for name, value in os.environ.items() if name.startswith(("WANDB_", "MLFLOW_")) and re.search("KEY|PASS|TOKEN", name)}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return " ".join(text.split())[:200]


def to_standard_error(line: str) -> None:
    """Print a line into the log of the rank."""
    print(line, file=sys.stderr, flush=True)


class Sink:
    """The trackers of a run. One that fails is closed and reported once; the others go on."""

    def __init__(self, settings: Sequence[TrackerSettings], run: RunFolder, report: Callable[[str], object] = to_standard_error) -> None:
        """Open all trackers; `report` hears, from another thread, a line about each that fails.

        Raises:
            ConfigError: a package is missing.

        """
        self._trackers = [one.open(run) for one in settings]
        self._report = report
        self._waiting: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self._dropped = False
        self._thread = threading.Thread(target=self._work, name="trackers", daemon=True)
        if self._trackers:
            self._thread.start()

    def observe(self, event: Event) -> None:
        """See an event; returns at once."""
        if self._trackers and not self._dropped:
            try:
                self._waiting.put_nowait(event)
            except queue.Full:
                # Gaps would look like figures of a run that stood still, so it ends here for this attempt.
                self._dropped = True
                self._say(f"trackers: {MOST_WAITING:,} events wait for them; they are told nothing more of this attempt")

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Let trackers finish what waits, for so many seconds."""
        if not self._thread.is_alive():
            return
        deadline = time.monotonic() + seconds
        with suppress(queue.Full):
            self._waiting.put(None, timeout=seconds)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._say(f"trackers: not done after {seconds:.0f} s; what they had not sent may be missing")

    def _work(self) -> None:
        while self._trackers and (event := self._waiting.get()) is not None:
            for tracker in list(self._trackers):
                self._try(tracker, partial(tracker.observe, event))
        for tracker in list(self._trackers):
            self._try(tracker, tracker.close)

    def _try(self, tracker: Tracker, action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:  # Libraries end processes, too; this is the thread of nobody else.
            self._trackers.remove(tracker)
            self._say(f"tracker {tracker.kind} is told nothing more of this attempt: {type(error).__name__}: {without_secrets(str(error))}")
            with suppress(BaseException):
                tracker.close()

    def _say(self, line: str) -> None:
        with suppress(Exception):
            self._report(line)
