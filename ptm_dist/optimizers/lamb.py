"""LAMB, exact under any ZeRO stage: the norms of whole parameters, whoever holds their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ptm_dist.optimizers.adam import UncorrectedAdam
from ptm_dist.optimizers.base import Betas, FlatOptimizer, Group, OptimizerSettings, Positive, Segments


class Lamb(OptimizerSettings):
    """Adam without bias correction whose step is as long as each parameter, times the rate: the ratio is not clamped.

    Source: You et al. 2020, algorithm 2, as in ALBERT's and ymcui's code, which correct no bias.
    """

    kind: Literal["lamb"] = "lamb"
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-6
    adapt_norms_and_biases: bool = False
    """Google's code (ALBERT) leaves the step of LayerNorms and biases as it is; ymcui's (BERT-wwm) scales theirs too."""

    def build(self, groups: Iterable[Group]) -> FlatOptimizer:
        """Return the optimizer."""
        return _Lamb(groups, self)


class _Lamb(UncorrectedAdam):
    def __init__(self, groups: Iterable[Group], settings: Lamb) -> None:
        super().__init__(groups, settings, settings.betas, settings.eps)
        self._adapts_plain = settings.adapt_norms_and_biases
        self._segments: Mapping[Tensor, Segments] = {}
        self._add_over_ranks: Callable[[Tensor], Any] | None = None

    def link(self, segments: Mapping[Tensor, Segments], add_over_ranks: Callable[[Tensor], Any] | None) -> None:
        """Learn which parameters lie where; `add_over_ranks` is None where every rank holds whole parameters."""
        self._segments, self._add_over_ranks = segments, add_over_ranks

    def _update(self, flat: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        direction = self._direction(flat, gradient, state, group)
        if self._adapts_plain or not group["plain"]:
            self._adapt(flat.view(-1), direction.view(-1), self._segments.get(flat) or Segments(1, [(0, 0, flat.numel())]))
        flat.add_(direction, alpha=-group["lr"])

    def _adapt(self, flat: Tensor, direction: Tensor, segments: Segments) -> None:
        """Scale the direction of each parameter to the parameter's own norm."""
        # A table of partial sums in float64, added once: one collective a flat tensor, the same on every rank.
        squares = torch.zeros(segments.count, 2, dtype=torch.float64, device=flat.device)
        for number, start, length in segments.pieces:
            for column, values in enumerate((flat, direction)):
                squares[number, column] += torch.linalg.vector_norm(values[start : start + length], dtype=torch.float64).square()
        if self._add_over_ranks:
            self._add_over_ranks(squares)
        weight, step = squares.sqrt().unbind(1)
        ratios = torch.where((weight > 0) & (step > 0), weight / step, 1.0).to(direction.dtype)
        for number, start, length in segments.pieces:
            direction[start : start + length].mul_(ratios[number])
