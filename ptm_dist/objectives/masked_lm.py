"""Masked language modelling."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.masking import choose_tokens, replace_tokens
from ptm_dist.rng import Draws


class MaskedLM(BaseModel):
    """Predict tokens that were hidden when the row was read, so every epoch hides others (dynamic masking).

    Source: Liu et al. 2019 (RoBERTa), section 4.1, and fairseq's mask_tokens_dataset.py: positions are drawn from all tokens,
    <s> and </s> included; random replacements are any token but <s>, <pad>, </s> and <unk>.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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
        return _predictable(self.predict_special, vocabulary)

    def corrupt(self, row: Row, vocabulary: Vocabulary, draws: Draws) -> Row:
        """Hide `rate` of the tokens: 80 % become the mask token, 10 % a random one, 10 % stay.

        Raises:
            ConfigError: the tokenizer has no mask token.

        """
        if vocabulary.mask is None:
            raise ConfigError("tokenizer: it has no mask token, which masked_lm needs. Take causal_lm, or a tokenizer that has one.")
        tokens = row.inputs["tokens"].astype(np.int64)
        chosen = choose_tokens(np.flatnonzero(self.predictable(vocabulary)[tokens]), self.rate, draws)
        hidden = replace_tokens(tokens, chosen, vocabulary.mask, _replacements(vocabulary), draws)
        return Row(row.inputs | {"tokens": hidden}, row.targets | {self.kind: Targets(chosen, tokens[chosen])})


@lru_cache(maxsize=16)
def _predictable(special: bool, vocabulary: Vocabulary) -> np.ndarray:
    allowed = np.ones(vocabulary.size, dtype=bool)
    allowed[list({vocabulary.pad, vocabulary.mask} - {None} if special else vocabulary.special_ids)] = False
    return allowed


@lru_cache(maxsize=16)
def _replacements(vocabulary: Vocabulary) -> np.ndarray:
    never = set(vocabulary.special_ids) - {vocabulary.mask}
    return np.setdiff1d(np.arange(vocabulary.size), list(never))
