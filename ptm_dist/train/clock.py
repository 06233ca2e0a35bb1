"""Where the seconds of a step go on one rank, and what ends a rank that no longer gets anywhere."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

import torch

PHASES: Final[tuple[str, ...]] = ("data", "forward", "backward", "optimizer", "communication")
"""Reductions of gradients run inside the backward pass and the optimizer, and count there; communication is what the loop itself asks of
all ranks."""


class Clock:
    """Adds up the seconds of each phase. On a GPU they are those of its own queue of work, read when the step has ended."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._marks: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count the block as `phase`."""
        if self._on_gpu and phase != "communication":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._marks.append((phase, begin, end))
            return
        started_at = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - started_at

    def add(self, phase: str, seconds: float) -> None:
        """Count seconds that somebody else has measured."""
        self._seconds[phase] += seconds

    def take(self) -> dict[str, float]:
        """Return what was counted since the last call."""
        for phase, begin, end in self._marks:
            end.synchronize()
            self._seconds[phase] += begin.elapsed_time(end) / 1000
        taken = {phase: round(seconds, 6) for phase, seconds in self._seconds.items()}
        self._seconds, self._marks = dict.fromkeys(PHASES, 0.0), []
        return taken


class Watchdog:
    """Ends the process when nothing has happened for too long, after writing the stacks of all its threads to a file.

    A rank that waits for a hung peer is as stuck as the peer, so every rank that still lives leaves its stacks. faulthandler counts in a
    thread without the interpreter's lock: a rank that holds it is ended too.
    """

    def __init__(self, stacks: Path, seconds: float) -> None:
        self._path, self._seconds = stacks, seconds
        self._file: TextIO | None = None

    def feed(self) -> None:
        """Say that this rank gets on; its time starts anew."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf8")
        faulthandler.dump_traceback_later(self._seconds, file=self._file, exit=True)

    def close(self) -> None:
        """Stop watching; a file without stacks goes."""
        faulthandler.cancel_dump_traceback_later()
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
