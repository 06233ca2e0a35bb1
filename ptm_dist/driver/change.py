"""A run that goes on in another way: longer than planned, with further tasks, or as a new run from one of its checkpoints."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ptm_dist.corpus.existing import Existing
from ptm_dist.errors import ConfigError
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_diff, save_recipe
from ptm_dist.recipe_parts import ExtendedRate, Extension
from ptm_dist.report import Run
from ptm_dist.run import RunFolder
from ptm_dist.schedule import StagePlan, TaskPlan
from ptm_dist.store import explain_disk_errors, write_json
from ptm_dist.train.committed import committed, pin, verify

EXTENDED_RATES: Final[tuple[ExtendedRate, ...]] = ("stretch", "hold", "restart")
FIT_THE_WEIGHTS: Final = ("model", "tokenizer")
LONGER: Final = ("stages", "schedule", "extended")
TEACH_TOKENS: Final = ("sources", "corpus")


def extended(run: RunFolder, recipe: Recipe, rate: str | None) -> Recipe:
    """Return `recipe` with what its longer run needs; a recipe that is no longer than the run's is returned as it is.

    A longer run may have further tasks, over further sources, too: what was done stays, and its last checkpoint is kept.

    Raises:
        ConfigError: nobody has said what the learning rate should do, steps that are done would have been others, or a source would
            join a task that is there.

    """
    if not run.exists:
        return recipe
    known = run.recipe()
    if known.extended and recipe.total_steps == known.total_steps:
        return recipe.model_copy(update={"extended": known.extended})
    if recipe.total_steps <= known.total_steps:
        return recipe
    _require_same_sources(known, recipe)
    if not _only_longer(known, recipe):
        return recipe
    if not _is_prefix(known, recipe):
        raise ConfigError(
            f"{run.path}: with these stages, steps that were planned would be of other tasks or batches. Add a stage at the end instead: "
            "keep stages and schedule as they are and write it last under stages; of both, the schedule comes first."
        )
    if recipe.optimizer.schedule.restart == "stage" and len(recipe.planned_stages) > len(known.planned_stages):
        rate = "stretch"  # The new stage has a warm-up and a decay of its own; there is nothing to ask.
    if rate not in EXTENDED_RATES:
        raise ConfigError(_question(known, recipe))
    extension = {"after_steps": known.total_steps, "rate": rate, "sources": joined_sources(known, recipe)}
    longer = recipe.model_copy(update={"extended": Extension.model_validate(extension)})
    _keep_end(run, known, longer)
    run.note_change(known, longer, f"extended from {known.total_steps:,} to {longer.total_steps:,} steps, rate: {rate}")
    save_recipe(longer, run.recipe_path)
    return longer


def joined_sources(known: Recipe, recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the sources that have joined a run since it began, those that `recipe` brings last."""
    return *known.later_sources, *sorted(recipe.sources.keys() - known.sources.keys())


def _require_same_sources(known: Recipe, recipe: Recipe) -> None:
    new = sorted(recipe.sources.keys() - known.sources.keys())
    for name in known.tasks.keys() & recipe.tasks.keys() if new else ():
        if not recipe.tasks[name].sources:
            raise ConfigError(
                f"tasks.{name}.sources: none are named, which means all, and {new[0]} would join them: the task would go on with other "
                f"text than it began with. Name its sources: [{', '.join(known.sources_of(name))}]."
            )


def _only_longer(known: Recipe, recipe: Recipe) -> bool:
    """Is all that differs in stages, and in tasks and sources that the run does not have?"""
    changes = recipe_diff(_part(known, known), _part(recipe, known))
    return all(key.split(".")[0] in LONGER for key, _, _ in changes if known.change_of(key) != "allowed")


def _part(recipe: Recipe, known: Recipe) -> Recipe:
    """Return a recipe with those of its tasks and sources that `known` has; each task names its sources."""
    named = {name: task.model_copy(update={"sources": tuple(recipe.sources_of(name))}) for name, task in recipe.tasks.items()}
    tasks = {name: task for name, task in named.items() if name in known.tasks}
    sources = {name: source for name, source in recipe.sources.items() if name in known.sources}
    return recipe.model_copy(update={"tasks": tasks, "sources": sources})


def _keep_end(run: RunFolder, known: Recipe, longer: Recipe) -> None:
    """Keep the checkpoint with which a run ended as that of every other stage is kept, before a newer one takes its place."""
    end = known.total_steps
    if end in longer.stage_ends and end in committed(run.checkpoints):
        pin(run.checkpoints, end, longer.stage_ends[end])


def _is_prefix(known: Recipe, recipe: Recipe) -> bool:
    return all(step == other for step, other in zip(_steps(known), _steps(recipe), strict=False))


def _steps(recipe: Recipe) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield the task of every step, and what its stage says of the batch."""
    for stage in recipe.planned_stages:
        names = list(stage.steps)
        plan = StagePlan(stage.name, tuple(TaskPlan(name, stage.steps[name], 1, name) for name in names))
        yield from ((names[number], stage.rows, stage.tokens) for number in plan.sequence)


def _question(known: Recipe, recipe: Recipe) -> str:
    planned, step = known.total_steps, known.total_steps
    shown = {
        rate: recipe.model_copy(update={"extended": Extension(after_steps=planned, rate=rate)}).learning_rate(step)
        for rate in EXTENDED_RATES
    }
    return (
        f"the run was planned for {planned:,} steps, where its learning rate is {known.learning_rate(planned - 1):.3g}. Say how it goes on "
        f"to {recipe.total_steps:,}: --extend stretch (the shape over all steps; {shown['stretch']:.3g} at step {step:,}), "
        f"--extend hold (stays at {shown['hold']:.3g}), --extend restart (a new warm-up and decay)."
    )


def fork(parent: Run, step: int, recipe: Recipe, path: Path) -> list[tuple[str, object, object]]:
    """Make a run at `path` that begins with a checkpoint of `parent`, weights, moments and place in the data, under another recipe.

    Returns what differs between the recipes.

    Raises:
        ConfigError: there is no such checkpoint, the weights would not fit, or the directory holds a run.

    """
    run, origin = RunFolder(path), parent.checkpoint(step)
    before = parent.recipe
    changes = recipe_diff(before, recipe)
    misfits = [key for key, _, _ in changes if key.split(".")[0] in FIT_THE_WEIGHTS]
    if misfits:
        raise ConfigError(f"{misfits[0]}: a fork keeps weights and tokens, so this cannot change. Start a run with init: instead.")
    if run.exists:
        raise ConfigError(f"{path}: there is a run here already. Choose another --run.")
    if any(key.split(".")[0] in TEACH_TOKENS for key, _, _ in changes):
        # Another tokenizer would be learned from other text, and the weights would read its ids as those of the old one.
        kept = Existing(folder=str(parent.folder.data().tokenizer.resolve()))
        recipe = recipe.model_copy(update={"tokenizer": kept})
        changes = recipe_diff(before, recipe)
    with explain_disk_errors(path):
        target = run.checkpoints / origin.name
        target.parent.mkdir(parents=True)
        shutil.copytree(origin, target, copy_function=_link_or_copy)
    verify(target)
    about = {"run": str(parent.folder.path.resolve()), "step": step, "digests": sorted(parent.folder.known_digests())}
    write_json(run.parent_path, about | {"changes": [list(change) for change in changes]})
    save_recipe(recipe, run.recipe_path)  # Last: a directory without it is no run yet.
    return changes


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
