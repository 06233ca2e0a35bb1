"""Optimizers, derived from torch.optim.Optimizer itself: DeepSpeed swaps some of torch's own classes for its kernels.

Under ZeRO an optimizer sees flat tensors, not parameters, and is stepped once a group: so state, the step count included, is kept
for each flat tensor and made by `init_state`, which the engine calls for all of them before the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ptm_dist.recipe import AdamW as AdamWSettings


class AdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay; a group whose `active` is false keeps its weights, moments and step count.

    Source: Loshchilov and Hutter 2019; the arithmetic is torch's fused kernel.
    """

    moments: Final = ("exp_avg", "exp_avg_sq")

    def __init__(self, groups: Iterable[dict[str, Any]], settings: AdamWSettings) -> None:
        defaults = {"lr": settings.learning_rate, "betas": settings.betas, "eps": settings.eps, "weight_decay": 0.0, "active": True}
        super().__init__(groups, defaults)

    def init_state(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the state of a tensor, made of zeros when there is none."""
        state = self.state[flat]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device)
            state |= {key: torch.zeros_like(flat, dtype=torch.float32, requires_grad=False) for key in self.moments}
        return state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every tensor of the active groups that has a gradient."""
        for group in self.param_groups:
            flats = [flat for flat in group["params"] if flat.grad is not None]
            if not group["active"] or not flats:
                continue
            states = [self.init_state(flat) for flat in flats]
            adamw(
                flats,
                [flat.grad for flat in flats],  # type: ignore[misc]
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )


def parameter_groups(module: nn.Module, settings: AdamWSettings) -> list[dict[str, Any]]:
    """Return the groups of a pretraining module: backbone and each head apart, so that an idle head can be switched off.

    Each group is named PART or PART.plain, the latter for what no weight decay applies to.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        part = name.split(".")[1] if name.startswith("heads.") else "backbone"
        plain = parameter.ndim < 2 and not settings.decay_norms_and_biases
        key = f"{part}.plain" if plain else part
        decay = 0.0 if plain else settings.weight_decay
        group = groups.setdefault(key, {"name": key, "part": part, "params": [], "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


OPTIMIZERS: Final = {"adamw": AdamW}
