"""What every objective is: a change of a row drawn when it is read, and a loss as a sum and a count."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ptm_dist.data.batch import HeadSpec, Row
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.rng import Draws


class LossSum(NamedTuple):
    """The loss in nats, summed over targets; whoever knows the global count divides. `correct` counts right predictions."""

    sum: Tensor
    targets: int
    correct: Tensor


class Objective(Protocol):
    """A training objective; it is its own configuration."""

    kind: str

    @property
    def head(self) -> HeadSpec:
        """The head that the loss is computed from."""
        ...

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target, bool [vocabulary size]; only asked of objectives over the vocabulary."""
        ...

    def corrupt(self, row: Row, vocabulary: Vocabulary, draws: Draws) -> Row:
        """Return `row` as the model sees it, with targets added under the objective's name."""
        ...

    def loss(self, logits: Tensor, labels: Tensor) -> LossSum:
        """Return the loss of logits [targets, classes] against labels int64 [targets]."""
        ...


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> LossSum:
    """Sum the cross-entropy in fp32, whatever the precision of the logits [targets, classes]."""
    total = F.cross_entropy(logits.float(), labels, reduction="sum")
    with torch.no_grad():
        correct = (logits.argmax(-1) == labels).sum()
    return LossSum(total, len(labels), correct)
