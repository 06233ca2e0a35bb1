"""Causal language modelling."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.rng import Draws


class CausalLM(BaseModel):
    """Predict each token of a row from those before it; the first has none and is no target.

    Source: Radford et al. 2018 (GPT), section 3.1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["causal_lm"] = "causal_lm"

    @property
    def head(self) -> HeadSpec:
        """A projection onto the vocabulary at every position."""
        return HeadSpec("causal_lm")

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target: bool [vocabulary size]."""
        return _predictable(vocabulary)

    def corrupt(self, row: Row, vocabulary: Vocabulary, draws: Draws) -> Row:
        """Leave the row as it is; the label at a position is the token that follows."""
        tokens = row.inputs["tokens"].astype(np.int64)
        return Row(row.inputs, row.targets | {self.kind: Targets(np.arange(len(tokens) - 1), tokens[1:])})


@lru_cache(maxsize=16)
def _predictable(vocabulary: Vocabulary) -> np.ndarray:
    allowed = np.ones(vocabulary.size, dtype=bool)
    allowed[vocabulary.pad] = False
    return allowed
