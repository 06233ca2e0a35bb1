"""What every tracker is: settings in the recipe, and something that follows the events of rank 0.

All attempts of a run are one run to a tracker. The axis is updates done, as everywhere a person reads it: the event of step 0 stands at 1,
and a checkpoint of n updates keeps all that stands at n or before. What a crash threw away is done again: `begin` of a tracker either makes
it forget what stands after `start`, or sets `reached`, so that what it was told first stays. Nothing is there twice.
"""

from __future__ import annotations

import abc
import importlib
import math
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.changes import Change
from ptm_dist.errors import ConfigError
from ptm_dist.events import by_source, read_events
from ptm_dist.store import read_json, write_json

if TYPE_CHECKING:
    from ptm_dist.run import RunFolder

Event = dict[str, Any]

KINDS: Final = ("step", "evaluated", "probed", "checkpoint_saved")
"""Events with figures."""


class TrackerSettings(BaseModel, abc.ABC):
    """What all trackers have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
    change: ClassVar[Change] = "allowed"

    every_steps: Annotated[int, Field(gt=0)] = 10
    """Of each task, one step in so many is told; held-out figures and checkpoints all are."""

    @abc.abstractmethod
    def open(self, run: RunFolder) -> Tracker:
        """Return what follows the events of an attempt; nothing is sent before the attempt has started.

        Raises:
            ConfigError: a package is missing.

        """


class Tracker(abc.ABC):
    """Follows one attempt of a run."""

    kind: ClassVar[str]

    def __init__(self, run: RunFolder, every_steps: int) -> None:
        self.run = run
        self.succeeded = False
        """Has the attempt come to the end of the run?"""
        self._every_steps = every_steps
        self._told: dict[str, int] = {}
        self.reached: dict[str, int] = {}
        """Up to how many updates each kind of event has been told, and is passed over when it comes again."""
        self._total = -1

    def observe(self, event: Event) -> None:
        """Take from an event what is of interest; whatever goes wrong is raised."""
        match event["event"]:
            case "attempt_started":
                self._total = event["total_steps"]
                self.begin(event["attempt"], event["step"])
            case "attempt_finished":
                self.succeeded = True
            case kind if kind in KINDS:
                self._tell(event)
                if kind == "checkpoint_saved":
                    self.flush()

    def _tell(self, event: Event) -> None:
        kind, done = event["event"], done_at(event)
        if done > self.reached.get(kind, -1) and (kind != "step" or self._is_due(event["task"], done)):
            self.write(done, scalars(event), event["time"])

    def tell_again(self, attempt: int, after: int, until: int) -> None:
        """Tell what the event log knows of earlier attempts between two numbers of updates, the last word on each."""
        last: dict[Any, Event] = {}
        for event in read_events(self.run.events_path, *KINDS):
            done = done_at(event)
            if event["attempt"] < attempt and after < done <= until:
                # Only what is due is held in memory: the first step of a stretch, as it was done last.
                stretch = done // self._every_steps if event["event"] == "step" else done
                key = event["event"], event.get("task"), event.get("objective"), event.get("probe"), stretch
                if key not in last or done <= done_at(last[key]):
                    last[key] = event
        for event in sorted(last.values(), key=done_at):
            self._tell(event)

    def _is_due(self, task: str, done: int) -> bool:
        """Return whether to tell a step: the first of its task in each stretch of `every_steps`, and the last of all."""
        stretch = done // self._every_steps
        due = self._told.get(task) != stretch or done == self._total
        self._told[task] = stretch
        return due

    @abc.abstractmethod
    def begin(self, attempt: int, start: int) -> None:
        """Open the run, or go on with it after `start` updates."""

    @abc.abstractmethod
    def write(self, done: int, values: Mapping[str, float], time: float) -> None:
        """Tell figures after `done` updates, at a time in seconds since 1970."""

    def flush(self) -> None:  # noqa: B027  Most have nothing to do.
        """Bring what was told to where a crash of this process does not reach it; steps before a checkpoint never come again."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the attempt."""


def done_at(event: Event) -> int:
    """Return how many updates were done when an event happened."""
    return event["step"] + (event["event"] == "step")


def reached(run: RunFolder, attempt: int) -> dict[str, int]:
    """Return the most updates that each kind of event of earlier attempts stands at."""
    found: dict[str, int] = {}
    for event in read_events(run.events_path, *KINDS):
        if event["attempt"] < attempt:
            found[event["event"]] = max(done_at(event), found.get(event["event"], -1))
    return found


def scalars(event: Event) -> dict[str, float]:
    """Return the figures of an event by name; what is not finite is left out, since few trackers can hold it."""
    found: dict[str, Any] = {}
    match event["event"]:
        case "step":
            found = {f"loss/{event['task']}": event["loss"]}
            if len(event["losses"]) > 1:
                found |= {f"loss/{event['task']}/{kind}": mean for kind, mean in event["losses"].items()}
            found |= {f"train/{name}": event.get(name) for name in ("learning_rate", "gradient_norm", "loss_scale", "seconds")}
            found["train/tokens_per_second"] = event["tokens"] / event["seconds"] if event["seconds"] else None
        case "evaluated":
            for told in by_source(event):
                place = "/".join(part for part in ("held_out", told["task"], told["objective"], told["source"]) if part)
                found |= {f"{place}/{name}": told.get(name) for name in ("loss", "accuracy", "unigram_entropy", "baseline_loss")}
        case "probed":
            found = {f"probe/{event['probe']}/{name}": event.get(name) for name in ("accuracy", "loss", "baseline_accuracy")}
        case "checkpoint_saved":
            found = {f"checkpoint/{name}": event[name] for name in ("seconds", "bytes")}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def settings_of(run: RunFolder) -> dict[str, Any]:
    """Return what a tracker is told of the recipe: not where texts and weights come from, since a URL may hold a secret."""
    recipe = run.recipe()
    probes = {"downstream": {"__all__": {"sources"}}}
    kept = recipe.model_dump(mode="json", exclude={"sources": True, "init": True, "metrics": True, "evaluate": probes})
    return kept | {"digest": recipe.digest}


def noted(run: RunFolder, place: str) -> dict[str, Any]:
    """Return what is kept in RUN/trackers.json about this run at a tracker, which all attempts share; empty in a new run."""
    path = run.path / "trackers.json"
    return (read_json(path) if path.exists() else {}).get(place, {})


def note(run: RunFolder, place: str, **known: Any) -> None:
    """Keep something about this run at a tracker."""
    path = run.path / "trackers.json"
    everything = read_json(path) if path.exists() else {}
    write_json(path, everything | {place: everything.get(place, {}) | known})


def imported(package: str, kind: str) -> ModuleType:
    """Import a package that only a tracker needs.

    Raises:
        ConfigError: it is not installed.

    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"metrics.trackers: kind {kind} needs the package {package.partition('.')[0]}, which cannot be imported ({error}). "
            'Install what trackers need: pip install "ptm_dist[trackers]"'
        ) from error
