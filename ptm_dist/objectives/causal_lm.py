"""Causal language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.objectives.base import Objective, allowed
from ptm_dist.rng import RowDraws


class CausalLM(Objective):
    """Predict each token of a row from those before it; the first has none and is no target.

    Source: Radford et al. 2018 (GPT), section 3.1.
    """

    kind: Literal["causal_lm"] = "causal_lm"

    @property
    def head(self) -> HeadSpec:
        """A projection onto the vocabulary at every position."""
        return HeadSpec("causal_lm")

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target: all but the padding, unless the padding ends texts too."""
        return allowed(vocabulary.size, frozenset({vocabulary.pad} - {vocabulary.end}))

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Leave the rows as they are; the label at a position is the token that follows."""
        return [row.with_targets(self.kind, _next(row.inputs["tokens"])) for row in rows]


def _next(tokens: np.ndarray) -> Targets:
    return Targets(np.arange(len(tokens) - 1), tokens[1:].astype(np.int64))
