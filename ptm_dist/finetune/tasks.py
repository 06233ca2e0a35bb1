"""A fine-tuned model, open for reading items: what its head says of each row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch

from ptm_dist.corpus.tokenizer import FolderTokenizer, load_tokenizer
from ptm_dist.data.batch import Row, collate
from ptm_dist.data.item import Bad, Item
from ptm_dist.errors import ConfigError
from ptm_dist.formats.labelled import Made, Tools
from ptm_dist.objectives.base import Objective
from ptm_dist.recipe import Recipe
from ptm_dist.rng import RowDraws
from ptm_dist.run import RunFolder
from ptm_dist.train.committed import checkpoint_of, verify
from ptm_dist.train.module import PretrainingModel, load_weights, to_device
from ptm_dist.train.state import StateFiles

BATCH_TOKENS: Final = 8192
"""Tokens, padding included, that are forwarded at once."""


@dataclass(frozen=True)
class TaskModel:
    """A model with heads of labelled tasks, on the best device that there is, without dropout."""

    run: RunFolder
    checkpoint: Path
    recipe: Recipe
    module: PretrainingModel
    tokenizer: FolderTokenizer
    device: torch.device

    @classmethod
    def open(cls, path: str) -> Self:
        """Open a fine-tuning run, RUN or RUN@STEP; by default its newest checkpoint.

        Raises:
            ConfigError: there is no such run or checkpoint, or it was not fine-tuned.
            DataIntegrityError: the checkpoint is damaged.

        """
        name, _, step = path.partition("@")
        run = RunFolder(Path(name))
        recipe = run.recipe()
        if not recipe.is_labelled:
            raise ConfigError(f"{name}: this run was trained on text, not on a labelled task. Fine-tune it: ptm finetune {name} TASK.yaml")
        checkpoint = checkpoint_of(run.checkpoints, int(step) if step else None).path
        verify(checkpoint)
        tokenizer = load_tokenizer(run.data().tokenizer)
        return cls(run, checkpoint, recipe, *_on_device(recipe, tokenizer, StateFiles(checkpoint).weights()))

    def objective(self, task: str) -> Objective:
        """Return what a task is asked; a language model beside it is not."""
        return self.recipe.tasks[task].objectives[0]

    def tools(self, task: str) -> Tools:
        """Return what rows of a task are made with."""
        model: Any = self.recipe.model
        return Tools(self.tokenizer, model.joining, self.recipe.names_of(task))

    def rows(self, task: str, items: Sequence[Item]) -> tuple[list[Made], list[Bad]]:
        """Return the rows of items, and the items that give none."""
        found = list(self.recipe.tasks[task].format.rows(items, self.tools(task), training=False))
        return [made for made in found if isinstance(made, Made)], [made for made in found if isinstance(made, Bad)]

    @torch.inference_mode()
    def logits(self, task: str, rows: Sequence[Made]) -> list[np.ndarray]:
        """Return of each row what its head gives at the places that are asked, fp32 [places, ...]; [classes] where one thing is asked."""
        objective, vocabulary = self.objective(task), self.tokenizer.vocabulary
        draws = RowDraws(0, "score", [(0, number) for number in range(len(rows))])
        read = [row.without(objective.reads) for row in objective.corrupt([Row(made.example) for made in rows], vocabulary, draws)]
        found: dict[int, np.ndarray] = {}
        for numbers in _batches([row.inputs["tokens"].size for row in read]):
            batch = [read[number] for number in numbers]
            inputs, lengths, targets = to_device(collate(batch, vocabulary.pad, len(batch)), self.device)
            told = self.module.predict(task, inputs, lengths, targets[objective.kind][0]).float().cpu().numpy()
            counts = [len(row.targets[objective.kind].labels) // objective.head.views for row in batch]
            found |= dict(zip(numbers, np.split(told, np.cumsum(counts)[:-1]), strict=True))
        return [found[number] for number in range(len(rows))]


def _on_device(recipe: Recipe, tokenizer: FolderTokenizer, weights: Any) -> tuple[PretrainingModel, FolderTokenizer, torch.device]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    module = PretrainingModel(recipe, tokenizer.vocabulary)
    load_weights(module, weights)
    return module.eval().to(device), tokenizer, device


def _batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Yield the numbers of rows of similar size, about BATCH_TOKENS together."""
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    while order:
        count = max(1, BATCH_TOKENS // max(1, sizes[order[0]]))
        yield order[:count]
        order = order[count:]
