"""BERT's pairs of segments out of documents, for next-sentence or for sentence-order prediction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example, token_dtype
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.rng import Draws

TRIES: Final = 10
"""How often another document is looked for, as in the reference."""

Segment = list[np.ndarray]
"""Sentences, int32 [tokens] each."""


class DocumentPair(BaseModel):
    """[CLS] A [SEP] B [SEP], where A and B are runs of whole sentences that fill a row, and a label of how they belong together.

    `nsp`: B goes on where A ends (label 0), or is from another document (label 1): half of the time, and always where a run is of one
    sentence, so more than half of all. What a random B pushes out is used again for the next run. `sop`: B goes on where A ends (0), or
    the two are swapped (1), half of the time; a run of one sentence makes no pair.

    Draws depend on `seed` and on the id of a document, so other documents change no pair but the random half of some.

    Source: google-research/bert and google-research/albert, create_pretraining_data.py. Deviations: masks are not drawn here but when
    a row is read; other documents are those of the same part of the corpus; ALBERT's code makes a negative with another document out of
    a run of one sentence, which its paper does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["document_pair"] = "document_pair"
    length: Annotated[int, Field(ge=8, le=65_536)]
    """Most tokens of a row, [CLS] and both [SEP] included."""
    pair: Literal["nsp", "sop"] = "nsp"
    short_share: Annotated[
        float, Field(ge=0, le=1, description="share of documents, in each pass, whose rows have a shorter target length")
    ] = 0.1
    passes: Annotated[int, Field(ge=1, description="times that each document is cut anew")] = 1
    seed: Annotated[int, Field(ge=0)] = 12345

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary) -> Iterator[Example]:
        """Yield rows {"tokens": [<= length], "segments": 0 up to the first [SEP], then 1, "label": 0 or 1}."""
        usable = [found for document in documents if (found := _Sentences.of(document)).sentences]
        dtype = token_dtype(vocabulary.size)
        for number in range(self.passes):
            for index, document in enumerate(usable):
                draws = _Dice(Draws(self.seed, "document_pair", document.key, number))
                for first, second, label in self._pairs(usable, index, draws):
                    one, two = _truncated(first, second, self.length - 3, draws)
                    parts = [[vocabulary.begin], one, [vocabulary.end], two, [vocabulary.end]]
                    tokens = np.concatenate(parts).astype(dtype)
                    segments = (np.arange(len(tokens)) >= len(one) + 2).astype(np.uint8)
                    yield {"tokens": tokens, "segments": segments, "label": np.array(label, dtype=np.uint8)}

    def _pairs(self, documents: list[_Sentences], index: int, draws: _Dice) -> Iterator[tuple[Segment, Segment, int]]:
        sentences, most = documents[index].sentences, self.length - 3
        target = draws.between(2, most) if draws.share() < self.short_share else most
        start = 0
        while start < len(sentences):
            end = _end_of_run(sentences, start, target)
            cut = start + (1 if end - start < 2 else draws.between(1, end - start - 1))
            first, rest = sentences[start:cut], sentences[cut:end]
            if self.pair == "sop":
                if rest:
                    yield (rest, first, 1) if draws.share() < 0.5 else (first, rest, 0)
                start = end
                continue
            random = not rest or draws.share() < 0.5
            other = self._other(documents, index, target - sum(map(len, first)), draws) if random and len(documents) > 1 else []
            if other:
                yield first, other, 1
                start = cut
            else:
                if rest:
                    yield first, rest, 0
                start = end

    def _other(self, documents: list[_Sentences], index: int, target: int, draws: _Dice) -> Segment:
        """Return sentences from a place in another document, as many as reach `target` tokens; none if no other is found."""
        for _ in range(TRIES):
            if (found := draws.between(0, len(documents) - 1)) != index:
                sentences = documents[found].sentences
                start = draws.between(0, len(sentences) - 1)
                return sentences[start : _end_of_run(sentences, start, target)]
        return []


class _Sentences:
    """The sentences of a document that are not empty, and a number that stands for its id."""

    def __init__(self, sentences: Segment, key: int) -> None:
        self.sentences, self.key = sentences, key

    @classmethod
    def of(cls, document: TokenizedDocument) -> _Sentences:
        key = hashlib.blake2b(document.id.encode(), digest_size=8).digest()
        return cls([sentence for sentence in document.sentences if len(sentence)], int.from_bytes(key, "little"))


class _Dice:
    """Draws one after the other."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def share(self) -> float:
        """Return a number in [0, 1)."""
        return float(self._draws.uniform(1)[0])

    def between(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included; low where high is less."""
        return low + int(self.share() * max(1, high - low + 1))


def _end_of_run(sentences: Segment, start: int, target: int) -> int:
    """Return where a run from `start` ends that has one sentence at least and as many as reach `target` tokens."""
    end, filled = start + 1, len(sentences[start])
    while end < len(sentences) and filled < target:
        filled += len(sentences[end])
        end += 1
    return end


def _truncated(first: Segment, second: Segment, most: int, draws: _Dice) -> tuple[np.ndarray, np.ndarray]:
    """Take tokens from the longer of the two, the second where they are equal, at either end, until both fit."""
    one, two = np.concatenate(first), np.concatenate(second)
    while len(one) + len(two) > most:
        front = draws.share() < 0.5
        if len(one) > len(two):
            one = one[1:] if front else one[:-1]
        else:
            two = two[1:] if front else two[:-1]
    return one, two
