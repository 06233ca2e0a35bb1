"""What every optimizer is: settings in the recipe, and an update of flat tensors.

Under ZeRO an optimizer sees flat tensors, not parameters, and is stepped once a group: so state, the step count included, is kept
for each flat tensor and made by `init_state`, which the engine calls for all of them before the first step.
Classes derive from torch.optim.Optimizer itself: DeepSpeed swaps some of torch's own for its kernels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ptm_dist.changes import Change
from ptm_dist.plugins import plugin
from ptm_dist.rates import RATES, Linear

Group: TypeAlias = dict[str, Any]
Betas: TypeAlias = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
Positive: TypeAlias = Annotated[float, Field(gt=0)]


class OptimizerSettings(BaseModel):
    """What all optimizers have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
    change: ClassVar[Change] = "reason"

    learning_rate: Positive
    """The peak of the schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    decay_norms_and_biases: bool = False
    """RoBERTa decays every parameter, BERT and most others spare biases and LayerNorms."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Layer l of L learns at this to the power L - 1 - l, embeddings at its power L, heads at the full rate."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""
    schedule: Annotated[Any, plugin(RATES)] = Linear()
    """The learning rate over the steps."""

    def build(self, groups: Iterable[Group]) -> FlatOptimizer:
        """Return the optimizer of parameter groups."""
        raise NotImplementedError


@dataclass(frozen=True)
class Segments:
    """The parameters in a flat tensor: `count` of them over all ranks, and this rank's pieces (parameter, start, length)."""

    count: int
    pieces: list[tuple[int, int, int]]


class FlatOptimizer(torch.optim.Optimizer):
    """Updates flat tensors; a group whose `active` is false keeps its weights, moments and step count."""

    moments: ClassVar[tuple[str, ...]] = ()
    """The tensors of the state that have the shape of the weights."""

    def __init__(self, groups: Iterable[Group], settings: OptimizerSettings) -> None:
        super().__init__(groups, {"lr": settings.learning_rate, "lr_share": 1.0, "weight_decay": 0.0, "plain": False, "active": True})

    def link(self, segments: Mapping[Tensor, Segments], add_over_ranks: Callable[[Tensor], Any] | None) -> None:
        """Learn which parameters lie where in the flat tensors, and how to add a tensor over the ranks that share them."""

    def init_state(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the state of a tensor, made when there is none."""
        state = self.state[flat]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device)
            state |= {key: self._first(flat) for key in self.moments}
        return state

    def _first(self, flat: Tensor) -> Tensor:
        return torch.zeros_like(flat, dtype=torch.float32, requires_grad=False)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every tensor of the active groups that has a gradient."""
        for group in self.param_groups:
            if group["active"] and (flats := [flat for flat in group["params"] if flat.grad is not None]):
                self._update_all(flats, group)

    def _update_all(self, flats: list[Tensor], group: Group) -> None:
        """Update the tensors of a group that have gradients: all were updated equally often."""
        for flat in flats:
            assert flat.grad is not None
            self._update(flat, flat.grad, self.init_state(flat), group)

    def _update(self, flat: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        raise NotImplementedError


_LAYER = re.compile(r"^backbone\.(?:.+\.)?layers\.(\d+)\.")


def parameter_groups(module: nn.Module, settings: OptimizerSettings) -> list[Group]:
    """Return the groups of a pretraining module: backbone, pooler and each head apart, so that an idle one can be switched off.

    A group is named PART, with .plain for what weight decay spares and .layer-N where layers learn at rates of their own.
    """
    layers = 1 + max((int(found[1]) for name, _ in module.named_parameters() if (found := _LAYER.match(name))), default=-1)
    groups: dict[str, Group] = {}
    for name, parameter in module.named_parameters():
        part = _part(name)
        plain = parameter.ndim < 2
        depth = _below_top(name, layers) if settings.layer_decay < 1 else 0
        key = part + ".plain" * plain + f".layer-{layers - 1 - depth}" * (part == "backbone" and settings.layer_decay < 1)
        decay = settings.weight_decay if settings.decay_norms_and_biases or not plain else 0.0
        made = {"name": key, "part": part, "params": [], "weight_decay": decay, "plain": plain, "lr_share": settings.layer_decay**depth}
        groups.setdefault(key, made)["params"].append(parameter)
    return list(groups.values())


def _part(name: str) -> str:
    """Return what is switched on and off as one: a head, the pooler under the heads of sequences, or the rest of the backbone."""
    if name.startswith("heads."):
        return name.split(".")[1]
    return "pooler" if name.startswith("backbone.pooler.") else "backbone"


def _below_top(name: str, layers: int) -> int:
    """Return how many layers lie above a parameter: none above a head, the pooler or the last layer, all above the embeddings."""
    if _part(name) != "backbone":
        return 0
    found = _LAYER.match(name)
    return layers - 1 - int(found[1]) if found else layers
