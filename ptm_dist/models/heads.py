"""Heads: hidden states at target positions to logits, and logits to a loss.

Shape letters: R rows, L length, H hidden, V vocabulary, T targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptm_dist.models.base import cut

ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class LossSum(NamedTuple):
    """The loss in nats, summed over targets; whoever knows the global count divides. `correct` counts right predictions."""

    sum: Tensor
    targets: int
    correct: Tensor


def exact(x: Tensor) -> Tensor:
    """Return fp32 of whatever is less precise; fp64 stays."""
    return x if x.dtype is torch.float64 else x.float()


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> LossSum:
    """Sum the cross-entropy in fp32, whatever the precision of the logits [T, classes]; fp64 stays."""
    total = F.cross_entropy(exact(logits), labels, reduction="sum")
    with torch.no_grad():
        correct = (logits.argmax(-1) == labels).sum()
    return LossSum(total, len(labels), correct)


class Head(nn.Module):
    """What every head does."""

    views: int = 1
    """Targets that stand for one prediction; they follow one another."""

    def encode(self, states_NLH: Tensor, lengths_N: Tensor) -> Tensor:
        """Return what `forward` looks at from what the backbone made of single sequences: by default just that."""
        return states_NLH

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return logits [T, classes] at `positions_T`, which count through the flattened [R x L]."""
        raise NotImplementedError

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the loss of the labels, int64 [T], at those positions."""
        return cross_entropy_sum(self(hidden_RLH, positions_T), labels_T)

    def loss_by_row(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor, rows_T: Tensor) -> LossSum:
        """Return the means over the targets of each row, added over rows; targets are told apart by the numbers of their rows."""
        logits = exact(self(hidden_RLH, positions_T))
        _, row_T, counts_R = rows_T.unique(return_inverse=True, return_counts=True)
        share_T = counts_R.to(logits.dtype).reciprocal()[row_T]
        total = (F.cross_entropy(logits, labels_T, reduction="none") * share_T).sum()
        return LossSum(total, len(counts_R), ((logits.argmax(-1) == labels_T) * share_T).sum())


class MaskedLMHead(Head):
    """Transform to the width of the word table, then project onto the table, which the embedding uses too."""

    def __init__(self, hidden: int, activation: str, norm_eps: float, word_table: nn.Parameter, vocabulary_size: int) -> None:
        super().__init__()
        width = word_table.shape[1]
        self.dense = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.activation = ACTIVATIONS[activation]
        self.project = TiedProjection(word_table, vocabulary_size)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return logits [T, V]."""
        return self.project(self.norm(self.activation(self.dense(hidden_RLH.flatten(0, 1)[positions_T]))))


class TiedProjection(nn.Module):
    """Project onto the word table of the backbone."""

    def __init__(self, word_table: nn.Parameter, vocabulary_size: int, bias: bool = True) -> None:
        super().__init__()
        self.word_table = word_table
        self.vocabulary_size = vocabulary_size
        self.bias = nn.Parameter(torch.zeros(word_table.shape[0])) if bias else None
        if self.bias is not None:
            cut(self.bias, vocabulary_size)

    def forward(self, x_TH: Tensor) -> Tensor:
        """Return logits [T, V]; the rows that only fill the table up are cut off."""
        return F.linear(x_TH, self.word_table, self.bias)[:, : self.vocabulary_size]


class TiedLMHead(Head):
    """Project hidden states straight onto the word table."""

    def __init__(self, word_table: nn.Parameter, vocabulary_size: int, bias: bool) -> None:
        super().__init__()
        self.project = TiedProjection(word_table, vocabulary_size, bias)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return logits [T, V]."""
        return self.project(hidden_RLH.flatten(0, 1)[positions_T])


class Pooler(nn.Module):
    """The summary of a row: tanh of a projection of one state, of which some may be dropped."""

    def __init__(self, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, x_TH: Tensor) -> Tensor:
        """Return [T, H]."""
        return torch.tanh(self.dense(self.dropout(x_TH)))


class ClassifierHead(Head):
    """A linear classifier at target positions: of every token, or of a sequence by the state of one token, through the pooler."""

    def __init__(self, hidden: int, classes: int, pooler: nn.Module | None = None) -> None:
        super().__init__()
        self.pooler = pooler
        self.classify = nn.Linear(hidden, classes)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return logits [T, classes]."""
        x_TH = hidden_RLH.flatten(0, 1)[positions_T]
        return self.classify(x_TH if self.pooler is None else self.pooler(x_TH))
