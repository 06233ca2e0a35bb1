"""How sure a difference between two systems is, and how far runs with other seeds lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ptm_dist.errors import ConfigError, DataUnavailableError
from ptm_dist.rng import Draws


@dataclass(frozen=True)
class Comparison:
    """The mean score of one system less that of another on the same items."""

    difference: float
    low: float
    """Between this and `high` lie 95 % of the differences on items drawn again."""
    high: float
    p: float
    """How often a difference at least as large, either way, would show if there were none."""
    items: int


def compare(first: Mapping[str, float], second: Mapping[str, float], seed: int = 0, draws: int = 10_000) -> Comparison:
    """Compare two systems by their score of each item, by id; items are drawn again with replacement, each with both its scores.

    Source: Efron and Tibshirani 1993, sections 13.3 and 16.4: percentile interval, and the share of differences, moved to a mean of 0,
    that are as large; one is added to both counts, so that p is never 0.

    Raises:
        ConfigError: the two were not scored on the same items.
        DataUnavailableError: there is no item.

    """
    if first.keys() != second.keys():
        raise ConfigError(
            f"{len(first.keys() - second.keys()):,} items were scored only for the first, {len(second.keys() - first.keys()):,} only for "
            "the second. Score both on the same split."
        )
    if not first:
        raise DataUnavailableError("there is no item to compare two systems by. Choose a split that has some.")
    differences = np.array([first[name] - second[name] for name in sorted(first)])
    stream = Draws(seed, "finetune.bootstrap")
    drawn = np.array([differences[_again(stream, seed, number, len(differences))].mean() for number in range(draws)])
    difference = float(differences.mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    # A mean of the same numbers in another order may differ in its last bits.
    as_large = np.abs(drawn - difference) >= abs(difference) * (1 - 1e-12)
    return Comparison(difference, float(low), float(high), (1 + int(as_large.sum())) / (1 + draws), len(differences))


def _again(stream: Draws, seed: int, number: int, count: int) -> np.ndarray:
    return stream.rekey(seed, "finetune.bootstrap", number).integers(count, count)


@dataclass(frozen=True)
class Spread:
    """The mean of a figure over runs, and its standard deviation, 0 for one run."""

    mean: float
    deviation: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + (f" ± {self.deviation:.2f}" if self.count > 1 else "")


def spread(figures: Sequence[float]) -> Spread:
    """Return mean and standard deviation (of a sample, divided by one less than their number) of the figures of some runs.

    Raises:
        DataUnavailableError: there is none.

    """
    if not figures:
        raise DataUnavailableError("there is no run to take a mean of.")
    return Spread(float(np.mean(figures)), float(np.std(figures, ddof=1)) if len(figures) > 1 else 0.0, len(figures))
