"""Curves small enough to draw: thinned so that no peak is lost, smoothed so that the trend is seen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

MOST_POINTS: Final = 2000
DIGITS: Final = 5


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return the mean around each value, over a fiftieth of the curve, from 5 to 501 values; NaN counts as nothing."""
    if not len(values):
        return values
    half = min(max(2, len(values) // 100), 250)
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    places = np.arange(len(values))
    starts, ends = np.maximum(0, places - half), np.minimum(len(values), places + half + 1)
    number = counts[ends] - counts[starts]
    return np.where(number > 0, (sums[ends] - sums[starts]) / np.maximum(number, 1), np.nan)


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return the places of at most `most` values, in order: first and last, and of equal parts the least and the greatest."""
    if len(values) <= most:
        return np.arange(len(values))
    parts = max(1, most // 2 - 1)
    kept = {0, len(values) - 1}
    for part in np.array_split(np.arange(len(values)), parts):
        inside = part[np.isfinite(values[part])]
        if len(inside):
            kept |= {int(inside[values[inside].argmin()]), int(inside[values[inside].argmax()])}
    return np.array(sorted(kept))


def averaged(columns: np.ndarray, most: int) -> np.ndarray:
    """Return the means of at most `most` equal parts of a table, [rows, columns] to [parts, columns]; NaN counts as zero."""
    table = np.nan_to_num(columns)
    return np.array([part.mean(axis=0) for part in np.array_split(table, min(most, len(table)))]) if len(table) else table


def numbers(values: Iterable[float | None], digits: int = DIGITS) -> list[float | None]:
    """Return values as JSON takes them: five digits, and null for what is not finite or not there."""
    return [float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None for value in values]
