"""What every model family is: its own configuration that builds a backbone and heads."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary


class Family(Protocol):
    """A model family with its dimensions."""

    kind: str

    def backbone(self, vocabulary: Vocabulary) -> nn.Module:
        """Build the backbone: (inputs {name: int64 [R, L]}, lengths int64 [R]) -> hidden states [R, L, H]."""
        ...

    def head(self, spec: HeadSpec, backbone: nn.Module, vocabulary: Vocabulary) -> nn.Module:
        """Build a head over that backbone: (hidden [R, L, H], positions int64 [T]) -> logits [T, classes]."""
        ...

    @property
    def longest(self) -> int:
        """Most tokens a row may have."""
        ...


class Backbone(nn.Module):
    """A backbone as the type checker sees it."""

    def forward(self, inputs: dict[str, Tensor], lengths_R: Tensor) -> Tensor:
        """Return hidden states [R, L, H]."""
        raise NotImplementedError
