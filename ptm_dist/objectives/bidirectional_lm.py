"""ELMo's language model: each word from those before it, and from those after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.characters import character_ids_of_letters
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.base import Objective, allowed
from ptm_dist.rng import RowDraws


class BidirectionalLM(Objective):
    """Predict at every position of a row of two streams the word that comes next in its stream.

    The loss is published as half the mean of the forward stream plus half that of the backward stream. A row has as many words of the one
    as of the other, so this is the mean over all targets. The reference differentiates it times the steps of a stream, 20: that is
    `weight: 20`. Words that the vocabulary lacks are read by their characters; as targets all of them are the unknown word.

    Source: Peters et al. 2018, section 3.1; allenai/bilm-tf, training.py.
    """

    kind: Literal["bidirectional_lm"] = "bidirectional_lm"

    @property
    def head(self) -> HeadSpec:
        """A softmax over all words for both directions, apart from the input."""
        return HeadSpec("bidirectional_lm")

    @property
    def reads(self) -> frozenset[str]:
        """`letters`, the bytes of each word, and `targets`, the id to predict at each position."""
        return frozenset({"letters", "targets"})

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target: all but the padding, ends of sentences and the unknown word included."""
        return allowed(vocabulary.size, frozenset({vocabulary.pad} - {vocabulary.begin, vocabulary.end, vocabulary.unknown}))

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Add `characters`, int64 [L, 50], and leave the rest of the rows as it is.

        Raises:
            DataIntegrityError: the format gave no letters or no targets.

        """
        if any(not self.reads <= row.inputs.keys() for row in rows):
            raise DataIntegrityError("bidirectional_lm: rows have no letters or no targets. Take a format that gives both: word_streams.")
        return [self._with_characters(*pair) for pair in zip(rows, _characters(rows, vocabulary), strict=True)]

    def _with_characters(self, row: Row, characters_LC: np.ndarray) -> Row:
        labels = row.inputs["targets"].astype(np.int64)
        return Row(row.inputs | {"characters": characters_LC}, row.targets).with_targets(self.kind, Targets(np.arange(len(labels)), labels))


def _characters(rows: Sequence[Row], vocabulary: Vocabulary) -> list[np.ndarray]:
    """Return the characters of each row; those of all rows are made at once."""
    if not rows:
        return []
    tokens, letters = (np.concatenate([row.inputs[name] for row in rows]) for name in ("tokens", "letters"))
    characters = character_ids_of_letters(letters, tokens == vocabulary.begin, tokens == vocabulary.end)
    return np.split(characters, np.cumsum([len(row.inputs["tokens"]) for row in rows])[:-1])
