"""What the logs of a run have told so far: steps as columns, small enough for months of them, everything else as events.

A log is read as it grows, never twice. Steps that an attempt goes back over are taken out, so that what is left is the run as it counts.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ptm_dist.goodput import BETWEEN, Goodput

Event = dict[str, Any]

MOST_RANK_EVENTS: Final = 1024
"""Events of ranks that are kept; of more, every second one is let go."""
PLAIN: Final = ("time", "loss", "learning_rate", "gradient_norm", "tokens", "rows", "seconds", "data_seconds")


class Steps:
    """The steps that count, in order, as columns of numbers; what a step does not tell is NaN."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.task_numbers = array("h")
        self.tasks: list[str] = []
        self.plain = {name: array("d") for name in PLAIN}
        self.losses: dict[str, array[float]] = {}
        self.phases: dict[str, array[float]] = {}
        self.skipped = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, event: Event) -> None:
        """Add the next step."""
        task = str(event.get("task", ""))
        if task not in self.tasks:
            self.tasks.append(task)
        self.numbers.append(event["step"])
        self.task_numbers.append(self.tasks.index(task))
        self.skipped += bool(event.get("skipped"))
        _append(self.plain, event)
        _add_row(self.losses, event.get("losses") or {}, len(self))
        _add_row(self.phases, event.get("phases") or {}, len(self))

    def cut(self, step: int) -> int:
        """Take out the steps from `step` on; return how many they were."""
        first = bisect_left(self.numbers, step)
        count = len(self) - first
        for column in (self.numbers, self.task_numbers, *self.plain.values(), *self.losses.values(), *self.phases.values()):
            del column[first:]
        return count

    def column(self, name: str) -> np.ndarray:
        """Return a plain column, float64 [steps]."""
        return np.array(self.plain[name])

    def of_task(self, task: str) -> np.ndarray:
        """Return which steps are of a task, bool [steps]."""
        return np.array(self.task_numbers) == self.tasks.index(task)


def _add_row(table: dict[str, array[float]], values: Mapping[str, Any], length: int) -> None:
    for name in values.keys() - table.keys():
        table[name] = array("d", [math.nan] * (length - 1))
    _append(table, values)


def _append(table: dict[str, array[float]], values: Mapping[str, Any]) -> None:
    for name, column in table.items():
        try:
            column.append(values.get(name))  # pyright: ignore[reportArgumentType]
        except TypeError:
            column.append(math.nan)


@dataclass
class Heard:
    """What is known of one attempt."""

    first_at: float
    last_at: float
    first_step: int | None = None
    last_step: int | None = None
    """Updates done when it was last heard of."""
    told: dict[str, Event] = field(default_factory=dict)
    """The last event of each kind that is told once an attempt."""


RARE: Final = frozenset({"chosen", "code_changed", "nodes_checked", "stepped_back", "gave_up"})
ONCE: Final = frozenset({"attempt_started", "attempt_finished", "stopping", "attempt_placed", "attempt_ended"})


@dataclass
class Observed:
    """Everything that the two logs of a run have told."""

    steps: Steps = field(default_factory=Steps)
    attempts: dict[int, Heard] = field(default_factory=dict)
    evaluations: dict[tuple[int, str, str], Event] = field(default_factory=dict)
    """By step, task and objective."""
    probes: dict[tuple[int, str], Event] = field(default_factory=dict)
    """By step and name."""
    checkpoints: list[Event] = field(default_factory=list)
    ranks: list[Event] = field(default_factory=list)
    other: list[Event] = field(default_factory=list)
    """What was chosen, code that changed, nodes that were checked, and so on."""
    goodput: Goodput = field(default_factory=Goodput)
    lost_steps: int = 0
    begins: int = 0
    """Where the steps of the newest attempt begin in the columns."""

    def add(self, event: Event) -> None:
        """Take in an event of the workers or of the driver."""
        kind, number, at = event["event"], event.get("attempt"), event.get("time")
        if not isinstance(number, int) or not isinstance(at, int | float):
            return
        self.goodput.observe(event)
        if kind in RARE:
            self.other.append(event)
        if kind in BETWEEN or (kind == "gave_up" and number not in self.attempts):
            return
        heard = self.attempts.setdefault(number, Heard(at, at))
        heard.last_at = max(heard.last_at, at)
        heard.first_at = min(heard.first_at, at)
        if kind in ONCE:
            heard.told[kind] = event
        take = getattr(self, f"_on_{kind}", None)
        if take:
            take(event, heard)

    def _on_attempt_started(self, event: Event, heard: Heard) -> None:
        heard.first_step = heard.last_step = int(event.get("step") or 0)
        self._go_back(heard.first_step)
        self.begins = len(self.steps)

    def _on_step(self, event: Event, heard: Heard) -> None:
        if not isinstance(event.get("step"), int):
            return
        if len(self.steps) and event["step"] <= self.steps.numbers[-1]:
            self._go_back(event["step"])  # The line that says that an attempt started was torn.
            self.begins = min(self.begins, len(self.steps))
        self.steps.add(event)
        heard.first_step = event["step"] if heard.first_step is None else heard.first_step
        heard.last_step = event["step"] + 1

    def _go_back(self, step: int) -> None:
        self.lost_steps += self.steps.cut(step)
        self.evaluations = {key: told for key, told in self.evaluations.items() if key[0] <= step}
        self.probes = {key: told for key, told in self.probes.items() if key[0] <= step}
        self.checkpoints = [told for told in self.checkpoints if told.get("step", 0) <= step]

    def _on_evaluated(self, event: Event, heard: Heard) -> None:
        self.evaluations[event["step"], event["task"], event.get("objective", "")] = event

    def _on_probed(self, event: Event, heard: Heard) -> None:
        self.probes[event["step"], event["probe"]] = event

    def _on_checkpoint_saved(self, event: Event, heard: Heard) -> None:
        self.checkpoints.append(event)

    def _on_ranks(self, event: Event, heard: Heard) -> None:
        self.ranks.append(event)
        if len(self.ranks) > MOST_RANK_EVENTS:
            del self.ranks[1:-1:2]

    @property
    def newest(self) -> Heard | None:
        """The newest attempt."""
        return self.attempts[max(self.attempts)] if self.attempts else None

    @property
    def done(self) -> int:
        """Updates that count."""
        if len(self.steps):
            return self.steps.numbers[-1] + 1
        return max((heard.last_step for heard in self.attempts.values() if heard.last_step is not None), default=0)

    @property
    def gave_up(self) -> Event | None:
        """What the driver said when it gave up, if nothing came after it."""
        told = next((event for event in reversed(self.other) if event["event"] == "gave_up"), None)
        later = (heard.first_at for heard in self.attempts.values())
        return told if told and all(begun <= told["time"] for begun in later) else None

    def last_evaluations(self) -> dict[tuple[str, str], Event]:
        """Return the newest held-out figures of each task and objective."""
        return {key[1:]: event for key, event in self.evaluations.items()}
