"""Metrics of classes: which name was predicted for an item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from ptm_dist.errors import ConfigError

Class: TypeAlias = str | int


def accuracy(gold: Sequence[Class], predicted: Sequence[Class]) -> dict[str, float]:
    """Return the share of items whose class is right.

    Source: GLUE (Wang et al. 2019); also of multiple choice, by the number of the choice.
    """
    return {"accuracy": 100.0 * float(np.mean([right == told for right, told in zip(gold, predicted, strict=True)]))}


def f1(gold: Sequence[Class], predicted: Sequence[Class], positive: Class = "1") -> dict[str, float]:
    """Return the F1 of one of two classes, 0 where no item has it.

    Source: GLUE, MRPC and QQP; NLPCC-DBQA.

    Raises:
        ConfigError: there are more than two classes, or two others than the positive one.

    """
    from sklearn.metrics import f1_score

    names = sorted({*gold, *predicted}, key=str)
    if len({*names, positive}) > 2:
        told = ", ".join(map(repr, names[:5]))
        raise ConfigError(f"metric f1: of two classes {positive!r} is the positive one, but there are {told}. Name it, or take macro_f1.")
    right, found = ([name == positive for name in side] for side in (gold, predicted))
    return {"f1": 100.0 * float(f1_score(right, found, zero_division=0.0))}  # type: ignore[arg-type] - its hint knows text alone, its documentation numbers too


def macro_f1(gold: Sequence[Class], predicted: Sequence[Class]) -> dict[str, float]:
    """Return the mean of the F1 of each class that is right or predicted anywhere.

    Source: Yang and Liu 1999.
    """
    from sklearn.metrics import f1_score

    return {"macro_f1": 100.0 * float(f1_score(gold, predicted, average="macro", zero_division=0.0))}  # type: ignore[arg-type] - its hint knows text alone, its documentation numbers too


def matthews(gold: Sequence[Class], predicted: Sequence[Class]) -> dict[str, float]:
    """Return Matthews' correlation coefficient, 0 where all items have, or are given, one class.

    Source: Matthews 1975; GLUE, CoLA and the diagnostic set. More than two classes: Gorodkin 2004.
    """
    from sklearn.metrics import matthews_corrcoef

    # Of a single class scikit-learn warns before it gives 0.
    return {"matthews": 100.0 * float(matthews_corrcoef(gold, predicted)) if len({*gold, *predicted}) > 1 else 0.0}


def confusion(gold: Sequence[Class], predicted: Sequence[Class]) -> dict[str, dict[str, int]]:
    """Return of each class that is right how often each was predicted."""
    names = sorted({*map(str, gold), *map(str, predicted)})
    counts = Counter(zip(map(str, gold), map(str, predicted), strict=True))
    return {right: {told: counts[right, told] for told in names} for right in names}
