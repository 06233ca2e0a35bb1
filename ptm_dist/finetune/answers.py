"""From the windows of a context to the answer of a question."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.errors import DataIntegrityError, NumericError
from ptm_dist.formats.labelled import NOWHERE


@dataclass(frozen=True)
class Window:
    """A row of a question and what a model says of it: how well an answer starts and ends at each token, float [tokens] each.

    `spans`, int [tokens, 2]: the characters of the context that a token stands for, NOWHERE at others; they are one stretch of the
    context. `summary` is the place of the token that stands for the row.

    Raises:
        DataIntegrityError: the arrays differ in length, or no token is of the context.
        NumericError: a score is not a number.

    """

    starts: np.ndarray
    ends: np.ndarray
    spans: np.ndarray
    summary: int

    def __post_init__(self) -> None:
        sizes = {len(self.starts), len(self.ends), len(self.spans)}
        if len(sizes) > 1 or not len(self.places):
            raise DataIntegrityError(f"a window has arrays of {sorted(sizes)} tokens, {len(self.places)} of them of the context.")
        if np.isnan(self.starts).any() or np.isnan(self.ends).any():
            raise NumericError("the model gives scores that are not numbers; look at the loss of its training.")

    @property
    def places(self) -> np.ndarray:
        """Where tokens of the context are, int64."""
        return np.flatnonzero(self.spans[:, 0] != NOWHERE)

    @property
    def null_score(self) -> float:
        """How well it is said that there is no answer here."""
        return float(self.starts[self.summary]) + float(self.ends[self.summary])


@dataclass(frozen=True)
class Candidate:
    """A possible answer: characters `start` up to `end` of the context; no answer is "" from NOWHERE."""

    text: str
    score: float
    start: int
    end: int
    probability: float = 0.0
    """Its share among the candidates of the question."""


@dataclass(frozen=True)
class Found:
    """The candidates of a question, best first, and the score of no answer."""

    candidates: tuple[Candidate, ...]
    null_score: float

    @property
    def best(self) -> Candidate | None:
        """The best candidate that has a text; None where the model names no stretch."""
        return next((candidate for candidate in self.candidates if candidate.text), None)

    @property
    def null_odds(self) -> float:
        """How much higher no answer scores than the best one; infinite where there is none."""
        return self.null_score - self.best.score if self.best else math.inf

    def answer(self, threshold: float | None) -> str:
        """Return the best answer, or "" where the odds are above the threshold."""
        return "" if self.best is None or (threshold is not None and self.null_odds > threshold) else self.best.text


class AnswerSearch(BaseModel):
    """How answers are searched.

    Source: google-research/bert, run_squad.py. Deviations: tokens of the question are left out before the best are taken, not after, as
    zihangdai/xlnet does, so that no pair BERT looks at is missed; no answer takes no place among the best; where no start and end fit
    together there is no candidate, not the text "empty"; texts are cut from the context.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    n_best: Annotated[int, Field(gt=0, description="starts and ends of a window that are looked at, and candidates that are kept")] = 20
    longest: Annotated[int, Field(gt=0, description="most tokens of an answer; 100 for Chinese")] = 30
    threshold: Annotated[
        float | None, Field(description="a question has no answer where that scores so much higher; null: each has one")
    ] = None

    def find(self, context: str, windows: Sequence[Window]) -> Found:
        """Return the best distinct answers that the windows of a context give, no answer among them where there is a threshold."""
        null_score = min(window.null_score for window in windows)
        found = list(islice(_distinct(context, self._ranked(windows)), self.n_best))
        if self.threshold is not None:
            found.append(Candidate("", null_score, NOWHERE, NOWHERE))
            found.sort(key=lambda candidate: -candidate.score)
        return Found(tuple(_with_probabilities(found)), null_score)

    def _ranked(self, windows: Sequence[Window]) -> Iterator[tuple[float, int, int]]:
        """Yield score and characters of pairs of a start and an end, best first; of equals those of earlier windows."""
        pairs = [self._pairs(window, widest) for window, widest in zip(windows, widest_context(windows), strict=True)]
        scores, characters = (np.concatenate(column) for column in zip(*pairs, strict=True))
        for number in np.argsort(-scores, kind="stable"):
            yield float(scores[number]), int(characters[number, 0]), int(characters[number, 1])

    def _pairs(self, window: Window, widest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores, float64 [pairs], and characters from and up to, int64 [pairs, 2], of the starts and ends that fit together."""
        places = window.places
        starts, ends = (places[np.argsort(-side[places], kind="stable")[: self.n_best]] for side in (window.starts, window.ends))
        start, end = (grid.ravel() for grid in np.meshgrid(starts, ends, indexing="ij"))
        score = window.starts[start].astype(np.float64) + window.ends[end]
        fits = (start <= end) & (end - start < self.longest) & widest[start] & np.isfinite(score)
        return score[fits], np.stack([window.spans[start[fits], 0], window.spans[end[fits], 1]], axis=1)


def widest_context(windows: Sequence[Window]) -> list[np.ndarray]:
    """Return of each window the tokens that have more context there than in any other, bool [tokens]; each is so in one window.

    What counts is the nearer edge of the window, and a hundredth of its length; of equals the first window. Tokens with the same
    characters, parts of one character, are as one.

    Source: google-research/bert, run_squad.py.
    """
    spans, number, context = (np.concatenate(column) for column in zip(*map(_context, windows, range(len(windows))), strict=True))
    _, token = np.unique(spans, axis=0, return_inverse=True)
    order = np.lexsort((number, -context, token))
    winner = number[order[np.searchsorted(token[order], np.arange(token.max() + 1))]]
    kept = (winner[token] == number) & (spans[:, 0] != NOWHERE)
    return np.split(kept, np.cumsum([len(window.spans) for window in windows])[:-1])


def _context(window: Window, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size, places = len(window.places), window.places
    context = np.zeros(len(window.spans))
    context[places] = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.01 * size
    return window.spans, np.full(len(window.spans), number), context


def _distinct(context: str, ranked: Iterator[tuple[float, int, int]]) -> Iterator[Candidate]:
    """Yield candidates with texts that were not seen before, without white space at their edges."""
    seen = {""}
    for score, start, end in ranked:
        text = context[start:end].strip()
        if text not in seen:
            seen.add(text)
            begin = end - len(context[start:end].lstrip())
            yield Candidate(text, score, begin, begin + len(text))


def _with_probabilities(found: Sequence[Candidate]) -> Iterator[Candidate]:
    weights = [math.exp(candidate.score - found[0].score) for candidate in found]
    for candidate, weight in zip(found, weights, strict=True):
        yield replace(candidate, probability=weight / sum(weights))
