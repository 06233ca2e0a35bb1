"""Permutation language modelling."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.marks import WORD
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.objectives.base import Objective, allowed
from ptm_dist.rng import Draws, RowDraws


class PermutationLM(Objective):
    """Predict one token in `one_in`, most in spans, each from the tokens not asked for and from those before it in a random order.

    A row has two parts that are drawn apart: the first `reuse` tokens, where the format says so, and the others, which see all of the
    first. In each, spans are laid from left to right: n tokens, n from 1 to `longest` as likely as 1 / n, somewhere in `context` times n
    others, moved on to where a word starts if the row has marks of words. Single tokens, drawn from the whole part, fill up to the goal.
    Among these <sep> and <cls> count, but are no targets. Then all that was chosen, <sep> and <cls> get ranks: `models.xlnet` says how
    orders make what is seen. In rows that run backward words start at the other end; spans are laid along the text all the same.

    Source: Yang et al. 2019, sections 2.2 to 2.4 (K is `one_in`); zihangdai/xlnet, data_utils.py. A span is n pieces of words and may end
    inside one, as in the data its models learned from, where the paper says n words. Of 512 tokens 85 are chosen, 43 and 42. Deviations:
    spans are drawn at each reading like the order, not once with the data; a goal of tokens goes to the parts by their lengths, in the
    reference in halves; a row without `reuse` is one part.
    """

    kind: Literal["permutation_lm"] = "permutation_lm"
    one_in: Annotated[int, Field(ge=2, description="one of so many tokens is chosen")] = 6
    longest: Annotated[int, Field(ge=1, description="most tokens of a span")] = 5
    context: Annotated[int, Field(ge=1, description="tokens kept around a span, for each of its own")] = 6

    @property
    def head(self) -> HeadSpec:
        """A projection onto the vocabulary at target positions only."""
        return HeadSpec("permutation_lm")

    @property
    def reads(self) -> frozenset[str]:
        """The marks of words, and where the first part ends."""
        return frozenset({"marks", "reuse"})

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target: the ends of documents too, no other special token but the unknown."""
        return allowed(vocabulary.size, frozenset({vocabulary.begin, vocabulary.end, vocabulary.pad, vocabulary.mask}))

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Leave the tokens as they are, and add `key_order` and `query_order`, int64 [tokens] each."""
        text = self.predictable(vocabulary)
        return [self._ordered(row, text, draws.of(index)) for index, row in enumerate(rows)]

    def _ordered(self, row: Row, text: np.ndarray, draws: Draws) -> Row:
        tokens = row.inputs["tokens"].astype(np.int64)
        starts = (row.inputs["marks"] & WORD) == 0 if "marks" in row.inputs else np.ones(len(tokens), dtype=bool)
        backward = "backward" in row.inputs and bool(row.inputs["backward"][0])
        middle, length = int(row.inputs.get("reuse", 0)), len(tokens)
        goal = length // self.one_in
        second = goal * (length - middle) // max(1, length)
        target, keys = np.empty(length, dtype=bool), np.empty(length, dtype=np.int64)
        for part, count, raised in ((slice(0, middle), goal - second, 0), (slice(middle, length), second, middle + 1)):
            chosen = self._choose(starts[part][::-1], count, draws)[::-1] if backward else self._choose(starts[part], count, draws)
            target[part] = chosen & text[tokens[part]]
            keys[part] = np.where(chosen | ~text[tokens[part]], draws.permutation(len(chosen)), -1) + raised
        positions = np.flatnonzero(target)
        orders = {"key_order": keys, "query_order": keys + ~target}
        return Row(row.inputs | orders, row.targets).with_targets(self.kind, Targets(positions, tokens[positions]))

    def _choose(self, starts: np.ndarray, goal: int, draws: Draws) -> np.ndarray:
        """Return which tokens of a part are chosen, bool; `starts` says which begin a word."""
        chosen = self._spans(starts, goal, draws)
        order = draws.permutation(len(starts))
        chosen[order[~chosen[order]][: goal - int(chosen.sum())]] = True
        return chosen

    def _spans(self, starts: np.ndarray, goal: int, draws: Draws) -> np.ndarray:
        """Lay spans until the part or the goal ends; one that would reach the end of the part is not laid any more."""
        chosen, words = np.zeros(len(starts), dtype=bool), np.flatnonzero(starts).tolist()
        most = -(-len(starts) // (1 + self.context))
        sizes = 1 + np.searchsorted(_size_law(self.longest), draws.uniform(most), side="right")
        at = found = 0
        for wanted, share in zip(sizes.tolist(), draws.uniform(most).tolist(), strict=True):
            size = min(wanted, goal - found)
            left = int(share * size * self.context)
            word = bisect_left(words, at + left)
            if not size or word == len(words) or words[word] + size >= len(starts):
                break
            end = words[word] + size
            chosen[words[word] : end] = True
            at, found = end + size * self.context - left, found + size
        return chosen


@lru_cache(maxsize=16)
def _size_law(longest: int) -> np.ndarray:
    """Return the shares of spans of at most 1, 2, ... longest - 1 tokens, if n are as likely as 1 / n."""
    shares = np.cumsum(1 / np.arange(1, longest + 1))
    return shares[:-1] / shares[-1]
