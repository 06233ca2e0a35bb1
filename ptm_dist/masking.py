"""Choosing what to hide and how: pure functions on rows that are padded to one length.

A *position* counts the tokens of a row, a *place* those of the flattened [rows x length]. A *unit* is what is hidden whole or not at all: a
token, a word, a phrase. A *candidate* is a token that may be hidden; what pads a row is none. Nothing that is found in a row depends on
the rows beside it, nor on how far it is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from ptm_dist.rng import share_of

_LAST: Final = np.uint64((1 << 64) - 1)


class Units(NamedTuple):
    """What may be hidden in some rows."""

    starts: np.ndarray
    """Which tokens begin a unit: bool [rows, length]."""
    sizes: np.ndarray | None
    """Tokens of the unit that begins at a place, int64 [rows x length], 0 where none does; None where every unit is one token."""
    keys: np.ndarray
    """Random words, uint64 [rows, length]; those at the starts decide what is chosen."""


class Chosen(NamedTuple):
    """Units or tokens that were chosen: their places, ascending, and a number that is the same for those chosen together, int64 both."""

    places: np.ndarray
    groups: np.ndarray


class Replacement(NamedTuple):
    """What stands where a token is hidden: `mask` in a share of the cases, one of `pool` in another, the token itself in the rest."""

    mask: int
    mask_share: float
    pool: np.ndarray
    random_share: float
    together: bool
    """Is that drawn once for what was chosen together, and not for each token?"""


def units_of(candidates: np.ndarray, goes_on: np.ndarray | None, keys: np.ndarray) -> Units:
    """Return the units of `candidates`: tokens, or, where `goes_on` says which tokens go on with the unit before, all of a unit.

    All are [rows, length]. A token that is no candidate ends a unit.
    """
    if goes_on is None:
        return Units(candidates, None, keys)
    inside = candidates & goes_on
    inside[:, 1:] &= candidates[:, :-1]
    inside[:, 0] = False
    starts = candidates ^ inside
    edges = np.flatnonzero(~inside)
    sizes = np.zeros(starts.size, dtype=np.int64)
    sizes[edges] = np.diff(edges, append=starts.size) * starts.reshape(-1)[edges]
    return Units(starts, sizes, keys)


def choose_each(units: Units, rate: float) -> np.ndarray:
    """Return the places of units, ascending, each chosen on its own with probability `rate`.

    Source: Baidu's ERNIE, batching.py.
    """
    return np.flatnonzero(units.starts & (units.keys < np.uint64(int(rate * 2.0**64))))


def choose_count(units: Units, counts: np.ndarray) -> np.ndarray:
    """Return the places of `counts` [rows] units of each row, ascending; every such set is as likely."""
    places = _shuffled(units, max(1, int(counts.max(initial=0))))
    return np.sort(places[np.arange(places.shape[1]) < counts[:, None]])


def choose_fitting(units: Units, budgets: np.ndarray) -> np.ndarray:
    """Return the places of units, ascending, that fit into `budgets` [rows] of tokens, taken in random order.

    A unit that is too large for what is left of its row's budget is skipped.

    Source: google-research/bert, create_masked_lm_predictions.
    """
    counts, length = units.starts.sum(axis=1), units.starts.shape[1]
    if units.sizes is None:
        return choose_count(units, np.minimum(budgets, counts))
    # A unit has a token at least, so no more units fit than tokens. The first few after them mostly make up for those that do not.
    for most in (min(length, int(budgets.max(initial=0)) + 32), length):
        places = _shuffled(units, most)
        taken, left = _fitting(np.where(np.arange(most) < counts[:, None], units.sizes[places], 0), budgets)
        if not ((left > 0) & (counts > most)).any():
            break
    return np.sort(places[taken])


def _fitting(sizes: np.ndarray, budgets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which units of each row are taken, if each is that still fits, bool [rows, units], and what is left of the budgets.

    `sizes` has zeros after the last unit.
    """
    used, counts = np.cumsum(sizes, axis=1), (sizes > 0).sum(axis=1)
    taken = (used <= budgets[:, None]) & (sizes > 0)
    # That settles all but the last few. From the first unit that does not fit on, they are looked at one by one, in all rows at once.
    at = taken.sum(axis=1)
    left = budgets - np.where(at > 0, used[np.arange(len(at)), at - 1], 0)
    rows = np.flatnonzero((left > 0) & (at < counts))
    while len(rows):
        size = sizes[rows, at[rows]]
        fits = size <= left[rows]
        taken[rows, at[rows]] = fits
        left[rows] -= size * fits
        at[rows] += 1
        rows = rows[(left[rows] > 0) & (at[rows] < counts[rows])]
    return taken, left


def span_lengths(weights: Sequence[float], left: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Return how many units a span takes: n as likely as `weights[n - 1]`, among those that are no more than `left`; int64 like `left`.

    `chances` are random numbers in [0, 1).
    """
    law = np.cumsum(weights)
    most = np.minimum(left, len(law))
    return np.minimum(1 + np.searchsorted(law, chances * law[most - 1], side="right"), most)


def choose_spans(units: Units, budgets: np.ndarray, weights: Sequence[float], chances: np.ndarray) -> Chosen:
    """Choose units in spans that fit into `budgets` [rows] of tokens; a group is a span.

    Units in random order begin a span of so many units as `span_lengths` says of their chance [rows, length], or of as many as fit into
    what is left of the budget; it is skipped where none fits or where it would meet another span. Spans pass over what is no candidate.

    Source: google-research/albert, create_masked_lm_predictions.
    """
    counts, places = units.starts.sum(axis=1), np.flatnonzero(units.starts)
    order = np.cumsum(units.starts.reshape(-1))[_shuffled(units, units.starts.shape[1])] - 1
    lengths = span_lengths(weights, np.repeat(np.cumsum(counts), counts) - np.arange(len(places)), chances.reshape(-1)[places])
    sizes = np.ones(len(places), dtype=np.int64) if units.sizes is None else units.sizes[places]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    ahead = np.arange(len(weights))
    span = np.full(len(places) + len(weights), -1)  # the margin keeps indices valid; no span reaches it
    left, turn = budgets.copy(), 0
    rows = np.flatnonzero((left > 0) & (counts > 0))
    while len(rows):
        first, free = order[rows, turn], left[rows]
        taken = lengths[first]
        size = ends[first + taken] - ends[first]
        while (over := (size > free) & (taken > 1)).any():
            taken = taken - over
            size = ends[first + taken] - ends[first]
        members, inside = first[:, None] + ahead, ahead < taken[:, None]
        fits = (size <= free) & ~((span[members] >= 0) & inside).any(axis=1)
        span[members[inside & fits[:, None]]] = np.repeat(first, taken * fits)
        left[rows] = free - size * fits
        turn += 1
        rows = rows[(left[rows] > 0) & (turn < counts[rows])]
    chosen = np.flatnonzero(span >= 0)
    return Chosen(places[chosen], span[chosen])


def tokens_of(units: Units, chosen: Chosen) -> Chosen:
    """Return the tokens of chosen units."""
    if units.sizes is None:
        return chosen
    counts = units.sizes[chosen.places]
    places = np.repeat(chosen.places - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    return Chosen(places, np.repeat(chosen.groups, counts))


def replaced(tokens: np.ndarray, chosen: Chosen, replacement: Replacement, words: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return `tokens` [rows, length] with others in place of those chosen.

    `words` are random, uint64 [rows, ..]: from `first` [rows] on, a row has one word for each token it hides, then another one for each.
    """
    (rows, length), width = tokens.shape, words.shape[1]
    ends = np.searchsorted(chosen.places, np.arange(rows + 1) * length)
    counts = np.diff(ends)
    # Where in the flattened words the one is that says what becomes of a token.
    at = np.repeat(np.arange(rows) * width + first - ends[:-1], counts) + np.arange(len(chosen.places))
    if replacement.together:
        begins = np.diff(chosen.groups, prepend=-1) != 0
        actions = share_of(words.reshape(-1)[at[begins]])[np.cumsum(begins) - 1]
    else:
        actions = share_of(words.reshape(-1)[at])
    new = np.where(actions < replacement.mask_share, replacement.mask, tokens.reshape(-1)[chosen.places])
    random = np.flatnonzero((actions >= replacement.mask_share) & (actions < replacement.mask_share + replacement.random_share))
    chances = share_of(words.reshape(-1)[at[random] + counts[chosen.places[random] // length]])
    new[random] = replacement.pool[(chances * len(replacement.pool)).astype(np.int64)]
    changed = tokens.copy()
    changed.reshape(-1)[chosen.places] = new
    return changed


def _shuffled(units: Units, most: int) -> np.ndarray:
    """Return the places of the first `most` units of each row in random order: int64 [rows, most]; more than there are mean nothing.

    The low bits of a key give way to the position, so that one sort of plain numbers does. Two of n units whose other bits are equal stay
    in the order of the text: with 512 tokens in less than one row of 2^38.
    """
    rows, length = units.starts.shape
    low = np.uint64((1 << (length - 1).bit_length()) - 1)
    ordered = units.keys & ~low
    ordered |= np.arange(length, dtype=np.uint64)
    np.copyto(ordered, _LAST, where=~units.starts)
    if most < length:
        ordered.partition(most - 1, axis=1)
        ordered = ordered[:, :most]
    positions = np.minimum((np.sort(ordered, axis=1) & low).astype(np.int64), length - 1)
    return positions + (np.arange(rows) * length)[:, None]
