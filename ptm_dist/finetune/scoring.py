"""Predictions of a fine-tuned run over a split, and what they are worth; kept in the run, under results/."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ptm_dist.data.item import Bad, Item
from ptm_dist.errors import ConfigError, DataUnavailableError
from ptm_dist.finetune.kinds import KINDS, Reading, labelled, told_to
from ptm_dist.finetune.metrics import score
from ptm_dist.finetune.metrics.classes import confusion
from ptm_dist.finetune.results import Prediction, Results, read_results, write_predictions
from ptm_dist.finetune.setup import Score
from ptm_dist.finetune.tasks import TaskModel
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import read_settings, recipe_from_json, recipe_to_json
from ptm_dist.recipe_merge import merged
from ptm_dist.run import RunFolder
from ptm_dist.train.committed import checkpoint_of


def predict(model: TaskModel, task: str, items: Sequence[Item], settings: Score) -> tuple[dict[int, Prediction], list[Bad]]:
    """Return the predictions by the places of their items, in that order, and the items that give no row."""
    kind = KINDS[model.objective(task).kind]
    tools = model.tools(task)
    reading = Reading(tools.names, tools.joining, settings.answers)
    rows, bad = model.rows(task, items)
    by_item: dict[int, list[Any]] = {}
    for made, logits in zip(rows, model.logits(task, rows), strict=True):
        by_item.setdefault(made.item, []).append((made, logits))
    return {number: kind.predict(items[number], found, reading) for number, found in sorted(by_item.items())}, bad


def score_run(path: str, splits: Sequence[str], recipe: Recipe | None = None) -> list[Results]:
    """Predict the items of splits with the newest checkpoint of RUN, or that of RUN@STEP, measure, and keep both.

    `recipe` may hold other data of the same tasks.

    Raises:
        ConfigError: the run was not fine-tuned, or a metric does not suit.
        DataUnavailableError: there is no such split, or none of its items has a label.

    """
    model = TaskModel.open(path)
    recipe, settings = recipe or model.recipe, Score.of(model.run)
    return [_score_task(model, (recipe, task, split), settings) for split in splits for task in recipe.tasks]


def _score_task(model: TaskModel, what: tuple[Recipe, str, str], settings: Score) -> Results:
    recipe, task, split = what
    kind = KINDS[model.objective(task).kind]
    items, skipped = _items(recipe, task, split)
    known = labelled(items, kind)
    predictions, bad = predict(model, task, items, settings)
    # By place: files of several languages may have items of the same id.
    measured = [number for number in known if number in predictions]
    scored = [items[number] for number in measured]
    if not scored:
        raise DataUnavailableError(
            f"{task}: no item of {split} has a label to compare with. Choose another --split, or predict: ptm model predict"
        )
    names = settings.metrics or kind.metrics
    gold, found = [kind.gold(item) for item in scored], [predictions[number] for number in measured]
    metrics = dict[str, float]()
    for name in names:
        figures = score(name, *told_to(name, scored, gold, found))
        # Two metrics may call something the same: exact match and F1 of answers by SQuAD and by CMRC.
        metrics |= {f"{name}/{key}" if key in metrics else key: value for key, value in figures.items()}
    where = model.run.path / "results"
    file = f"{task}.{split}.predictions.jsonl"
    write_predictions(where / file, predictions.values())
    results = Results(
        task=task,
        kind=recipe.tasks[task].format.kind,
        split=split,
        metrics=metrics,
        items=len(scored),
        skipped=dict(sorted((skipped + Counter(one.why for one in bad)).items())),
        confusion=confusion(gold, [one.predicted for one in found]) if kind is KINDS["classify_text"] else None,
        predictions=file,
        checkpoint=str(model.checkpoint),
        seed=recipe.seed,
        recipe_digest=recipe.digest,
        scored_at=time.time(),
    )
    results.write(where / f"{task}.{split}.json")
    return results


def _items(recipe: Recipe, task: str, split: str) -> tuple[list[Item], Counter[str]]:
    items, skipped = list[Item](), Counter[str]()
    for name in recipe.sources_of(task):
        source: Any = recipe.sources[name]
        if not source.has(split):
            raise DataUnavailableError(f"sources.{name}: it has no {split} files. Give some: sources.{name}.{split}=[FILE]")
        found, bad = source.items(split)
        items += found
        skipped += bad
    return items, skipped


def scored(run: RunFolder, split: str) -> list[Results]:
    """Return what is known of a split for the newest checkpoint; nothing unless all of it is."""
    paths = [run.path / "results" / f"{task}.{split}.json" for task in run.recipe().tasks]
    if not all(path.exists() for path in paths):
        return []
    found = [read_results(path) for path in paths]
    newest = str(checkpoint_of(run.checkpoints).path)
    current = all(one.checkpoint == newest and one.recipe_digest == run.recipe().digest for one in found)
    return found if current else []


def with_data(recipe: Recipe, files: Sequence[str | Path], overrides: Sequence[str]) -> Recipe:
    """Return a recipe with the sources that files and overrides give; whatever else they say of tasks must be as it was trained.

    Raises:
        ConfigError: they name other tasks.

    """
    told = read_settings(files, overrides)
    others = sorted(set(told.get("tasks", {})) - set(recipe.tasks))
    if others:
        raise ConfigError(f"{', '.join(others)}: this run was not fine-tuned on that; it knows {', '.join(recipe.tasks)}.")
    data = recipe_to_json(recipe)
    return recipe_from_json(data | {"sources": merged(data["sources"], told.get("sources", {}))})


def per_item(run: RunFolder, task: str, split: str) -> Iterator[tuple[str, float]]:
    """Yield how well each item of a split was done, by id: what two runs are compared by."""
    from ptm_dist.finetune.results import read_predictions

    for one in read_predictions(run.path / "results" / f"{task}.{split}.predictions.jsonl"):
        if one.score is not None:
            yield one.id, one.score
