"""From a recipe to a trained, exported model, doing only what is missing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ptm_dist.driver.budget import in_hours, timed
from ptm_dist.driver.change import LONGER, extended, joined_sources
from ptm_dist.driver.cluster import start_ray
from ptm_dist.driver.labelled import prepare_probes
from ptm_dist.driver.prepare import prepare
from ptm_dist.driver.supervise import train
from ptm_dist.events import EventLog, read_events
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_diff, save_recipe
from ptm_dist.recipe_parts import Extension
from ptm_dist.report import Run, export
from ptm_dist.run import RunFolder
from ptm_dist.terms import Terms
from ptm_dist.train.budget import Settled, settle
from ptm_dist.train.committed import list_checkpoints
from ptm_dist.train.weights import require_same_settings, source_of, take_over


@dataclass(frozen=True)
class Places:
    """Where a run lives, where prepared data are kept, and who starts the workers."""

    run: Path
    cache: Path
    launcher: str = "ray"
    because: str = ""
    """Why settings of an existing run have changed."""
    extend: str | None = None
    """What the learning rate does in a run that is made longer."""
    terms: Terms = field(default_factory=Terms)
    """How it is restarted, resized and watched."""


@dataclass(frozen=True)
class Watcher:
    """Who is told what happens: progress of stages (name, done, total), events of training, and plain lines."""

    stage: Callable[[str, int, int], None]
    event: Callable[[dict[str, Any]], None]
    say: Callable[[str], None]
    supervised: Callable[[dict[str, Any]], None] = lambda event: None
    """Told what the supervisor does."""


class _Seen:
    """Passes the progress of preparation on, and keeps of each stage its tasks, those that had to be done, and the time it took."""

    def __init__(self, tell: Callable[[str, int, int], None]) -> None:
        self._tell = tell
        self._stages: dict[str, dict[str, float]] = {}
        self._looked_at = time.monotonic()

    def __call__(self, name: str, done: int, total: int) -> None:
        now, stage = time.monotonic(), self._stages.get(name)
        if stage is None:
            stage = self._stages[name] = {"first": done, "seconds": 0.0}
        stage |= {"last": done, "tasks": total, "seconds": stage["seconds"] + now - self._looked_at}
        self._looked_at = now
        self._tell(name, done, total)

    def note(self, run: RunFolder) -> None:
        """Write it into the log of the driver."""
        log = EventLog(run.supervision_path, 0)
        for name, stage in self._stages.items():
            done = int(stage["last"] - stage["first"])
            log.write("prepared", stage=name, tasks=int(stage["tasks"]), done=done, seconds=round(stage["seconds"], 3))
        log.close()


def prepare_run(recipe: Recipe, places: Places, watcher: Watcher) -> RunFolder:
    """Claim the run directory and prepare what is missing of its data; budgets become steps, but for those in hours.

    Raises:
        ConfigError: the weights of `init:` are not there, or of another model or tokenizer.

    """
    run = RunFolder(places.run)
    _require_weights(run, recipe)
    recipe = _claimed(run, recipe, places, watcher)
    run.set_data(_prepared(recipe, places, watcher))
    if not in_hours(recipe):
        recipe = _with_steps(run, recipe, places, watcher)
    _take_weights(run, recipe)
    return run


def train_run(recipe: Recipe, places: Places, watcher: Watcher) -> Run:
    """Prepare what is missing and train to the end.

    Raises:
        RunOwnedError: another process works on this run.
        PtmError: why it ended early.

    """
    run = RunFolder(places.run)
    _require_weights(run, recipe)
    recipe = _claimed(run, recipe, places, watcher)
    with run.owned("driver"):
        watcher.say(where_it_stands(run, recipe))
        if not finished(run, recipe):
            if not run.has_data_of(recipe.tasks):
                run.set_data(_prepared(recipe, places, watcher))
            elif not run.has_data:
                run.set_data(_with_probes(run.data(), recipe, places, watcher))
            recipe = _with_steps(run, recipe, places, watcher)
            _take_weights(run, recipe)
            train(run, places.launcher, watcher.event, places.terms, watcher.supervised)
    return Run(run)


def _claimed(run: RunFolder, recipe: Recipe, places: Places, watcher: Watcher) -> Recipe:
    """Make the directory one of a recipe, or go on with its run; return the recipe with the steps that the run knows of its budgets."""
    recipe, found = run.with_known_steps(recipe), list[Settled]()
    if run.exists and not (known := run.recipe()).budgets:
        if recipe.budgets:
            # Another budget: what becomes of the run is asked of steps, so these come first.
            _require_like(run, known, recipe)
            with run.owned("driver"):
                found = _settled(run, recipe, _data_of(run, known, recipe, places, watcher), places, watcher)
        recipe = extended(run, _with(recipe, found), places.extend)
    run.claim(recipe, places.because)
    run.note_budgets([asdict(budget) for budget in found])
    return recipe


def _require_like(run: RunFolder, known: Recipe, recipe: Recipe) -> None:
    """Refuse a recipe of another run before its data are prepared."""
    frozen = {key.split(".")[0] for key, _, _ in recipe_diff(known, recipe) if known.change_of(key) == "frozen"}
    if frozen - {*LONGER, "tasks", "sources"}:
        run.claim(recipe)


def _data_of(run: RunFolder, known: Recipe, recipe: Recipe, places: Places, watcher: Watcher) -> DataFolders:
    """Return the data of a recipe that makes a run longer; how much longer is not known, and does not matter to them."""
    if run.has_data and (recipe.tasks, recipe.sources) == (known.tasks, known.sources):
        return run.data()
    sources = joined_sources(known, recipe)
    longer = Extension(after_steps=known.total_steps, rate="hold", sources=sources) if sources else None
    return _prepared(recipe.model_copy(update={"extended": longer}), places, watcher)


def _prepared(recipe: Recipe, places: Places, watcher: Watcher) -> DataFolders:
    start_ray(recipe)
    seen = _Seen(watcher.stage)
    prepared = prepare(recipe, places.cache, seen)
    seen.note(RunFolder(places.run))
    return _with_probes(DataFolders(prepared.tokenizer.resolve(), _absolute(prepared.datasets)), recipe, places, watcher)


def _with_probes(data: DataFolders, recipe: Recipe, places: Places, watcher: Watcher) -> DataFolders:
    """Return the data of the tasks with those of the probes, of which what is missing is prepared."""
    if not recipe.evaluate.downstream:
        return data
    start_ray(recipe)
    probes = prepare_probes(recipe, data.tokenizer, places.cache, watcher.stage)
    return DataFolders(data.tokenizer, {task: data.datasets[task] for task in recipe.tasks} | _absolute(probes))


def _with_steps(run: RunFolder, recipe: Recipe, places: Places, watcher: Watcher) -> Recipe:
    """Return the recipe with steps in place of budgets, and write both into the run for good."""
    if not recipe.budgets:
        return recipe
    found = _settled(run, recipe, run.data(), places, watcher)
    run.note_budgets([asdict(budget) for budget in found])
    recipe = _with(recipe, found)
    save_recipe(recipe, run.recipe_path)
    return recipe


def _settled(run: RunFolder, recipe: Recipe, data: DataFolders, places: Places, watcher: Watcher) -> list[Settled]:
    hours = in_hours(recipe)
    if hours:
        watcher.say(f"timing some steps of {', '.join(f'{task} in stage {stage}' for stage, task in sorted(hours))}")
    found = settle(recipe, data, timed(recipe, data, run.path / "timing", places.launcher) if hours else {})
    for budget in found:
        watcher.say(budget.line)
    return found


def _with(recipe: Recipe, found: Sequence[Settled]) -> Recipe:
    return recipe.with_steps({(budget.stage, budget.task): budget.steps for budget in found})


def _require_weights(run: RunFolder, recipe: Recipe) -> None:
    """Look at what `init:` names before a directory is claimed for a recipe that cannot start."""
    if recipe.init and not run.exists:
        require_same_settings(source_of(recipe.init), recipe)


def _take_weights(run: RunFolder, recipe: Recipe) -> None:
    """Put what `init:` names into a run that has neither taken it nor begun."""
    if recipe.init and not run.init_path.exists() and not list_checkpoints(run.checkpoints):
        take_over(source_of(recipe.init), recipe, run.data().tokenizer, run)


def finished(run: RunFolder, recipe: Recipe) -> bool:
    """Return whether the checkpoint of the last step is there."""
    return not recipe.budgets and any(found.step == recipe.total_steps for found in list_checkpoints(run.checkpoints))


def where_it_stands(run: RunFolder, recipe: Recipe) -> str:
    """Return the first line of every command: which run, and whether it is new or goes on."""
    found = list_checkpoints(run.checkpoints)
    if not found:
        return f"run {run.path}: new, {recipe.length}"
    newest = max(found, key=lambda checkpoint: checkpoint.step)
    if not recipe.budgets and newest.step == recipe.total_steps:
        return f"run {run.path}: finished, {newest.step:,} steps"
    minutes = max(0.0, time.time() - newest.path.stat().st_mtime) / 60
    return f"run {run.path}: resuming at step {newest.step:,} of {recipe.length.removesuffix(' steps')} (saved {minutes:.0f} min ago)"


def export_run(run: Run) -> Path:
    """Export the newest checkpoint into the run directory."""
    target = run.folder.path / "export"
    export(run, target)
    return target


TRIAL_STEPS = 3


def trial(recipe: Recipe, places: Places, watcher: Watcher) -> list[tuple[str, str]]:
    """Do three real steps, an evaluation, a save and a restore in a folder that is then removed; return what they tell."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ptm-trial-")))
        here = Places(folder / recipe.name, places.cache, places.launcher)
        run = prepare_run(recipe, here, watcher)
        recipe = _with_steps(run, run.recipe(), here, watcher)
        run.trial_path.write_text(f"{TRIAL_STEPS}\n")
        train(run, here.launcher, watcher.event)
        return _verdict(recipe, run)


def _verdict(recipe: Recipe, run: RunFolder) -> list[tuple[str, str]]:
    steps = list(read_events(run.events_path, "step"))
    saved, told = (next(read_events(run.events_path, kind)) for kind in ("checkpoint_saved", "trial"))
    measured = list(read_events(run.events_path, "evaluated"))
    # The first step pays for allocation and warm-up.
    seconds = sum(event["seconds"] for event in steps[1:]) / len(steps[1:])
    tokens = sum(event["tokens"] for event in steps) / len(steps)
    saves = recipe.total_steps // recipe.checkpoint.every_steps + 1
    hours = (recipe.total_steps * seconds + saves * saved["seconds"]) / 3600
    return [
        ("parameters", f"{told['parameters']:,}"),
        ("step", f"{seconds:.3f} s, {tokens / seconds:,.0f} tokens/s with {recipe.engine.workers} workers"),
        ("peak memory", f"{told['peak_bytes'] / 2**20:,.0f} MiB over all workers"),
        ("checkpoint", f"{saved['bytes'] / 2**20:,.1f} MiB, save {saved['seconds']:.2f} s, restore {told['restore_seconds']:.2f} s"),
        ("disk", f"{recipe.checkpoint.keep_last * saved['bytes'] / 2**20:,.0f} MiB for {recipe.checkpoint.keep_last} checkpoints"),
        ("held-out loss now", ", ".join(f"{event['task']} {event['loss']:.3f} nats" for event in measured)),
        ("the whole run", f"{recipe.total_steps:,} steps, about {hours:.2f} hours"),
    ]


def _absolute(datasets: Mapping[str, Mapping[str, Path]]) -> dict[str, dict[str, Path]]:
    return {task: {split: path.resolve() for split, path in splits.items()} for task, splits in datasets.items()}
