"""The one module that DeepSpeed wraps: backbone, heads and losses, so that a step is a single call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

import torch
from torch import Tensor, nn

from ptm_dist.data.batch import MicroBatch, sequence_of
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataUnavailableError
from ptm_dist.models.base import Memory, stored_shape
from ptm_dist.models.downstream import DOWNSTREAM, SUMMARISED, without_gradient
from ptm_dist.models.heads import Head, LossSum
from ptm_dist.objectives.base import Objective
from ptm_dist.recipe import Recipe

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PretrainingModel(nn.Module):
    """Backbone and all heads of all tasks. Every head exists from step 0, so a stage changes no parameter set.

    Sequences that stand side by side in rows are rows of their own to the backbone; heads see their states laid out as positions count.
    """

    def __init__(self, recipe: Recipe, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.objectives = {name: task.objectives for name, task in recipe.tasks.items()}
        self.owners = {name: recipe.owner(name) for name in recipe.tasks}
        self.numbers = recipe.task_numbers
        self.frozen = {name: is_frozen(objectives) for name, objectives in self.objectives.items()}
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
        task: str | None,
        inputs: dict[str, Tensor],
        lengths: Tensor,
        targets: dict[str, tuple[Tensor, Tensor]],
        weights: dict[str, float],
        memory: Memory | None = None,
    ) -> tuple[Tensor, dict[str, LossSum], Memory]:
        """Return the weighted sum of the losses of `task`, each loss as a sum and a count, and the memory for the rows that follow.

        `inputs`, `lengths` and the positions of `targets` are those of `MicroBatch`; `targets` are positions and labels by objective,
        `weights` what each objective's sum is multiplied with: the caller knows the global counts. Each task has its row of the table of
        tasks, where a family has one. Of no task there is no loss: what heads of labelled tasks look at, [R, L, H], stands in its place.
        """
        if task is None:
            return self.backbone.read(inputs | {"task_types": torch.zeros_like(inputs["tokens"])}, lengths), {}, {}
        states, lengths_N, after = self._states(task, inputs, lengths, memory)
        nothing = torch.zeros(0, dtype=torch.int64, device=lengths.device)
        total = states.new_zeros((), dtype=torch.float32)
        losses, used = {}, set()
        for objective in self.objectives[task]:
            positions, labels = targets.get(objective.kind, (nothing, nothing))
            used.add(key := head_name(self.owners[task], objective))
            head = self._head(key)
            hidden = unfold(head.encode(states, lengths_N), lengths)
            if objective.averages_rows:
                rows = sequence_of(positions, states.shape[1], *lengths.shape[1:])
                losses[objective.kind] = head.loss_by_row(hidden, positions, labels, rows)
            else:
                losses[objective.kind] = head.loss(hidden, positions, labels)
            total = total + losses[objective.kind].sum * weights[objective.kind]
        for key in [key for key in self.heads if key not in used]:
            # Stage 3 re-applies the last gradient of a head that takes no part, so each takes part with weight zero. In the order of the
            # module: that of a set differs between processes, and stage 3 gathers what heads have as they come.
            head = self._head(key)
            total = total + 0.0 * head(head.encode(states[:1], lengths_N[:1]), nothing.new_zeros(head.views)).float().sum()
        return total, losses, after

    def predict(self, task: str, inputs: dict[str, Tensor], lengths: Tensor, positions: Tensor) -> Tensor:
        """Return what the head of the first objective of a task gives at positions; see `forward` for what goes in."""
        head, hidden = self.look(task, inputs, lengths)
        return head(hidden, positions)

    def look(self, task: str, inputs: dict[str, Tensor], lengths: Tensor) -> tuple[Head, Tensor]:
        """Return the head of the first objective of a task, and what it looks at, [R, L, H] as positions count."""
        states, lengths_N, _ = self._states(task, inputs, lengths, None)
        head = self._head(head_name(self.owners[task], self.objectives[task][0]))
        return head, unfold(head.encode(states, lengths_N), lengths)

    def _head(self, key: str) -> Head:
        return cast("Head", self.heads[key])

    def _states(self, task: str, inputs: dict[str, Tensor], lengths: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor, Memory]:
        """Return the states of single sequences [N, L, H], their lengths [N], and the memory for the rows that follow."""
        if lengths.ndim > 1:
            inputs, lengths = {name: fold(values) for name, values in inputs.items()}, lengths.flatten()
        inputs = inputs | {"task_types": torch.full_like(inputs["tokens"], self.numbers[self.owners[task]])}
        frozen, alone = self.frozen[task], all(self.frozen.values())
        if self.backbone.training != (self.training and not frozen):  # It walks all modules, and seldom changes.
            self.backbone.train(not self.backbone.training)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not alone):
            if any(objective.head.kind in DOWNSTREAM for objective in self.objectives[task]):
                states, after = self.backbone.read(inputs, lengths), {}
            else:
                states, after = self.backbone(inputs, lengths, memory)
        return without_gradient(states) if frozen and not alone else states, lengths, after


def fold(x: Tensor) -> Tensor:
    """Return sequences that stand side by side, [R, L, K, ...], as rows [R x K, L, ...]."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold(x_NLH: Tensor, lengths: Tensor) -> Tensor:
    """Return states of sequences as positions count, [R, L x K, H], where K of them stand side by side: `lengths` are [R, K], else [R]."""
    return x_NLH.unflatten(0, lengths.shape).transpose(1, 2).flatten(1, 2) if lengths.ndim > 1 else x_NLH


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
    return spec.kind if spec.over_vocabulary else f"{task}-{objective.kind}".replace(".", "_")


def is_frozen(objectives: Sequence[Objective]) -> bool:
    """Return whether these objectives leave the backbone as it is."""
    return all(objective.head.frozen for objective in objectives)


def count_of(objective: Objective, batch: MicroBatch) -> int:
    """Return how many predictions of an objective a micro-batch asks for: its mean loss is over these."""
    if objective.averages_rows:
        return batch.sequences_asked(objective.kind)
    return objective.count(batch.targets[objective.kind].labels) if objective.kind in batch.targets else 0


def parts_of(owner: str, objectives: Sequence[Objective]) -> set[str]:
    """Return the parts of the model that these objectives train: their heads, and unless they freeze it the backbone, with its pooler."""
    heads = {head_name(owner, objective) for objective in objectives}
    if is_frozen(objectives):
        return heads
    return (
        {"backbone"} | heads | ({"pooler"} if any(objective.head.kind in {"sequence"} | SUMMARISED for objective in objectives) else set())
    )


def _zero_padding(module: nn.Module) -> None:
    # Zero rows stay zero under any optimizer, so they enter no norm and need not be stored.
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim:
                parameter[stored_shape(parameter)[0] :].zero_()


@torch.no_grad()
def load_weights(model: PretrainingModel, weights: Mapping[str, Tensor]) -> None:
    """Copy the weights of a checkpoint, by name, into a model of its recipe.

    Raises:
        ConfigError: one is missing.

    """
    for name, parameter in model.named_parameters():
        if name not in weights:
            raise ConfigError(f"{name} is not among the weights. Was the checkpoint written by another version of ptm_dist?")
        parameter[: len(weights[name])].copy_(weights[name])


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
