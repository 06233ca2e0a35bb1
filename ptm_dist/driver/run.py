"""ptm run: from a recipe to a trained, exported model, doing only what is missing."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptm_dist.driver.prepare import prepare
from ptm_dist.driver.train import start_ray, train
from ptm_dist.errors import StoppedError
from ptm_dist.events import read_events, steps_of
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.report import Run, export
from ptm_dist.run import DataFolders, RunFolder
from ptm_dist.train.commit import list_checkpoints
from ptm_dist.train.module import parameter_counts

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Places:
    """Where a run lives, where prepared data are kept, and who starts the workers."""

    run: Path
    cache: Path
    launcher: str = "ray"


@dataclass(frozen=True)
class Watcher:
    """Who is told what happens: progress of stages, events of training, and plain lines."""

    stage: Callable[[str, int, int], None]
    event: Callable[[dict[str, Any]], None]
    say: Callable[[str], None]


def prepare_run(recipe: Recipe, places: Places, watcher: Watcher) -> RunFolder:
    """Claim the run directory and prepare what is missing of its data."""
    run = RunFolder(places.run)
    run.claim(recipe)
    start_ray(recipe)
    prepared = prepare(recipe, places.cache, watcher.stage)
    run.set_data(DataFolders(prepared.tokenizer.resolve(), _absolute(prepared.datasets)))
    return run


def train_run(recipe: Recipe, places: Places, watcher: Watcher) -> Run:
    """Prepare what is missing and train to the end.

    Raises:
        RunOwnedError: another process works on this run.
        PtmError: why it ended early.
    """
    run = RunFolder(places.run)
    run.claim(recipe)
    with run.owned("driver"):
        watcher.say(where_it_stands(run, recipe))
        prepare_run(recipe, places, watcher)
        if not finished(run, recipe):
            train(run, places.launcher, watcher.event)
    return Run(run)


def finished(run: RunFolder, recipe: Recipe) -> bool:
    """Return whether the checkpoint of the last step is there."""
    return any(found.step == recipe.total_steps for found in list_checkpoints(run.checkpoints))


def where_it_stands(run: RunFolder, recipe: Recipe) -> str:
    """Return the first line of every command: which run, and whether it is new or goes on."""
    found = list_checkpoints(run.checkpoints)
    if not found:
        return f"run {run.path}: new"
    newest = max(found, key=lambda checkpoint: checkpoint.step)
    if newest.step == recipe.total_steps:
        return f"run {run.path}: finished, {newest.step:,} steps"
    minutes = max(0.0, time.time() - newest.path.stat().st_mtime) / 60
    return f"run {run.path}: resuming at step {newest.step:,} of {recipe.total_steps:,} (saved {minutes:.0f} min ago)"


def export_run(run: Run) -> Path:
    """Export the newest checkpoint into the run directory."""
    target = run.folder.path / "export"
    export(run, target)
    return target


@dataclass(frozen=True)
class Trial:
    """What three real steps tell about a whole run."""

    step_seconds: float
    tokens_per_second: float
    checkpoint_bytes: int
    restore_and_save_seconds: float
    parameters: int
    peak_bytes: int
    total_hours: float
    held_out_loss: float


def trial(recipe: Recipe, places: Places, watcher: Watcher, steps: int = 3) -> Trial:
    """Do three steps, a save, a restore and an evaluation in a folder that is then removed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ptm-trial-")))
        here = Places(folder / recipe.name, places.cache, places.launcher)
        run = prepare_run(recipe, here, watcher)
        shortened = _with_stop(recipe, steps)
        run_first = RunFolder(folder / "run")
        run_first.claim(shortened)
        run_first.set_data(run.data())
        train(run_first, places.launcher, watcher.event)
        return _measure(recipe, Run(run_first))


def _with_stop(recipe: Recipe, steps: int) -> Recipe:
    raise NotImplementedError


def _measure(recipe: Recipe, run: Run) -> Trial:
    raise NotImplementedError


def _absolute(datasets: Any) -> dict[str, dict[str, Path]]:
    return {task: {split: path.resolve() for split, path in splits.items()} for task, splits in datasets.items()}
