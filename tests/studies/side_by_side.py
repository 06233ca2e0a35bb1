"""Runs of a study: as many side by side as the machine has cores for, each resumed where it stopped, none done twice."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from ptm_dist.driver.finetune import measured
from ptm_dist.driver.run import Places, Watcher
from ptm_dist.driver.sweep import Sweep, SweptRun
from ptm_dist.driver.sweep_queue import Queue
from ptm_dist.finetune.results import Results
from ptm_dist.finetune.setup import Setup
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder

CACHE: Final = Path("data")


def train_all(where: Path, recipes: Mapping[str, Recipe]) -> dict[str, RunFolder]:
    """Train each recipe in a directory of its name and return the runs; ends the program if one failed or was stopped."""
    runs = tuple(SweptRun(name, {"run": name}, recipe, where / name) for name, recipe in recipes.items())
    queue = Queue(Sweep(where, (), runs), Places(where, CACHE, "local"), _watcher())
    queue.work()
    if queue.stops or queue.failures:
        sys.exit("\n".join(f"{name}: {message}" for name, (_, message) in queue.failures.items()) or "stopped; the same command goes on")
    return {run.name: run.folder for run in runs}


def finetune_all(where: Path, setups: Mapping[str, Setup], split: str) -> dict[str, Results]:
    """Fine-tune as `train_all` trains, and return what each run reaches on a split of its task."""
    runs = train_all(where, {name: setup.recipe for name, setup in setups.items()})
    found = dict[str, Results]()
    for name, run in runs.items():
        setups[name].score.save(run)
        (found[name],) = measured(run, _watcher(), [split])
    return found


def _watcher() -> Watcher:
    console = Console(soft_wrap=True)
    return Watcher(stage=lambda *_: None, event=lambda _: None, say=lambda line: console.print(line, markup=False, highlight=False))


def columns(heading: Sequence[str], lines: Sequence[Sequence[str]], numbers_from: int) -> str:
    """Return a table in Markdown; columns from `numbers_from` on are numbers."""
    rule = ["---" if number < numbers_from else "---:" for number in range(len(heading))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *lines)).replace("| --- |", "|---|")
