"""XLNet's input: a stream of text that rows walk along, so that a model can carry memory, and after it a pair of segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, example, filled, joined, segments, special, truncated
from ptm_dist.rng import Dice, Draws

SPECIAL_TOKENS: Final = 3
"""Two <sep> and the <cls>."""


class MemorySegments(Format):
    """[stream | A | <sep> | B | <sep> | <cls>]: `reuse` tokens of the stream, then a pair that starts where they end.

    The next row goes on after those `reuse` tokens, so its part of the stream begins as A did. A ends where a sentence ends, each such
    place as likely as the others. B goes on where A ends (label 1); or, half of the time and where no sentence ends in time, begins with
    the sentence at a random place of the stream (label 0). What is too long loses tokens at the right end of the longer of the two.
    Labels are the other way round than in `segment_pair`, and XLNet does not train on them.

    The stream is that of the documents a writing task gets, in their order; each ends with <eod>, a sentence of its own. With
    `both_directions` the rows of the stream read right to left follow those read left to right: tokens run backward, <sep> and <cls>
    stand as in any row. So where a lane comes from one task to the next, from one direction to the other, or to its end and its start
    again, memory is of another text, as at the ends of the reference's files; nothing resets it.

    Draws depend on `seed`, on the id of the first document, on the direction and on the number of the row.

    Source: Yang et al. 2019, sections 2.4 and 2.5; zihangdai/xlnet, data_utils.py (the paper lists <cls> first). Deviations: there a
    stream is a row of a batch, and half of the rows of each batch run backward; files are shuffled there (their documents are not), here
    nothing is. As there, the end of a stream that fills no row is left over: fewer than `length` tokens. Where a tokenizer has no <eod>
    documents end with its `end`.
    """

    stateful: ClassVar[bool] = True

    kind: Literal["memory_segments"] = "memory_segments"
    length: Length
    """Tokens of a row, the special ones included; 512 in the paper."""
    reuse: Annotated[
        int | None, Field(ge=1, description="tokens by which rows advance, the model's reuse_length; by default half of length")
    ] = None
    both_directions: bool = True
    """Is the stream read right to left too?"""
    seed: Annotated[int, Field(ge=0)] = 12345

    @model_validator(mode="after")
    def _a_pair_has_room(self) -> Self:
        if self.pair_tokens < 2:
            raise ValueError(
                f"length {self.length} leaves no room for a pair: {self.reused} tokens are of the stream, {SPECIAL_TOKENS} special"
            )
        return self

    @property
    def classes(self) -> int:
        """Random or going on."""
        return 2

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return "goes on" if label else "random place"

    @property
    def reused(self) -> int:
        """Tokens of a row that are of the stream, and by which the next is further on."""
        return self.length // 2 if self.reuse is None else self.reuse

    @property
    def pair_tokens(self) -> int:
        """Tokens of A and B together."""
        return self.length - self.reused - SPECIAL_TOKENS

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` (0 up to the first <sep>, 1 up to the second, 2), `label`, `reuse`; in both directions `backward`.

        Documents without a token are counted as empty; where all together fill no row, the others as too_short.
        """
        found = list(documents)
        usable = [document for document in found if filled(document)]
        skipped["empty"] += len(found) - len(usable)
        if not usable:
            return
        stream, key = _stream(usable, vocabulary), usable[0].key
        if len(stream.tokens) < self.reused + self.pair_tokens:
            skipped["too_short"] += len(usable)
        yield from self._rows(stream, vocabulary, key, backward=False)
        if self.both_directions:
            yield from self._rows(stream.turned(), vocabulary, key, backward=True)

    def _rows(self, stream: _Stream, vocabulary: Vocabulary, key: int, *, backward: bool) -> Iterator[Example]:
        draws = Draws(self.seed, "memory_segments")
        end, begin = special(vocabulary.end, stream.tokens), special(vocabulary.begin, stream.tokens)
        last = len(stream.tokens) - self.reused - self.pair_tokens
        for number, start in enumerate(range(0, last + 1, self.reused)):
            middle = start + self.reused
            row_draws = Dice(draws.rekey(self.seed, "memory_segments", key, int(backward), number))
            one, two, label = stream.pair(middle, self.pair_tokens, row_draws)
            parts = [[stream.tokens[start:middle], one, end], [two, end], [begin]]
            fields = {
                "segments": segments(parts),
                "label": np.array(label, dtype=np.uint16),
                "reuse": np.array(self.reused, dtype=np.uint16),
            }
            if self.both_directions:
                fields["backward"] = np.full(self.length, backward, dtype=np.uint8)
            yield example([part for group in parts for part in group], vocabulary, **fields)


@dataclass(frozen=True)
class _Stream:
    """Tokens, and where their sentences end: int64, ascending, the last at the end of all."""

    tokens: np.ndarray
    ends: np.ndarray

    def turned(self) -> _Stream:
        """Return the stream read right to left."""
        count = len(self.tokens)
        return _Stream(self.tokens[::-1], np.append(count - self.ends[-2::-1], count))

    def pair(self, start: int, count: int, draws: Dice) -> tuple[np.ndarray, np.ndarray, int]:
        """Return A from `start` and B, `count` tokens together, and the label."""
        first, last = np.searchsorted(self.ends, (start + 1, start + count)).tolist()
        cuts, enough = self.ends[first:last], int(self.ends[last])
        goes_on = len(cuts) > 0 and draws.share() >= 0.5
        cut = int(cuts[draws.between(0, len(cuts) - 1)]) if len(cuts) else enough
        one, two = (start, cut), (cut, enough) if goes_on else self._anywhere(max(1, count - (cut - start)), draws)
        first_part, second_part = truncated([self.tokens[slice(*one)], self.tokens[slice(*two)]], count)
        return first_part, second_part, int(goes_on)

    def _anywhere(self, count: int, draws: Dice) -> tuple[int, int]:
        """Return from where to where the sentences go that hold `count` tokens at a random place."""
        place = draws.between(0, len(self.tokens) - count)
        before, last = np.searchsorted(self.ends, (place + 1, place + count)).tolist()
        return int(self.ends[before - 1]) if before else 0, int(self.ends[last])


def _stream(documents: list[TokenizedDocument], vocabulary: Vocabulary) -> _Stream:
    ending = vocabulary.end if vocabulary.document_end is None else vocabulary.document_end
    sentences = [part for document in documents for part in (*filled(document), special(ending, document.sentences[0]))]
    return _Stream(joined(sentences), np.cumsum([len(sentence) for sentence in sentences], dtype=np.int64))
