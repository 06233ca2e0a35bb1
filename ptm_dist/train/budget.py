"""From budgets to updates: what the prepared data and timed steps say of tokens, epochs and hours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ptm_dist.data.dataset import Dataset
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_budget import Slot, Update, parse_budget
from ptm_dist.recipe_parts import PlannedStage, Stage

TO_COME: Final = {
    "tokens": "steps follow when data are prepared",
    "epochs": "steps follow when data are prepared",
    "hours": "steps follow when training starts and some are timed",
}


@dataclass(frozen=True)
class Settled:
    """A budget and the updates that it has become, for good."""

    stage: str
    task: str
    budget: str
    steps: int
    rows: int
    """Examples of a full batch."""
    seconds: float | None
    """What an update took, if it was timed."""

    @property
    def line(self) -> str:
        """What a person is told."""
        timed = f", at {self.seconds:.3f} s a step" if self.seconds else ""
        return f"stage {self.stage}: {self.budget} of {self.task} = {self.steps:,} steps of {self.rows:,} rows{timed}"


def settle(recipe: Recipe, data: DataFolders, seconds: Mapping[Slot, float]) -> list[Settled]:
    """Return the updates of every budget of a recipe: as few as reach it, counted in full batches.

    Where batches grow, tokens and epochs get so many more updates that as many rows are read. `seconds` an update of those in hours.
    """
    datasets = {task: data.open(task, "train") for task in recipe.tasks}
    means = {task: dataset.tokens / dataset.rows for task, dataset in datasets.items()}
    rows, full = dict[Slot, int](), dict[Slot, Fraction]()
    for stage in recipe.stages:
        for task in stage.steps:
            if (slot := (stage.name, task)) in recipe.budgets:
                rows[slot] = recipe.rows_of(stage, means[task])
                full[slot] = _full_updates(recipe.budgets[slot], update_of(recipe, stage, rows[slot], datasets[task], seconds.get(slot)))
    steps = {slot: math.ceil(updates) for slot, updates in full.items()}
    if recipe.batch.warmup:
        wanted = {slot: full[slot] * rows[slot] for slot in full if slot not in seconds}
        steps = _lengthened(recipe, means, steps, wanted)
    return [Settled(*slot, recipe.budgets[slot], steps[slot], rows[slot], seconds.get(slot)) for slot in steps]


def update_of(recipe: Recipe, stage: Stage, rows: int, dataset: Dataset, seconds: float | None) -> Update:
    """Return what an update of `rows` examples takes. A batch that is given in tokens has so many, whatever its rows add up to."""
    return Update(
        tokens=Fraction(tokens_of(recipe, stage) or Fraction(rows * dataset.tokens, dataset.rows)),
        epochs=Fraction(rows, dataset.rows),
        hours=None if seconds is None else Fraction(seconds) / 3600,
    )


def tokens_of(recipe: Recipe, stage: Stage | PlannedStage) -> int | None:
    """Return the tokens of a batch of a stage, if they are what is given of it."""
    return stage.tokens or (None if stage.rows else recipe.batch.tokens)


def _full_updates(text: str, update: Update) -> Fraction:
    found = update.fit_into(parse_budget(text))
    assert found is not None, "hours are timed before they are settled"
    return found


def _lengthened(recipe: Recipe, means: Mapping[str, float], steps: dict[Slot, int], wanted: Mapping[Slot, Fraction]) -> dict[Slot, int]:
    """Add updates, stage by stage, until every task has read the rows that its budget wants."""
    for number, stage in enumerate(recipe.all_stages):
        lacking = True
        while lacking:
            plan = recipe.with_steps(steps).plan(means)
            parts = [((stage.name, part.task), index, part.rows) for index, part in enumerate(plan.stages[number].tasks)]
            lacking = {
                slot: more
                for slot, index, rows in parts
                if slot in wanted and (more := math.ceil((wanted[slot] - plan.rows_read(number, index)) / rows)) > 0
            }
            steps = steps | {slot: steps[slot] + more for slot, more in lacking.items()}
    return steps


def told_budgets(recipe: Recipe) -> Iterator[str]:
    """Yield what is known of the budgets of a recipe before any data are prepared, a line each."""
    for stage in recipe.stages:
        tokens = None if recipe.batch.warmup else tokens_of(recipe, stage)
        update = Update(tokens=Fraction(tokens) if tokens else None)
        for task in stage.steps:
            if text := recipe.budgets.get((stage.name, task)):
                found = update.fit_into(parse_budget(text))
                known = f" = {math.ceil(found):,} steps" if found else f" ({TO_COME[parse_budget(text).unit]})"
                yield f"stage {stage.name}: {text} of {task}{known}"
