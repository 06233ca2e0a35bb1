"""Metrics of values: how near a number is to the right one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ptm_dist.errors import DataUnavailableError


def pearson(gold: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    """Return Pearson's correlation, 0 where either side is constant.

    Source: GLUE, STS-B.

    Raises:
        DataUnavailableError: there are fewer than two items.

    """
    from scipy.stats import pearsonr

    return {"pearson": _correlation(pearsonr, gold, predicted)}


def spearman(gold: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    """Return Spearman's correlation of ranks, 0 where either side is constant.

    Source: GLUE, STS-B.

    Raises:
        DataUnavailableError: there are fewer than two items.

    """
    from scipy.stats import spearmanr

    return {"spearman": _correlation(spearmanr, gold, predicted)}


def mean_squared_error(gold: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    """Return the mean of the squared differences, in the square of the values' unit."""
    return {"mean_squared_error": float(np.mean((np.asarray(gold, dtype=float) - np.asarray(predicted, dtype=float)) ** 2))}


def _correlation(measure: Callable[..., Any], gold: Sequence[float], predicted: Sequence[float]) -> float:
    if len(gold) < 2:
        raise DataUnavailableError(f"a correlation needs two items or more, there is {len(gold)}. Score a larger split.")
    constant = len(set(gold)) == 1 or len(set(predicted)) == 1
    return 0.0 if constant else 100.0 * float(measure(gold, predicted).statistic)
