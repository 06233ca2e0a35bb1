"""One attempt: its workers are started, what they report is followed, and signals become requests."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ptm_dist.driver.launchers import Launcher
from ptm_dist.events import Tail, read_events
from ptm_dist.placed import Placed
from ptm_dist.run import RunFolder

EventHandler = Callable[[dict[str, Any]], None]
LOOK_SECONDS: Final = 2.0
"""How often the driver looks at the cluster while workers train."""


def follow(run: RunFolder, launcher: Launcher, placed: Placed, on_event: EventHandler, look: Callable[[], None]) -> None:
    """Start an attempt and wait for its end; `on_event` sees every event of its workers as it happens, `look` is called now and then.

    Raises:
        PtmError: why the attempt ended before the last step.

    """
    failures: list[BaseException] = []
    start = run.events_path.stat().st_size if run.events_path.exists() else 0
    thread = threading.Thread(target=_guarded, args=(launcher, run, placed, failures), daemon=True)
    tail, looked_at = Tail(run.events_path, start), time.monotonic()
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
        for event in tail.read():
            on_event(event)
        if time.monotonic() - looked_at >= LOOK_SECONDS:
            look()
            looked_at = time.monotonic()
    for event in tail.read():
        on_event(event)
    if failures:
        raise failures[0]


def _guarded(launcher: Launcher, run: RunFolder, placed: Placed, failures: list[BaseException]) -> None:
    try:
        launcher.launch(run, placed)
    except BaseException as error:
        failures.append(error)


@contextmanager
def stopping_on_signals(run: RunFolder) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a request to finish the step and save; a second Ctrl-C ends this process at once.

    A second SIGTERM does not: it comes from a place that wants its machine back, and saving is what is left to do until it kills.
    """
    handler = _request_stop(run)
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _request_stop(run: RunFolder) -> Callable[[int, Any], None]:
    asked = 0

    def handle(number: int, _: Any) -> None:
        nonlocal asked
        if number == signal.SIGTERM and asked:
            return
        asked += 1
        if asked == 1:
            run.ask_to_stop("user")
            print("\nfinishing the step and saving; once more stops at once, without saving", file=sys.stderr, flush=True)
            return
        last = max((event["step"] for event in read_events(run.events_path, "checkpoint_saved")), default=0)
        print(f"\nexit 11: stopped at once; the same command goes on from step {last:,}", file=sys.stderr, flush=True)
        # Workers and a local Ray end with this process: the kernel sees to it.
        os._exit(11)

    return handle
