"""The one module that DeepSpeed wraps: backbone, heads and losses, so that a step is a single call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import torch
from torch import Tensor, nn

from ptm_dist.data.batch import MicroBatch
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataUnavailableError
from ptm_dist.models.base import Memory, stored_shape
from ptm_dist.models.heads import Head, LossSum
from ptm_dist.objectives.base import Objective
from ptm_dist.recipe import Recipe

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PretrainingModel(nn.Module):
    """Backbone and all heads of all tasks. Every head exists from step 0, so a stage changes no parameter set."""

    def __init__(self, recipe: Recipe, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.objectives = {name: task.objectives for name, task in recipe.tasks.items()}
        self.owners = {name: recipe.owner(name) for name in recipe.tasks}
        self.numbers = recipe.task_numbers
        self.backbone = recipe.model.backbone(vocabulary)
        self.heads = nn.ModuleDict()
        for name, objectives in self.objectives.items():
            for objective in objectives:
                key = head_name(self.owners[name], objective)
                if key not in self.heads:
                    self.heads[key] = recipe.model.head(objective.head, self.backbone, vocabulary)
        _zero_padding(self)

    def forward(
        self,
        task: str,
        inputs: dict[str, Tensor],
        lengths: Tensor,
        targets: dict[str, tuple[Tensor, Tensor]],
        weights: dict[str, float],
        memory: Memory | None = None,
    ) -> tuple[Tensor, dict[str, LossSum], Memory]:
        """Return the weighted sum of the losses of `task`, each loss as a sum and a count, and the memory for the rows that follow.

        `inputs` are int64 [rows, length], `lengths` int64 [rows], `targets` positions and labels int64 [targets] by objective,
        `weights` what each objective's sum is multiplied with: the caller knows the global counts. Each task has its row of the table of
        tasks, where a family has one.
        """
        inputs = inputs | {"task_types": torch.full_like(inputs["tokens"], self.numbers[self.owners[task]])}
        hidden, after = self.backbone(inputs, lengths, memory)
        nothing = torch.zeros(0, dtype=torch.int64, device=lengths.device)
        total = hidden.new_zeros((), dtype=torch.float32)
        losses, used = {}, set()
        for objective in self.objectives[task]:
            positions, labels = targets.get(objective.kind, (nothing, nothing))
            used.add(key := head_name(self.owners[task], objective))
            head = cast("Head", self.heads[key])
            losses[objective.kind] = head.loss(hidden, positions, labels)
            total = total + losses[objective.kind].sum * weights[objective.kind]
        for key in self.heads.keys() - used:
            # Stage 3 re-applies the last gradient of a head that takes no part, so each takes part with weight zero.
            total = total + 0.0 * self.heads[key](hidden[:1], nothing.new_zeros(1)).float().sum()
        return total, losses, after


def to_device(batch: MicroBatch, device: torch.device) -> tuple[dict[str, Tensor], Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Return inputs, lengths and targets of a micro-batch as `PretrainingModel.forward` takes them."""
    inputs = {name: torch.from_numpy(values).to(device) for name, values in batch.inputs.items()}
    targets = {
        name: (torch.from_numpy(found.positions).to(device), torch.from_numpy(found.labels).to(device))
        for name, found in batch.targets.items()
    }
    return inputs, torch.from_numpy(batch.lengths).to(device), targets


def head_name(task: str, objective: Objective) -> str:
    """Return the name of an objective's head: the vocabulary head is shared by all tasks, a classifier belongs to its owner."""
    spec = objective.head
    # A kind may be package.module:Class, and torch allows no dot in the name of a module.
    return spec.kind if spec.classes == 0 else f"{task}-{objective.kind}".replace(".", "_")


def parts_of(owner: str, objectives: Sequence[Objective]) -> set[str]:
    """Return the parts of the model that these objectives train: the backbone, their heads, and the pooler under those of sequences."""
    heads = {head_name(owner, objective) for objective in objectives}
    return {"backbone"} | heads | ({"pooler"} if any(objective.head.kind == "sequence" for objective in objectives) else set())


def _zero_padding(module: nn.Module) -> None:
    # Zero rows stay zero under any optimizer, so they enter no norm and need not be stored.
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim:
                parameter[stored_shape(parameter)[0] :].zero_()


def outline(recipe: Recipe) -> PretrainingModel | None:
    """Return the model without memory for its weights; nothing where the size of its tokenizer is not known before it is made.

    The tokenizer may turn out smaller, where there is too little text to learn as many tokens as the recipe asks for.
    """
    try:
        size = recipe.tokenizer.vocab_size
    except (AttributeError, DataUnavailableError):  # a plug-in from outside, or a folder that is elsewhere
        return None
    with torch.device("meta"):
        return PretrainingModel(recipe, Vocabulary(size, begin=0, pad=1, end=2, unknown=3, mask=4))


def parameter_counts(recipe: Recipe) -> dict[str, int]:
    """Return parameters of the backbone and of each head, shared ones counted once; empty if there is no outline."""
    model = outline(recipe)
    return {} if model is None else counts_of(model)


def counts_of(model: PretrainingModel) -> dict[str, int]:
    """Return parameters of the backbone and of each head, shared ones counted once, rows that only fill a table up not at all."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = ".".join(name.split(".")[:2]) if name.startswith("heads.") else "backbone"
        counts[part] = counts.get(part, 0) + int(torch.Size(stored_shape(parameter)).numel())
    return counts
