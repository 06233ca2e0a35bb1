"""ptm finetune: train a recipe of labelled tasks, then predict and measure; one run, or one for each seed and setting of a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptm_dist.driver.run import Places, Watcher, train_run
from ptm_dist.driver.sweep import Axis, Sweep, planned
from ptm_dist.driver.sweep_queue import Queue
from ptm_dist.finetune.results import Results
from ptm_dist.finetune.scoring import score_run, scored
from ptm_dist.finetune.setup import Setup
from ptm_dist.run import RunFolder

SEED = "seed"

Make = Callable[[Sequence[str]], Setup]
"""Returns the fine-tuning that some overrides give."""


def finetune(setup: Setup, places: Places, watcher: Watcher, splits: Sequence[str]) -> list[Results]:
    """Train one run to its end, or go on where it stopped, and measure it.

    Raises:
        PtmError: why it ended early.

    """
    run = train_run(setup.recipe, places, watcher).folder
    setup.score.save(run)
    return measured(run, watcher, splits)


def measured(run: RunFolder, watcher: Watcher, splits: Sequence[str]) -> list[Results]:
    """Return what a run reaches on some splits, predicting only what was not predicted with this checkpoint before."""
    missing = [split for split in splits if not scored(run, split)]
    if missing:
        watcher.say(f"predicting {' and '.join(missing)}")
        score_run(str(run.path), missing)
    return [found for split in splits for found in scored(run, split)]


def axes_of_grid(grid: dict[str, list[Any]], seeds: int, given: Sequence[Axis]) -> tuple[Axis, ...]:
    """Return what varies: settings that were given several values, those of a grid that were not given, and seeds."""
    told = {axis.key for axis in given}
    tried = [Axis(key, tuple(str(value) for value in values)) for key, values in grid.items() if key not in told]
    return *given, *tried, *([Axis(SEED, tuple(str(seed) for seed in range(1, seeds + 1)))] if seeds > 1 else [])


def planned_grid(axes: Sequence[Axis], make: Make, path: Path | None) -> tuple[Sweep, Setup]:
    """Return a run for each combination, and the first fine-tuning.

    Raises:
        ConfigError: as `sweep.planned` does.

    """
    first = make([f"{axis.key}={axis.values[0]}" for axis in axes])
    return planned(axes, lambda chosen: make(chosen).recipe, path), first


@dataclass(frozen=True)
class Point:
    """One setting of a grid, with the results of each seed by split and task."""

    values: dict[str, str]
    results: list[Results]


def finetune_all(found: tuple[Sweep, Setup], places: Places, watcher: Watcher, splits: Sequence[str]) -> tuple[list[Point], Queue]:
    """Train all runs of a grid as a queue that resumes, and measure those that have finished, seeds of one setting together."""
    sweep, setup = found
    queue = Queue(sweep, places, watcher)
    queue.work()
    points: dict[tuple[tuple[str, str], ...], list[Results]] = {}
    for run in sweep.runs:
        if run.is_finished:
            setup.score.save(run.folder)
            key = tuple((name, value) for name, value in run.values.items() if name != SEED)
            points.setdefault(key, []).extend(measured(run.folder, watcher, splits))
    return [Point(dict(key), results) for key, results in points.items()], queue
