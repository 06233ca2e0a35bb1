"""Metrics of answers in English: the two SQuAD, as their scripts score them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from ptm_dist.errors import DataIntegrityError

_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Return a text in lower case without ASCII punctuation, articles and surplus white space.

    Source: SQuAD, evaluate-v2.0.py; punctuation goes before articles, so that "a-b" is "ab".
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(golds: Sequence[str], text: str | None) -> float:
    """Return 1 where an answer equals one of the right ones after both are normalised, else 0; also 0 for None, no prediction."""
    return float(text is not None and normalise(text) in map(normalise, golds))


def f1(golds: Sequence[str], text: str | None) -> float:
    """Return the greatest F1 of the words, in [0, 1], that an answer has with one of the right ones; 0 for None, no prediction.

    Where either has no word it is 1 if both have none. Source: SQuAD, evaluate-v2.0.py; the script of 1.1 gives 0 there.
    """
    return 0.0 if text is None else max(_overlap(normalise(gold).split(), normalise(text).split()) for gold in golds)


def _overlap(gold: list[str], told: list[str]) -> float:
    if not gold or not told:
        return float(gold == told)
    shared = (Counter(gold) & Counter(told)).total()
    return 2 * shared / (len(gold) + len(told))


def squad(gold: Sequence[Sequence[str]], predicted: Sequence[str | None]) -> dict[str, float]:
    """Return exact match and F1 of questions that all have answers; gold holds the right answers of each.

    Source: Rajpurkar et al. 2016, section 6.1; a question without a prediction counts 0.

    Raises:
        DataIntegrityError: a question has no right answer.

    """
    if not all(gold):
        raise DataIntegrityError("metric squad: a question has no right answer. Take squad2 where questions may have none.")
    pairs = list(zip(gold, predicted, strict=True))
    return {name: 100.0 * float(np.mean([rate(*pair) for pair in pairs])) for name, rate in (("exact", exact), ("f1", f1))}


def squad2(gold: Sequence[Sequence[str]], predicted: Sequence[tuple[str, float]], threshold: float = 0.0) -> dict[str, float]:
    """Return exact match and F1 of questions that may have no answer, by the names of the official script.

    A prediction is the best answer and how much higher than it no answer scores; above `threshold` the question is given none. `HasAns_`
    and `NoAns_` stand for one kind of questions; `best_` for the threshold, `_thresh`, that suits these items best.

    Source: Rajpurkar et al. 2018, and evaluate-v2.0.py with --na-prob-file; right answers that are empty once normalised are
    left out, and the search does not treat equal odds as one.
    """
    answerable = np.array([bool(golds) for golds in gold])
    golds = [[text for text in texts if normalise(text)] or [""] for texts in gold]
    odds = np.array([number for _, number in predicted])
    figures = dict[str, float]()
    for name, rate in (("exact", exact), ("f1", f1)):
        raw = np.array([rate(texts, text) for texts, (text, _) in zip(golds, predicted, strict=True)])
        rates = np.where(odds > threshold, ~answerable, raw)
        for group, chosen in (("", answerable | True), ("HasAns_", answerable), ("NoAns_", ~answerable)):
            if chosen.any():
                figures[group + name] = 100.0 * float(rates[chosen].mean())
        gains = np.where(answerable, raw, [-float(bool(text)) for text, _ in predicted])
        figures |= _best(name, gains, odds, int((~answerable).sum()))
    return figures


def _best(name: str, gains: np.ndarray, odds: np.ndarray, unanswerable: int) -> dict[str, float]:
    """Return the best that a threshold can reach: from no answers at all they are given one by one, each with its gain or loss."""
    order = np.argsort(odds, kind="stable")
    reached = np.cumsum([unanswerable, *gains[order]])
    best = int(np.argmax(reached))
    return {f"best_{name}": 100.0 * float(reached[best]) / len(odds), f"best_{name}_thresh": float(odds[order[best - 1]]) if best else 0.0}
