"""Adam with decoupled weight decay, with bias correction and without."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ptm_dist.optimizers.base import Betas, FlatOptimizer, Group, OptimizerSettings, Positive


class AdamW(OptimizerSettings):
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter 2019."""

    kind: Literal["adamw"] = "adamw"
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    eps_joins: Literal["corrected", "raw"] = "corrected"
    """The second moment that eps is added to: after bias correction, or before it as in fairseq (RoBERTa) and OpenAI's code (GPT)."""

    def build(self, groups: Iterable[Group]) -> FlatOptimizer:
        """Return the optimizer; its arithmetic is torch's fused kernel."""
        return _AdamW(groups, self)


class _AdamW(FlatOptimizer):
    moments = ("exp_avg", "exp_avg_sq")

    def __init__(self, groups: Iterable[Group], settings: AdamW) -> None:
        super().__init__(groups, settings)
        self._settings = settings

    def _update_all(self, flats: list[Tensor], group: Group) -> None:
        # One call for all: without ZeRO there are hundreds of tensors, and a GPU would wait for each launch.
        states = [self.init_state(flat) for flat in flats]
        beta1, beta2 = self._settings.betas
        eps = self._settings.eps
        if self._settings.eps_joins == "raw":
            eps /= (1.0 - beta2 ** (float(states[0]["step"]) + 1.0)) ** 0.5
        adamw(
            flats,
            [flat.grad for flat in flats if flat.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=eps,
            maximize=False,
        )


class BertAdam(OptimizerSettings):
    """Adam with decoupled weight decay and without bias correction, as BERT, XLNet and ERNIE were trained.

    Source: google-research/bert, optimization.py: u = m / (sqrt(v) + eps) + weight_decay w; w -= rate u.
    """

    kind: Literal["bert_adam"] = "bert_adam"
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-6

    def build(self, groups: Iterable[Group]) -> FlatOptimizer:
        """Return the optimizer."""
        return UncorrectedAdam(groups, self, self.betas, self.eps)


class UncorrectedAdam(FlatOptimizer):
    """Adam whose moments are not corrected for having started at zero."""

    moments = ("exp_avg", "exp_avg_sq")

    def __init__(self, groups: Iterable[Group], settings: OptimizerSettings, betas: Betas, eps: float) -> None:
        super().__init__(groups, settings)
        self._betas, self._eps = betas, eps

    def _update(self, flat: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        flat.add_(self._direction(flat, gradient, state, group), alpha=-group["lr"])

    def _direction(self, flat: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> Tensor:
        beta1, beta2 = self._betas
        state["step"] += 1
        state["exp_avg"].lerp_(gradient, 1.0 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        direction = state["exp_avg"] / state["exp_avg_sq"].sqrt().add_(self._eps)
        return torch.add(direction, flat, alpha=group["weight_decay"], out=direction)
