"""Masked language modelling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, model_validator

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.marks import ENTITY, PHRASE, WORD
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataIntegrityError
from ptm_dist.masking import (
    Chosen,
    Replacement,
    Units,
    choose_count,
    choose_each,
    choose_fitting,
    choose_spans,
    replaced,
    tokens_of,
    units_of,
)
from ptm_dist.objectives.base import Objective, allowed
from ptm_dist.plugins import plugin
from ptm_dist.rng import RowDraws, share_of

_BITS: Final = {"word": WORD, "phrase": PHRASE, "entity": ENTITY}
_BLOCK_TOKENS: Final = 1 << 15
"""Tokens that are worked on at once, padding included: their words fit into a core's own cache."""

Share = Annotated[float, Field(gt=0, lt=1)]
_SHARE: Final = TypeAdapter(Share)


class Ramp(BaseModel):
    """A rate that goes in a straight line from one value to another over the first steps of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    start: Share
    end: Share
    steps: Annotated[int, Field(ge=1)]


class Ngrams(BaseModel):
    """Spans of n units, as likely as 1 / n (ALBERT)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["ngrams"] = "ngrams"
    most: Annotated[int, Field(ge=2)] = 3

    @property
    def weights(self) -> tuple[float, ...]:
        """How likely 1, 2, ... units are, in proportion."""
        return tuple(1 / count for count in range(1, self.most + 1))


class Geometric(BaseModel):
    """Spans of n units, as likely as (1 - stop)^n, of `most` at most; 3.8 in the mean as it stands (SpanBERT)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["geometric"] = "geometric"
    stop: Share = 0.2
    most: Annotated[int, Field(ge=2)] = 10

    @property
    def weights(self) -> tuple[float, ...]:
        """How likely 1, 2, ... units are, in proportion."""
        return tuple((1 - self.stop) ** count for count in range(self.most))


SPANS: Final[dict[str, type[BaseModel]]] = {"ngrams": Ngrams, "geometric": Geometric}


def _number_or_ramp(value: Any) -> Any:
    if isinstance(value, dict):
        return Ramp.model_validate_json(json.dumps(value))
    return value if isinstance(value, Ramp) else _SHARE.validate_python(value, strict=True)


class MaskedLM(Objective):
    """Predict tokens that were hidden when the row was read, so every epoch hides others (dynamic masking).

    As it stands it is RoBERTa's. BERT is `choose: budget, predict_special: false, random_ids: all`, for whole words with `unit: word`;
    ALBERT adds `spans: {kind: ngrams}, most: 20`, SpanBERT `spans: {kind: geometric}, action_per: group`. ERNIE 1.0 is `unit: phrase,
    choose: each, predict_special: false, random_ids: all_but_pad`; fairseq's whole words are `unit: word, action_per: group`.

    Source: Liu et al. 2019 (RoBERTa), section 4.1; fairseq, mask_tokens_dataset.py; google-research/bert and google-research/albert,
    create_pretraining_data.py; Baidu's ERNIE, batching.py; Joshi et al. 2020 (SpanBERT), section 3.1. Spans pass over [SEP], as in the code
    of ALBERT. Deviations: where special tokens are not predicted the unknown token is not either, and it ends a unit; near the end of a row
    ALBERT's code gives an n-gram the words that are left, where its n is drawn among those that fit here; SpanBERT looks for places until a
    budget is rounded up and full, and cuts the last span inside a word, where spans that do not fit get fewer words here.
    """

    kind: Literal["masked_lm"] = "masked_lm"
    unit: Annotated[
        Literal["token", "word", "phrase", "entity"],
        Field(description="what is hidden whole or not at all; all but tokens need corpus.units"),
    ] = "token"
    spans: Annotated[
        Annotated[Any, plugin(SPANS)] | None,
        Field(description="how many units side by side are hidden together: ngrams, geometric; with a budget"),
    ] = None
    choose: Annotated[
        Literal["share", "budget", "each"],
        Field(
            description="share: `rate` of the units, rounded at random so that the mean is exact; budget: units in random order, each that "
            "still fits into `rate` of all tokens, rounded, at least 1; each: every unit with probability `rate`"
        ),
    ] = "share"
    rate: Annotated[
        Any,
        PlainValidator(_number_or_ramp, json_schema_input_type=Share | Ramp),
        Field(description="how much of a row is predicted: a number, or {start, end, steps}, in a straight line over the first steps"),
    ] = 0.15
    most: Annotated[int | None, Field(ge=1, description="most tokens of a budget")] = None
    predict_special: Annotated[bool, Field(description="may <s> and </s> be chosen? RoBERTa: yes, BERT: no")] = True
    mask_share: Annotated[float, Field(ge=0, le=1, description="share of the chosen that become the mask token")] = 0.8
    random_share: Annotated[float, Field(ge=0, le=1, description="share of the chosen that become a random token; the rest stay")] = 0.1
    random_ids: Annotated[
        Literal["text_or_mask", "all_but_pad", "all"],
        Field(description="which tokens random ones are; text is all but <s>, <pad>, </s>, <unk>"),
    ] = "text_or_mask"
    action_per: Annotated[
        Literal["token", "group"], Field(description="is mask, random or stay drawn for each token, or once for what is hidden together?")
    ] = "token"
    static_masks: Annotated[
        int, Field(ge=0, description="masks of a row, used in turn by the epochs (static masking); 0: another one every epoch")
    ] = 0

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.choose != "budget" and (self.spans or self.most):
            raise ValueError(f"{'spans' if self.spans else 'most'} goes with a budget; add choose: budget, or remove it")
        if self.mask_share + self.random_share > 1:
            raise ValueError("mask_share and random_share are more than 1 together; lower one")
        return self

    @property
    def head(self) -> HeadSpec:
        """A projection onto the vocabulary at target positions only."""
        return HeadSpec("masked_lm")

    @property
    def needs_marks(self) -> bool:
        """Units of more than a token are known by their marks."""
        return self.unit != "token"

    @property
    def reads(self) -> frozenset[str]:
        """The marks of units of more than a token."""
        return frozenset({"marks"} if self.needs_marks else ())

    @property
    def variants(self) -> int:
        """As many as there are static masks."""
        return self.static_masks

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target: bool [vocabulary size]."""
        special = {vocabulary.pad, vocabulary.mask} if self.predict_special else vocabulary.special_ids
        return allowed(vocabulary.size, frozenset(special))

    def rate_at(self, step: int | None) -> float:
        """Return the rate at a step; None is after the last."""
        if not isinstance(self.rate, Ramp):
            return self.rate
        done = 1.0 if step is None else min(1.0, step / self.rate.steps)
        return self.rate.start * (1 - done) + self.rate.end * done

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Hide tokens; the labels are what they were.

        Raises:
            ConfigError: the tokenizer has no mask token.
            DataIntegrityError: rows lack the marks of units.

        """
        if vocabulary.mask is None:
            raise ConfigError("tokenizer: it has no mask token, which masked_lm needs. Take causal_lm, or a tokenizer that has one.")
        if self.needs_marks and not all("marks" in row.inputs for row in rows):
            raise DataIntegrityError(f"masked_lm: rows have no marks, so no {self.unit} is known. Prepare the data with corpus.units.")
        longest = max((len(row.inputs["tokens"]) for row in rows), default=0)
        most = max(1, _BLOCK_TOKENS // max(1, longest))
        found = []
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            block = Block.of(part, vocabulary.pad, _BITS.get(self.unit, 0))
            found += self._rows(part, block, self.hide(block, vocabulary, draws.part(start, start + most), step))
        return found

    def hide(self, block: Block, vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> Hidden:
        """Return the tokens of a block as the model sees them, and the places of those that are hidden.

        The first stream of a row has a word for its count, one for each token to choose by, then for each hidden token one that says what
        becomes of it, then again for each one that says which random token. The second has one for each token, for the length of a span.
        """
        length, rate = block.tokens.shape[1], self.rate_at(step)
        words = draws.words(1 + length + 2 * self._most_hidden(length, rate))
        units = units_of(self.predictable(vocabulary)[block.tokens], block.goes_on, words[:, 1 : 1 + length])
        if self.spans:
            chosen = choose_spans(units, self._budgets(block.lengths, rate), self.spans.weights, share_of(draws.words(length, 1)))
        else:
            places = self._choose(units, block.lengths, rate, share_of(words[:, 0]))
            chosen = Chosen(places, places)
        chosen = tokens_of(units, chosen)
        pool = _pool(vocabulary, self.random_ids)
        replacement = Replacement(vocabulary.mask or 0, self.mask_share, pool, self.random_share, self.action_per == "group")
        return Hidden(replaced(block.tokens, chosen, replacement, words, 1 + block.lengths), chosen.places)

    def _choose(self, units: Units, lengths: np.ndarray, rate: float, chances: np.ndarray) -> np.ndarray:
        if self.choose == "each":
            return choose_each(units, rate)
        if self.choose == "budget":
            return choose_fitting(units, self._budgets(lengths, rate))
        return choose_count(units, (rate * units.starts.sum(axis=1) + chances).astype(np.int64))

    def _budgets(self, lengths: np.ndarray, rate: float) -> np.ndarray:
        budgets = np.maximum(1, np.rint(rate * lengths).astype(np.int64))
        return np.minimum(budgets, self.most) if self.most else budgets

    def _most_hidden(self, length: int, rate: float) -> int:
        """Return how many tokens of a row can be hidden at most."""
        if self.choose == "budget":
            return int(self._budgets(np.array(length), rate))
        return int(rate * length) + 1 if self.choose == "share" and self.unit == "token" else length

    def _rows(self, rows: Sequence[Row], block: Block, hidden: Hidden) -> list[Row]:
        length = block.tokens.shape[1]
        positions, labels = hidden.places % length, block.tokens.reshape(-1)[hidden.places]
        ends = np.searchsorted(hidden.places, np.arange(1, len(rows) + 1) * length).tolist()
        found, start = [], 0
        for row, tokens, end, size in zip(rows, hidden.tokens, ends, block.lengths.tolist(), strict=True):
            targets = Targets(positions[start:end], labels[start:end])
            found.append(Row(row.inputs | {"tokens": tokens[:size]}, row.targets | {self.kind: targets}))
            start = end
        return found


class Block(NamedTuple):
    """Rows padded to one length."""

    tokens: np.ndarray
    """int64 [rows, length]"""
    lengths: np.ndarray
    """int64 [rows]"""
    goes_on: np.ndarray | None = None
    """Which tokens go on with the unit of the one before, bool [rows, length]; None where every token is a unit."""

    @classmethod
    def of(cls, rows: Sequence[Row], pad: int, bit: int) -> Block:
        """Return the block of some rows, whose units are in a bit of their marks; none for 0."""
        lengths = np.array([len(row.inputs["tokens"]) for row in rows], dtype=np.int64)
        tokens = np.full((len(rows), lengths.max(initial=1)), pad, dtype=np.int64)
        marks = np.zeros(tokens.shape if bit else 0, dtype=np.uint8)
        for number, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
            tokens[number, :length] = row.inputs["tokens"]
            if bit:
                marks[number, :length] = row.inputs["marks"]
        return cls(tokens, lengths, (marks & bit) != 0 if bit else None)


class Hidden(NamedTuple):
    """A block with some tokens hidden."""

    tokens: np.ndarray
    """What the model sees, int64 [rows, length]."""
    places: np.ndarray
    """Which places are hidden, ascending: int64 [targets]."""


@lru_cache(maxsize=64)
def _pool(vocabulary: Vocabulary, random_ids: str) -> np.ndarray:
    """Return the ids that random tokens are drawn from."""
    text = set(vocabulary.special_ids) - {vocabulary.mask}
    never = {"text_or_mask": text, "all_but_pad": {vocabulary.pad}, "all": set()}[random_ids]
    return np.flatnonzero(allowed(vocabulary.size, frozenset(never)))
