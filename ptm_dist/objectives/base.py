"""What every objective is: a change of a row drawn when it is read, with targets for a head."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ptm_dist.data.batch import HeadSpec, Row
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.rng import Draws


class Objective(Protocol):
    """A training objective; it is its own configuration."""

    kind: str

    @property
    def head(self) -> HeadSpec:
        """The head that predicts the targets; it computes the loss."""
        ...

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target, bool [vocabulary size]; only asked of objectives over the vocabulary."""
        ...

    def corrupt(self, row: Row, vocabulary: Vocabulary, draws: Draws) -> Row:
        """Return `row` as the model sees it, with targets added under the objective's name."""
        ...
