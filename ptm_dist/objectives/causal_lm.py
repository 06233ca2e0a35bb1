"""Causal language modelling."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.objectives.base import Objective, allowed
from ptm_dist.rng import RowDraws


class CausalLM(Objective):
    """Predict each token of a row from those before it; the first has none and is no target.

    Beside a labelled task it is GPT's auxiliary objective, with `weight: 0.5` and `per_row`: the mean over rows of the mean over their
    targets, where rows that stand side by side count each by itself.

    Source: Radford et al. 2018 (GPT), sections 3.1 and 3.2; openai/finetune-transformer-lm, train.py.
    """

    kind: Literal["causal_lm"] = "causal_lm"
    # Left out of recipes that do not say it, so that the digests of runs from before there was such a setting stay.
    per_row: Annotated[bool, Field(exclude_if=operator.not_, description="a row counts as one, however many targets it has")] = False

    @property
    def head(self) -> HeadSpec:
        """A projection onto the vocabulary at every position."""
        return HeadSpec("causal_lm")

    @property
    def averages_rows(self) -> bool:
        """What `per_row` says."""
        return self.per_row

    @property
    def reads(self) -> frozenset[str]:
        """`part`, uint8 a token, in rows that hold several."""
        return frozenset({"part"})

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target: all but the padding, unless the padding ends texts too."""
        return allowed(vocabulary.size, frozenset({vocabulary.pad} - {vocabulary.end}))

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Leave the rows as they are; the label at a position is the token that follows."""
        return [row.with_targets(self.kind, _next(row)) for row in (row.beside(vocabulary.pad) for row in rows)]


def _next(row: Row) -> Targets:
    lengths = np.atleast_1d(row.lengths)
    tokens_LK = row.inputs["tokens"].reshape(-1, len(lengths)).astype(np.int64)
    followed_LK = np.arange(len(tokens_LK))[:, None] + 1 < lengths
    return Targets(np.flatnonzero(followed_LK), tokens_LK[1:][followed_LK[:-1]])
