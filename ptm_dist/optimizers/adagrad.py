"""Adagrad as ELMo was trained with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptm_dist.optimizers.base import FlatOptimizer, Group, OptimizerSettings, Positive


class Adagrad(OptimizerSettings):
    """Each weight's rate falls with the sum of its squared gradients: s += g^2; w -= rate g / sqrt(s).

    Source: Duchi et al. 2011; ELMo (allenai/bilm-tf) with rate 0.2, an accumulator that starts at 1, no decay.
    """

    kind: Literal["adagrad"] = "adagrad"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    initial_accumulator: Positive = 1.0

    def build(self, groups: Iterable[Group]) -> FlatOptimizer:
        """Return the optimizer."""
        return _Adagrad(groups, self)


_TINY: Final = 1e-30
"""Keeps the padding of ZeRO, where gradient and accumulator are zero, from becoming NaN."""


class _Adagrad(FlatOptimizer):
    moments = ("sum",)

    def __init__(self, groups: Iterable[Group], settings: Adagrad) -> None:
        super().__init__(groups, settings)
        self._initial = settings.initial_accumulator

    def _first(self, flat: Tensor) -> Tensor:
        return torch.full_like(flat, self._initial, dtype=torch.float32, requires_grad=False)

    def _update(self, flat: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        state["step"] += 1
        state["sum"].addcmul_(gradient, gradient)
        flat.mul_(1.0 - group["lr"] * group["weight_decay"])
        flat.addcdiv_(gradient, state["sum"].sqrt().clamp_min_(_TINY), value=-group["lr"])
