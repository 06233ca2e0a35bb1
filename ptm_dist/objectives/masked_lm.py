"""Masked language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.masking import choose_tokens, replace_tokens
from ptm_dist.objectives.base import Objective, allowed
from ptm_dist.rng import Draws, RowDraws


class MaskedLM(Objective):
    """Predict tokens that were hidden when the row was read, so every epoch hides others (dynamic masking).

    Source: Liu et al. 2019 (RoBERTa), section 4.1, and fairseq's mask_tokens_dataset.py: positions are drawn from all tokens,
    <s> and </s> included; random replacements are any token but <s>, <pad>, </s> and <unk>.
    """

    kind: Literal["masked_lm"] = "masked_lm"
    unit: Literal["token"] = "token"
    rate: Annotated[float, Field(gt=0, lt=1, description="share of the tokens that are predicted")] = 0.15
    predict_special: Annotated[bool, Field(description="may <s> and </s> be chosen? RoBERTa: yes, BERT: no")] = True

    @property
    def head(self) -> HeadSpec:
        """A projection onto the vocabulary at target positions only."""
        return HeadSpec("masked_lm")

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target: bool [vocabulary size]."""
        special = {vocabulary.pad, vocabulary.mask} if self.predict_special else vocabulary.special_ids
        return allowed(vocabulary.size, frozenset(special))

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Hide `rate` of the tokens: 80 % become the mask token, 10 % a random one, 10 % stay.

        Raises:
            ConfigError: the tokenizer has no mask token.

        """
        if vocabulary.mask is None:
            raise ConfigError("tokenizer: it has no mask token, which masked_lm needs. Take causal_lm, or a tokenizer that has one.")
        return [self._hidden(row, vocabulary, draws.of(index)) for index, row in enumerate(rows)]

    def _hidden(self, row: Row, vocabulary: Vocabulary, draws: Draws) -> Row:
        tokens = row.inputs["tokens"].astype(np.int64)
        chosen = choose_tokens(np.flatnonzero(self.predictable(vocabulary)[tokens]), self.rate, draws)
        never = frozenset(set(vocabulary.special_ids) - {vocabulary.mask})
        replacements = np.flatnonzero(allowed(vocabulary.size, never))
        hidden = replace_tokens(tokens, chosen, vocabulary.mask or 0, replacements, draws)
        return Row(row.inputs | {"tokens": hidden}, row.targets).with_targets(self.kind, Targets(chosen, tokens[chosen]))
