"""Metrics of rankings: how high the right candidates of a question stand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mrr(gold: Sequence[tuple[str, bool]], predicted: Sequence[float]) -> dict[str, float]:
    """Return the mean reciprocal rank of the first right candidate of a question.

    Gold holds the question of each candidate, and whether it is right; predicted its score. Of equal scores the earlier candidate stands
    higher. A question without a right candidate counts 0.

    Source: baidu/ERNIE 1.0, finetune/classifier.py (NLPCC-DBQA).
    """
    ranks, firsts = dict[str, int](), dict[str, int]()
    for number in np.argsort(-np.asarray(predicted, dtype=float), kind="stable").tolist():
        question, right = gold[number]
        ranks[question] = ranks.get(question, 0) + 1
        if right:
            firsts.setdefault(question, ranks[question])
    return {"mrr": 100.0 * sum(1 / rank for rank in firsts.values()) / len(ranks)}
