"""Words and tags of jieba for a run of Chinese characters: the same as jieba's own, several times faster."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

REMEMBERED: Final = 1 << 16
"""Runs of characters out of which the dictionary makes no words, kept with what was made of them."""
_NEVER: Final = -3.14e100
"""What jieba takes for the logarithm of an emission that it has not seen."""


class Piece(NamedTuple):
    """A word, or (`unknown`) a run of characters out of which the dictionary makes no words."""

    start: int
    text: str
    unknown: bool


class Jieba:
    """A jieba of our own: the global one has what others add to it, and reads a cache that any user of the machine may have written."""

    def __init__(self, entries: Sequence[tuple[str, str]]) -> None:
        """Load the dictionary and add words with their tags."""
        jieba = _imported("jieba")
        self._tokenizer = jieba.Tokenizer()
        self._tokenizer.FREQ, self._tokenizer.total = self._tokenizer.gen_pfdict(self._tokenizer.get_dict_file())
        self._tokenizer.initialized = True
        for word, tag in entries:
            self._tokenizer.add_word(word, tag=tag)
        total = math.log(self._tokenizer.total)
        self._unknown = -total
        # The logarithm of a word's probability; 1, which none can be, for what only longer words begin with.
        self._scores = {word: math.log(count) - total if count else 1.0 for word, count in self._tokenizer.FREQ.items()}
        cut = jieba.finalseg.cut
        self._guessed_words = lru_cache(REMEMBERED)(lambda run: tuple(map(len, cut(run))))

    @cached_property
    def _tags(self) -> dict[str, str]:
        with self._tokenizer.get_dict_file() as file:
            lines = (line.decode().split() for line in file)
            return {word: tag for word, _, tag in lines} | self._tokenizer.user_word_tag_tab

    @cached_property
    def _tagger(self) -> _Tagger:
        return _Tagger()

    def pieces(self, text: str, offset: int) -> Iterator[Piece]:
        """Yield the words of the most probable path through the dictionary, and runs of single characters that are no word there."""
        ends = self._path(text)
        at = run = 0
        while at <= len(text):
            end = ends[at]
            if end == at + 1:
                at = end
                continue
            if run < at:
                single = text[run:at]
                if len(single) > 1 and self._scores.get(single, 1.0) > 0:
                    yield Piece(offset + run, single, unknown=True)
                else:
                    yield from (Piece(offset + place, text[place], unknown=False) for place in range(run, at))
            if at < len(text):
                yield Piece(offset + at, text[at:end], unknown=False)
            at = run = end

    def words(self, piece: Piece) -> tuple[int, ...]:
        """Return the lengths of the words in a piece; in an unknown one those that a hidden Markov model finds."""
        return self._guessed_words(piece.text) if piece.unknown else (len(piece.text),)

    def tagged(self, piece: Piece) -> tuple[tuple[int, str], ...]:
        """Return the lengths and tags of the words in a piece; in an unknown one those that another model finds."""
        return self._tagger.cut(piece.text) if piece.unknown else ((len(piece.text), self._tags.get(piece.text, "x")),)

    def _path(self, text: str) -> list[int]:
        """Return where the word from each place ends, and past the last one a place that no single character ends at."""
        count = len(text)
        best = [0.0] * (count + 1)
        ends = [count + 2] * (count + 1)
        scores = self._scores
        for start in range(count - 1, -1, -1):
            top, top_end = -math.inf, start + 1
            for end in range(start + 1, count + 1):
                score = scores.get(text[start:end])
                if score is None:
                    break
                if score < 0 and score + best[end] >= top:
                    top, top_end = score + best[end], end
            best[start] = top if top > -math.inf else self._unknown + best[start + 1]
            ends[start] = top_end
        return ends


class _Tagger:
    """The model of jieba.posseg: which place in a word of which tag each character has."""

    def __init__(self) -> None:
        model = _imported("jieba.posseg")
        self._states: list[tuple[str, str]] = sorted(model.trans_P)
        place = {state: number for number, state in enumerate(self._states)}
        self._steps_SS = np.full((len(place), len(place)), -np.inf)
        for state, after in model.trans_P.items():
            self._steps_SS[place[state], [place[other] for other in after]] = list(after.values())
        self._follows_SS = np.isfinite(self._steps_SS)
        self._starts_S = np.array([model.start_P[state] for state in self._states])
        self._emissions = [model.emit_P[state] for state in self._states]
        self._of_character = {letter: np.sort([place[state] for state in states]) for letter, states in model.char_state_tab_P.items()}
        self._every = np.arange(len(place))
        self._emitted = lru_cache(4096)(self._emission)
        self.cut = lru_cache(REMEMBERED)(self._cut)

    def _emission(self, letter: str) -> np.ndarray:
        return np.array([emission.get(letter, _NEVER) for emission in self._emissions])

    def _cut(self, run: str) -> tuple[tuple[int, str], ...]:
        """Return the lengths and tags of the words in a run."""
        found, begin = [], 0
        states = self._path(run)
        for at, (place, tag) in enumerate(states):
            if place == "S" and begin < at:
                begin = at
            if place in "ES":
                found.append((at + 1 - begin, tag))
                begin = at + 1
        return (*found, (len(run) - begin, states[begin][1])) if begin < len(run) else tuple(found)

    def _path(self, run: str) -> list[tuple[str, str]]:
        """Return the most probable states; of equally probable ones the last in order, as in jieba."""
        now = self._of_character.get(run[0], self._every)
        score = self._starts_S[now] + self._emitted(run[0])[now]
        back: list[tuple[np.ndarray, np.ndarray]] = []
        for letter in run[1:]:
            goes_on = self._follows_SS[now].any(axis=1)
            before, score = now[goes_on], score[goes_on]
            expected = np.flatnonzero(self._follows_SS[before].any(axis=0))
            now = np.intersect1d(self._of_character.get(letter, self._every), expected, assume_unique=True)
            now = now if len(now) else expected
            sums = score[:, None] + self._steps_SS[before[:, None], now] + self._emitted(letter)[now]
            best = len(before) - 1 - sums[::-1].argmax(axis=0)
            score = sums[best, np.arange(len(now))]
            back.append((now, before[best]))
        path = [int(now[len(now) - 1 - score[::-1].argmax()])]
        for states, origins in reversed(back):
            path.append(int(origins[np.searchsorted(states, path[-1])]))
        return [self._states[state] for state in reversed(path)]


def _imported(name: str) -> Any:
    """Import jieba, which is slow and warns of old ways to write regular expressions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
