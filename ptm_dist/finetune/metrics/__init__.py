"""Metrics of labelled data, by name: pure functions of what is right and what was predicted, item by item in the same order.

Shares and coefficients are in percent, as papers print them; errors and thresholds are in the unit of the values.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError
from ptm_dist.finetune.metrics import classes, cmrc, entities, ranking, squad, values

METRICS: Final[Mapping[str, Callable[..., dict[str, float]]]] = {
    "accuracy": classes.accuracy,
    "f1": classes.f1,
    "macro_f1": classes.macro_f1,
    "matthews": classes.matthews,
    "pearson": values.pearson,
    "spearman": values.spearman,
    "mean_squared_error": values.mean_squared_error,
    "squad": squad.squad,
    "squad2": squad.squad2,
    "cmrc": cmrc.cmrc,
    "entities": entities.entities,
    "mrr": ranking.mrr,
}
"""Each takes gold and predicted and returns figures by name."""


def score(kind: str, gold: Sequence[Any], predicted: Sequence[Any], **settings: Any) -> dict[str, float]:
    """Return the figures of a metric; its docstring says what gold and predicted hold, and its settings.

    Raises:
        ConfigError: there is no such metric, or it does not fit the labels.
        DataIntegrityError: gold and predicted differ in length.
        DataUnavailableError: there is no item, or there are too few.

    """
    if kind not in METRICS:
        near = difflib.get_close_matches(kind, METRICS, n=1)
        raise ConfigError(f"unknown metric {kind!r}; " + (f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(METRICS)}."))
    if len(gold) != len(predicted):
        raise DataIntegrityError(
            f"metric {kind}: {len(gold):,} items have a label, {len(predicted):,} a prediction. Predict the same items."
        )
    if not len(gold):
        raise DataUnavailableError(f"metric {kind}: there is no labelled item to score. Choose a split that has some.")
    return METRICS[kind](gold, predicted, **settings)
