"""What the time of a run went into, by class. The classes add up to the wall time."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

Event = dict[str, Any]

CLASSES: Final = {
    "productive": "steps that count, without waiting for data",
    "data": "steps that count, waiting for data",
    "start": "from placing workers to their first step, without restoring",
    "restore": "reading checkpoints",
    "checkpoint": "writing checkpoints",
    "evaluation": "measuring on held-out text",
    "lost": "steps that were, or have to be, done again",
    "idle": "between attempts",
    "other": "the rest",
}

SPENT: Final = {
    "checkpoint_saved": "checkpoint",
    "checkpoint_failed": "checkpoint",
    "evaluation_finished": "evaluation",
}
"""Events whose `seconds` belong to a class."""

BETWEEN: Final = frozenset({"waiting_for_capacity", "restarting", "stepped_back", "nodes_checked", "prepared"})
"""What the driver says while no attempt runs."""

FINAL: Final = frozenset({"finished", "stopped"})
"""Causes after which nobody waits for another attempt: the clock stands still until there is one."""


@dataclass
class _Attempt:
    """When an attempt was what; None where nobody has said so."""

    first: float
    last: float
    placed: float | None = None
    started: float | None = None
    ended: float | None = None
    start_seconds: float | None = None
    restore_seconds: float = 0.0
    final: bool = False

    @property
    def begin(self) -> float:
        if self.placed is not None:
            return self.placed
        if self.started is not None:
            return min(self.first, self.started - self.restore_seconds - (self.start_seconds or 0.0))
        return self.first

    def starting(self, end: float) -> float:
        """Return how long it took, or has taken, from placing to the first step."""
        if self.started is None:
            return max(0.0, end - self.begin)
        if self.start_seconds is None:
            return max(0.0, self.started - self.begin - self.restore_seconds)
        return self.start_seconds


class Goodput:
    """Adds up the events of a run, those of workers and those of the driver, each in the order of its log."""

    def __init__(self) -> None:
        self._attempts: dict[int, _Attempt] = {}
        # The steps that count, always in order; three numbers each, because a run may have millions.
        self._steps, self._seconds, self._data = array("q"), array("d"), array("d")
        self._productive = self._waited = 0.0
        self._spent: dict[str, float] = dict.fromkeys(("checkpoint", "evaluation", "lost"), 0.0)

    def observe(self, event: Event) -> None:
        """Take one more event; kinds that say nothing of time are passed over."""
        kind = event.get("event")
        if kind == "step":
            self._step(event)
        elif kind in SPENT:
            self._spent[SPENT[kind]] += amount_of(event, "seconds")
        elif kind == "attempt_started":
            self._forget_from(int(event.get("step", 0)))
        self._date(event)

    def seconds(self, now: float) -> dict[str, float]:
        """Return the seconds of each class until `now`; of a run that nobody goes on with, until its end.

        Where the parts of the attempts come to more than the clock of the log allows, they are scaled down to it.
        """
        found = dict.fromkeys(CLASSES, 0.0) | self._spent
        found["productive"], found["data"] = max(0.0, self._productive), max(0.0, self._waited)
        if not self._attempts:
            return dict.fromkeys(CLASSES, 0.0)
        attempts = [self._attempts[number] for number in sorted(self._attempts)]
        last = attempts[-1]
        at = origin = attempts[0].begin
        until = max(origin, last.ended if last.ended is not None and last.final else now)
        idle = 0.0
        for attempt in attempts:
            begin = min(max(attempt.begin, at), until)
            idle += begin - at
            end = attempt.ended if attempt.ended is not None else until if attempt is last else attempt.last
            at = min(max(end, begin), until)
            found["start"] += attempt.starting(at)
            found["restore"] += attempt.restore_seconds
        idle += until - at
        free, spent = max(0.0, until - origin - idle), sum(found.values())
        if spent > free:
            found = {name: value * (free / spent) for name, value in found.items()}
        return found | {"idle": idle, "other": max(0.0, free - sum(found.values()))}

    def _step(self, event: Event) -> None:
        step = int(event["step"])
        self._forget_from(step)
        whole = amount_of(event, "seconds")
        data = min(whole, amount_of(event, "data_seconds"))
        self._steps.append(step)
        self._seconds.append(whole)
        self._data.append(data)
        self._productive += whole - data
        self._waited += data

    def _forget_from(self, step: int) -> None:
        """Steps from here on are done again: what they took is lost."""
        while self._steps and self._steps[-1] >= step:
            self._steps.pop()
            whole, data = self._seconds.pop(), self._data.pop()
            self._productive -= whole - data
            self._waited -= data
            self._spent["lost"] += whole

    def _date(self, event: Event) -> None:
        kind, number, time = event.get("event"), event.get("attempt"), amount_of(event, "time")
        if kind == "gave_up" and self._attempts:
            self._attempts[max(self._attempts)].final = True
        if not isinstance(number, int) or not time or kind in BETWEEN or kind == "gave_up":
            return
        attempt = self._attempts.setdefault(number, _Attempt(time, time))
        attempt.first, attempt.last = min(attempt.first, time), max(attempt.last, time)
        match kind:
            case "attempt_placed":
                attempt.placed = time
            case "attempt_started":
                attempt.started, attempt.restore_seconds = time, amount_of(event, "restore_seconds")
                attempt.start_seconds = amount_of(event, "start_seconds") if "start_seconds" in event else None
            case "attempt_finished":
                attempt.ended, attempt.final = max(time, attempt.ended or 0.0), True
            case "attempt_ended":
                attempt.ended, attempt.final = max(time, attempt.ended or 0.0), event.get("cause") in FINAL


def goodput(events: Iterable[Event], supervision: Iterable[Event], now: float) -> dict[str, float]:
    """Return the seconds of each class of CLASSES since the first attempt was placed.

    `events` are those of the workers, `supervision` those of the driver; runs of earlier versions have none of these, and fewer
    fields. For a run that has no driver any more, `now` is when its last event was written.
    """
    ledger = Goodput()
    for log in (events, supervision):
        for event in log:
            ledger.observe(event)
    return ledger.seconds(now)


def ratio(seconds: dict[str, float]) -> float | None:
    """Return the productive share of the wall time; None before there is any."""
    wall = sum(seconds.values())
    return seconds["productive"] / wall if wall > 0 else None


def amount_of(event: Event, name: str) -> float:
    """Return a field that is an amount; 0 where it is missing, undefined or below 0."""
    value = event.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0.0
