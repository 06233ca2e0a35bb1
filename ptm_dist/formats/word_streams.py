"""ELMo's two streams of words: one that is read forward, one that is read backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example, token_dtype
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.formats.base import Format, Length, Skipped, example, filled, special
from ptm_dist.rng import Draws


def _even(length: int) -> int:
    if length % 2:
        raise ValueError(f"{length} is odd; half of a row's words are read forward and half backward: write {length - 1} or {length + 1}")
    return length


class WordStreams(Format):
    """Rows whose first half is the next piece of a forward stream, and whose second half is the next piece of a backward stream.

    A sentence w1 ... wn is once in each: forward as inputs <S> w1 ... wn with targets w1 ... wn </S>, backward as inputs </S> wn ... w1
    with targets wn ... w1 <S>. The streams go on over sentences and rows without padding, and each has an order of sentences of its own.
    The row after the last whole one is as short as it must be, so no word is lost.

    Source: Peters et al. 2018, section 3.1; allenai/bilm-tf, data.py, BidirectionalLMDataset. Deviations: an order is drawn once for some
    millions of words, where the reference draws one whenever it opens a file, so here every epoch reads the same rows; a lane is a part of
    the streams and may begin inside a sentence, where the rows of a reference batch take turns at the next sentence.
    """

    stateful: ClassVar[bool] = True

    kind: Literal["word_streams"] = "word_streams"
    length: Annotated[Length, AfterValidator(_even)] = 40
    """Words of a row, <S> and </S> included: twice the steps that gradients flow back."""
    seed: Annotated[int, Field(ge=0)] = 12345

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `letters`, those of the inputs, and `targets`, the id to predict at each position.

        Sentences are shuffled within `documents`. A target is often an input of the next row, so it is stored. The letters of <S> and </S>
        are empty: their ids tell.

        Raises:
            ConfigError: the tokenizer does not spell words.

        """
        sentences: list[np.ndarray] = []
        for document in documents:
            found = filled(document)
            skipped["empty"] += not found
            sentences += found
        if not sentences:
            return
        if "letters" not in (sentences[0].dtype.names or ()):
            raise ConfigError(
                "tokenizer: word_streams needs the letters of words, which only a tokenizer of whole words gives: kind: words."
            )
        begin, end = special(vocabulary.begin, sentences[0]), special(vocabulary.end, sentences[0])
        words = np.concatenate([part for sentence in sentences for part in (begin, sentence, end)])
        sizes = np.array([len(sentence) + 1 for sentence in sentences])
        begins = np.cumsum(sizes + 1) - (sizes + 1)
        forward, backward = self._stream(begins, sizes, 1), self._stream(begins + sizes, sizes, -1)
        ids, half = words["id"].astype(token_dtype(vocabulary.size)), self.length // 2
        for start in range(0, len(forward), half):
            ahead, back = forward[start : start + half], backward[start : start + half]
            yield example([words[ahead], words[back]], vocabulary, targets=np.concatenate([ids[ahead + 1], ids[back - 1]]))

    def _stream(self, firsts: np.ndarray, sizes: np.ndarray, step: int) -> np.ndarray:
        """Return where the inputs of a stream lie: of each sentence `sizes` from `firsts` on, in steps of 1 or -1."""
        order = Draws(self.seed, "word_streams", step).permutation(len(sizes))
        firsts, sizes = firsts[order], sizes[order]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.repeat(firsts, sizes) + step * within
