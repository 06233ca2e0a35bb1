"""Held-out figures of a task: of each source apart, of all together, and of a guess that reads nothing beside them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np

from ptm_dist.data.batch import MicroBatch
from ptm_dist.data.loader import Reader
from ptm_dist.models.heads import LossSum
from ptm_dist.objectives.base import Objective
from ptm_dist.recipe import Recipe
from ptm_dist.train.context import WorkerContext
from ptm_dist.train.engine import Engine
from ptm_dist.train.memory import LaneMemory
from ptm_dist.train.module import count_of

Tally: TypeAlias = np.ndarray
"""What is added up over targets: loss, right predictions, targets, and of a classifier how often each class was right, float64."""


@dataclass(frozen=True)
class HeldOut:
    """What measures the held-out rows of tasks."""

    recipe: Recipe
    context: WorkerContext
    engine: Engine
    reader: Reader
    memory: LaneMemory

    def measure(self, task: str) -> dict[str, dict[str, Any]]:
        """Return the figures of each objective of a task; one forward pass serves them all.

        They are those of all sources, whose sums and counts are added; `sources` has the same figures of each that is known by name.
        """
        data = f"{task}.validation"
        parts = self.reader.held_out(task, data, self.recipe.evaluate.rows)
        tallies = self._over_ranks({source: self._tallies(task, times) for source, times in parts.items()})
        return {objective.kind: self._figures(objective, data, tallies) for objective in self.recipe.tasks[task].objectives}

    def _tallies(self, task: str, times: list[list[MicroBatch]]) -> dict[str, Tally]:
        """Return the tally of each objective over this rank's rows of one source."""
        objectives = self.recipe.tasks[task].objectives
        weights = {objective.kind: 1.0 for objective in objectives}
        memory, measured = self.memory.fresh(), list[tuple[MicroBatch, dict[str, LossSum]]]()
        for batches in times:
            for number, batch in enumerate(batches):
                losses, after = self.engine.evaluate(task, batch, weights, memory.before(task, number))
                memory.after(task, number, after)
                measured.append((batch, losses))
        # Only now are figures read from the device: to read one is to wait for it.
        return {
            objective.kind: sum(
                (_tally(objective, losses[objective.kind], batch) for batch, losses in measured), start=np.zeros(3 + objective.head.classes)
            )
            for objective in objectives
        }

    def _over_ranks(self, mine: dict[str, dict[str, Tally]]) -> dict[str, dict[str, Tally]]:
        """Add the tallies of all ranks, by source and objective."""
        flat = [tally for tallies in mine.values() for tally in tallies.values()]
        total = np.array(self.context.sum(np.concatenate(flat).tolist()))
        cuts = pairwise(accumulate(map(len, flat), initial=0))
        return {source: {kind: total[slice(*next(cuts))] for kind in tallies} for source, tallies in mine.items()}

    def _figures(self, objective: Objective, data: str, tallies: dict[str, dict[str, Tally]]) -> dict[str, Any]:
        dataset, own = self.reader.dataset(data), {source: found[objective.kind] for source, found in tallies.items()}
        predictable = objective.predictable(self.reader.reading.vocabulary)
        # Of so few rows that they have no target there is nothing to tell.
        told = {source: tally for source, tally in own.items() if source and tally[2]}
        apart = {source: _means(objective, tally, dataset.sources[source].token_counts[predictable]) for source, tally in told.items()}
        return _means(objective, np.sum(list(own.values()), axis=0), dataset.token_counts[predictable]) | {"sources": apart}


def _tally(objective: Objective, loss: LossSum, batch: MicroBatch) -> Tally:
    """Add up a micro-batch; fillers have no target."""
    classes = objective.head.classes
    labels = batch.targets[objective.kind].labels if classes and objective.kind in batch.targets else np.zeros(0, dtype=np.int64)
    asked = count_of(objective, batch)
    return np.array([float(loss.sum), float(loss.correct), asked, *np.bincount(labels, minlength=classes)], dtype=np.float64)


def _means(objective: Objective, tally: Tally, token_counts: np.ndarray) -> dict[str, float | None]:
    """Return mean loss and accuracy, and beside them what a guess without context reaches at best.

    Over the vocabulary that is the entropy of the tokens that can be asked for, over a few classes that of the labels that were asked for,
    and the share of the most frequent one. Nothing is right or wrong about a value, and its loss is a squared error.
    """
    total, correct, targets, *labels = tally.tolist()
    asked = np.array(labels) if sum(labels) else None
    return {
        "loss": total / max(targets, 1.0),
        "accuracy": None if objective.head.kind == "value" else correct / max(targets, 1.0),
        "targets": targets,
        "unigram_entropy": entropy(token_counts) if objective.head.over_vocabulary else None,
        "baseline_loss": None if asked is None else entropy(asked),
        "baseline_accuracy": None if asked is None else float(asked.max() / asked.sum()),
    }


def entropy(counts: np.ndarray) -> float:
    """Return the entropy in nats of what was seen `counts` times: the best loss that a guess without context can reach."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
