"""Runs beside each other: figures at the last point that all have reached, and curves on the same axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ptm_dist.cost import forward_flops
from ptm_dist.errors import ConfigError
from ptm_dist.observed import Event
from ptm_dist.page.curves import numbers, smoothed, thinned
from ptm_dist.page.html import page
from ptm_dist.recipe_io import flatten
from ptm_dist.status import LOSS_STEPS
from ptm_dist.train.module import outline
from ptm_dist.watched import Watched

AXES: Final = ("steps", "tokens", "seconds", "flops")
MOST_POINTS: Final = 1000
SLACK: Final = 0.01
"""A measurement counts that was done so little later: equal tokens are seldom reached at the same step."""
BACKWARD: Final = 3
"""Training takes three times the arithmetic of a forward."""


@dataclass(frozen=True)
class Course:
    """How far a run had come after each of its steps, by every measure, float64 [steps]."""

    run: Watched
    name: str
    reached: dict[str, np.ndarray]

    def place(self, axis: str, value: float) -> int:
        """Return the last step that is not beyond a value of an axis; the first one if all are."""
        return max(0, int(np.searchsorted(self.reached[axis], value, side="right")) - 1)

    def at_step(self, axis: str, done: int) -> float:
        """Return where on an axis the run was when `done` updates were done."""
        before = int(np.searchsorted(self.reached["steps"], done, side="right"))
        return float(self.reached[axis][before - 1]) if before else 0.0


@dataclass(frozen=True)
class Comparison:
    """Figures of runs: a column each."""

    heading: list[str]
    lines: list[list[str]]


def courses(runs: Sequence[Watched]) -> list[Course]:
    """Return the courses of runs.

    Raises:
        ConfigError: a run has not done a step.

    """
    for run in runs:
        if not len(run.observed.steps):
            raise ConfigError(f"{run.folder.path}: no step was done yet, so there is nothing to compare.")
    names = [run.folder.path.resolve().name for run in runs]
    told = names if len(set(names)) == len(names) else [str(run.folder.path) for run in runs]
    return [Course(run, name, _reached(run)) for run, name in zip(runs, told, strict=True)]


def _reached(run: Watched) -> dict[str, np.ndarray]:
    steps = run.observed.steps
    tokens, seconds, rows = (np.nancumsum(steps.column(name)) for name in ("tokens", "seconds", "rows"))
    each = np.diff(rows, prepend=0.0)
    flops = np.cumsum(_flops_per_row(run)[np.array(steps.task_numbers)] * each)
    return {"steps": np.array(steps.numbers, dtype=float) + 1, "tokens": tokens, "seconds": seconds, "flops": flops}


def _flops_per_row(run: Watched) -> np.ndarray:
    """Return the FLOPs of training on a full row of each task; NaN where they are not known."""
    model, tasks = outline(run.recipe), run.observed.steps.tasks
    known = [task if model is not None and task in run.recipe.tasks else None for task in tasks]
    return np.array([math.nan if model is None or task is None else BACKWARD * forward_flops(run.recipe, model, task) for task in known])


def common_point(found: Sequence[Course], axis: str) -> float:
    """Return the last value of an axis that all runs have reached.

    Raises:
        ConfigError: it is not known of one of them.

    """
    for course in found:
        if not np.isfinite(course.reached[axis][-1]):
            raise ConfigError(f"--at {axis}: not known of {course.run.folder.path}. Compare --at steps, tokens or seconds.")
    return min(float(course.reached[axis][-1]) for course in found)


def compared(runs: Sequence[Watched], axis: str) -> Comparison:
    """Return the figures of runs at the last common point of an axis.

    Raises:
        ConfigError: a run has not done a step, or its FLOPs are not known.

    """
    found = courses(runs)
    point = common_point(found, axis)
    places = [course.place(axis, point) for course in found]
    pairs = list(zip(found, places, strict=True))
    lines = [[name, *(_told(course.reached[name][place]) for course, place in pairs)] for name in AXES]
    tasks = dict.fromkeys(task for course in found for task in course.run.plan.objectives)
    for task in tasks:
        lines.append([f"training loss, {task}", *(_training_loss(course, task, place) for course, place in pairs)])
    objectives = dict.fromkeys((task, kind) for course in found for task, kinds in course.run.plan.objectives.items() for kind in kinds)
    several = {task for task in tasks if sum(pair[0] == task for pair in objectives) > 1}
    for task, objective in objectives:
        name = f"held-out, {task}, {objective}" if task in several else f"held-out, {task}"
        lines.append([name, *(_held_out(course, (task, objective), place) for course, place in pairs)])
    lines.append(["tokens/s", *(_told(_speed(course, place)) for course, place in pairs)])
    return Comparison([f"at equal {axis}", *(course.name for course in found)], [line for line in lines if set(line[1:]) != {"-"}])


def _told(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value < 1e12 else f"{value:.3e}"


def _speed(course: Course, place: int) -> float:
    seconds = course.reached["seconds"][place]
    return course.reached["tokens"][place] / seconds if seconds > 0 else math.nan


def _training_loss(course: Course, task: str, place: int) -> str:
    steps = course.run.observed.steps
    if task not in steps.tasks:
        return "-"
    values = steps.column("loss")[: place + 1][steps.of_task(task)[: place + 1]][-LOSS_STEPS:]
    return f"{np.nanmean(values):.4f}" if np.isfinite(values).any() else "-"


def _evaluations(course: Course, pair: tuple[str, str]) -> list[Event]:
    return [event for (_, *mine), event in course.run.observed.evaluations.items() if tuple(mine) == pair]


def _held_out(course: Course, pair: tuple[str, str], place: int) -> str:
    done = course.reached["steps"][place]
    event = next((event for event in reversed(_evaluations(course, pair)) if event["step"] <= done * (1 + SLACK)), None)
    if event is None:
        return "-"
    earlier = f" at step {event['step']:,}" if event["step"] != done else ""
    accuracy = "" if event["accuracy"] is None else f", {event['accuracy']:.1%}"
    return f"{event['loss']:.4f}{accuracy}{earlier}"


def page_of(runs: Sequence[Watched], axis: str) -> str:
    """Return the page of runs beside each other.

    Raises:
        ConfigError: a run has not done a step, or its FLOPs are not known.

    """
    found, table = courses(runs), compared(runs, axis)
    objectives = dict.fromkeys((task, kind) for run in runs for task, kinds in run.plan.objectives.items() for kind in kinds)
    data = {
        "axis": axis,
        "axes": [name for name in AXES if all(np.isfinite(course.reached[name][-1]) for course in found)],
        "runs": [{"name": course.name, "status": course.run.status().to_json()} for course in found],
        "curves": [
            {"task": task, "objective": objective, "runs": [_curve(course, task, objective) for course in found]}
            for task, objective in objectives
        ],
        "table": {"heading": table.heading, "lines": table.lines},
        "differences": _differences(found),
        "seen_at": max(run.looked_at for run in runs),
    }
    return page(f"{', '.join(course.name for course in found)}: compared", "compare", data)


def _curve(course: Course, task: str, objective: str) -> dict[str, Any]:
    steps = course.run.observed.steps
    mine = np.flatnonzero(steps.of_task(task)) if task in steps.tasks else np.zeros(0, dtype=int)
    smooth = smoothed(np.array(steps.losses[objective])[mine]) if objective in steps.losses else np.zeros(0)
    kept = thinned(smooth, MOST_POINTS)
    told = _evaluations(course, (task, objective))
    return {
        "x": {name: numbers(course.reached[name][mine[kept]], 9) for name in AXES},
        "smooth": numbers(smooth[kept]),
        "held_out": {
            "x": {name: numbers((course.at_step(name, e["step"]) for e in told), 9) for name in AXES},
            "loss": numbers(e["loss"] for e in told),
        },
    }


def _differences(found: Sequence[Course]) -> list[list[str]]:
    """Return the settings that differ between the recipes: the dotted path, and the value of each run."""
    settings = [flatten(course.run.recipe) for course in found]
    keys = dict.fromkeys(key for each in settings for key in each)
    rows = ([key, *(str(each.get(key, "-")) for each in settings)] for key in keys)
    return [row for row in rows if len(set(row[1:])) > 1]
