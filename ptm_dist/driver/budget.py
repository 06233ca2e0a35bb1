"""Budgets in hours: a few real updates of each task are timed, in a run that is then thrown away."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from typing import Final

from ptm_dist.driver.supervise import train
from ptm_dist.events import read_events
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_budget import Slot, parse_budget
from ptm_dist.recipe_parts import Stage
from ptm_dist.run import RunFolder

TIMED_STEPS: Final = 5
"""Updates of each task; the first pays for allocation and warm-up and is left out."""


def in_hours(recipe: Recipe) -> set[Slot]:
    """Return what is trained for hours that have not become updates."""
    return {slot for slot, text in recipe.budgets.items() if parse_budget(text).unit == "hours"}


def timed(recipe: Recipe, data: DataFolders, folder: Path, launcher: str) -> dict[Slot, float]:
    """Return the seconds of an update of everything that is trained for hours, timed in a run at `folder`, which is removed."""
    found, hours = dict[Slot, float](), in_hours(recipe)
    for stage in recipe.stages:
        tasks = [task for task in stage.steps if (stage.name, task) in hours]
        if not tasks:
            continue
        try:
            found |= _timed_stage(recipe, stage, tasks, data, folder, launcher)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _timed_stage(recipe: Recipe, stage: Stage, tasks: list[str], data: DataFolders, folder: Path, launcher: str) -> dict[Slot, float]:
    shutil.rmtree(folder, ignore_errors=True)  # A run that was killed while it timed has left one.
    run = RunFolder(folder)
    run.claim(alone(recipe, stage, tasks))
    run.set_data(data)
    run.trial_path.write_text(f"{TIMED_STEPS * len(tasks)}\n")
    train(run, launcher, lambda event: None)
    steps = list(read_events(run.events_path, "step"))
    return {(stage.name, task): median([event["seconds"] for event in steps if event["task"] == task][1:]) for task in tasks}


def alone(recipe: Recipe, stage: Stage, tasks: list[str]) -> Recipe:
    """Return a recipe of some tasks of a stage in turn, in full batches, from fresh weights: what is timed."""
    # More steps than are done, so that nothing of the end of a run is done among them.
    steps = dict.fromkeys(tasks, TIMED_STEPS + 1)
    batch = recipe.batch.model_copy(update={"warmup": None})
    evaluate = recipe.evaluate.model_copy(update={"downstream": {}})
    parts = {"stages": (stage.model_copy(update={"steps": steps}),), "schedule": None, "init": None, "extended": None}
    return recipe.model_copy(update=parts | {"batch": batch, "evaluate": evaluate})
