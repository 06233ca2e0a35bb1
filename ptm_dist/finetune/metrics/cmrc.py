"""Metrics of answers in Chinese: CMRC 2018 and DRCD, as the script of CMRC 2018 scores them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Final

import numpy as np

from ptm_dist.errors import DataIntegrityError

PUNCTUATION: Final = frozenset(r"-:_*^/\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""What the script takes for punctuation. Its list names …… too, which no single character equals; ASCII , . ! are not in it."""

_CHINESE: Final = re.compile("[\u4e00-\u9fa5]")
_RUNS: Final = re.compile("[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")


def exact(golds: Sequence[str], text: str | None) -> float:
    """Return 1 where an answer without punctuation equals one of the right ones, else 0; also 0 for None, no prediction."""
    return float(text is not None and _bare(text) in map(_bare, golds))


def f1(golds: Sequence[str], text: str | None) -> float:
    """Return the greatest F1, in [0, 1], that an answer has with one of the right ones; 0 for None, no prediction.

    What two answers share is their longest common run of segments, not a bag of them.
    """
    return 0.0 if text is None else max(_shared(segments(gold), segments(text)) for gold in golds)


def segments(text: str) -> list[str]:
    """Return the Chinese characters of a text without punctuation, and what nltk makes of the runs between them.

    Source: cmrc2018_evaluate.py. Deviation: a run is not cut into sentences first, which needs a model; only the full stop at its end is
    a segment.
    """
    found = list[str]()
    for run in _RUNS.findall(_bare(text)):
        found += [run] if _CHINESE.match(run) else _word_tokenizer()(run)
    return found


def cmrc(gold: Sequence[Sequence[str]], predicted: Sequence[str | None]) -> dict[str, float]:
    """Return exact match, F1, and their mean; gold holds the right answers of each question.

    Source: Cui et al. 2019, and cmrc2018_evaluate.py; a question without a prediction counts 0.

    Raises:
        DataIntegrityError: a question has no right answer.

    """
    if not all(gold):
        raise DataIntegrityError("metric cmrc: a question has no right answer. Leave such questions out.")
    pairs = list(zip(gold, predicted, strict=True))
    figures = {name: 100.0 * float(np.mean([rate(*pair) for pair in pairs])) for name, rate in (("exact", exact), ("f1", f1))}
    return figures | {"average": (figures["exact"] + figures["f1"]) / 2}


def _bare(text: str) -> str:
    return "".join(char for char in text.lower().strip() if char not in PUNCTUATION)


def _shared(gold: list[str], told: list[str]) -> float:
    run = SequenceMatcher(None, gold, told, autojunk=False).find_longest_match().size
    return 2 * run / (len(gold) + len(told)) if run else 0.0


@cache
def _word_tokenizer() -> Callable[[str], list[str]]:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer().tokenize
