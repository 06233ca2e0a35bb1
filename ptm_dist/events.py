"""The event log of a run: one JSON object a line, appended by one writer, read by progress, status, reports and tests."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ptm_dist.store import explain_disk_errors

PIECE_BYTES: Final = 1 << 24


class EventLog:
    """Appends events; each line reaches the kernel at once, so that a killed process loses none."""

    def __init__(self, path: Path, attempt: int) -> None:
        self.path = path
        self.attempt = attempt
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._end_torn_line()

    def write(self, event: str, **fields: Any) -> dict[str, Any]:
        """Append one event and return it. Floats are written so that reading gives the same bits."""
        record = {"event": event, "attempt": self.attempt, "time": round(time.time(), 3)} | fields
        with explain_disk_errors(self.path):
            os.write(self._descriptor, (json.dumps(record, ensure_ascii=False) + "\n").encode())
        return record

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _end_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")


class Tail:
    """Reads the lines that a growing log has gained; a line that is not whole yet is left for the next look."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self._offset = offset

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the events since the last look; a line torn by a crash is passed over."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            if file.seek(0, 2) < self._offset:
                self._offset = 0  # Another file in its place.
            file.seek(self._offset)
            rest = b""
            while piece := file.read(PIECE_BYTES):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._offset += len(line) + 1
                    event = _event_in(line)
                    if event is not None:
                        yield event


def _event_in(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def read_events(path: Path, *kinds: str) -> Iterator[dict[str, Any]]:
    """Yield the events of `kinds` (all if none is named); a line torn by a crash is passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and (not kinds or event.get("event") in kinds):
                yield event


def steps_of(path: Path) -> dict[int, dict[str, Any]]:
    """Return the last word on every step; steps that were repeated after a crash count once."""
    return {event["step"]: event for event in read_events(path, "step")}


def by_source(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what an `evaluated` event tells of all sources together, `source` "", and then of each that it knows by name."""
    whole = {name: value for name, value in event.items() if name != "sources"}
    yield whole | {"source": ""}
    for source, figures in event.get("sources", {}).items():
        yield whole | figures | {"source": source}


def probed(event: dict[str, Any]) -> str:
    """Return what a probe reaches as people read it, beside the share of the most frequent class."""
    return f"{event['accuracy']:.1%}, loss {event['loss']:.3f} (most frequent class {event['baseline_accuracy']:.1%})"


def reached(event: dict[str, Any], form: str) -> str:
    """Return the held-out loss and accuracy as people read them; of a value there is its squared error alone."""
    if event["accuracy"] is None:
        return f"{event['loss']:.4f} squared error"
    return f"{event['loss']:.4f} nats, accuracy {event['accuracy']:{form}}"
