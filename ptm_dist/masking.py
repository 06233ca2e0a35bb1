"""Choosing what to hide and how: pure functions on arrays of token ids."""

from __future__ import annotations

import numpy as np

from ptm_dist.rng import Draws


def choose_tokens(candidates: np.ndarray, rate: float, draws: Draws) -> np.ndarray:
    """Choose int(rate x candidates + U[0,1)) of the candidate positions, without replacement and in ascending order.

    `candidates` and the result are int64 [n]. The fraction is rounded at random so that its mean is exact.

    Source: fairseq mask_tokens_dataset.py (RoBERTa). At length 512 and rate 0.15: 77 positions in 4 of 5 rows, else 76.
    """
    count = int(rate * len(candidates) + draws.uniform(1)[0])
    return np.sort(candidates[draws.permutation(len(candidates))[:count]])


def replace_tokens(tokens: np.ndarray, chosen: np.ndarray, mask_id: int, replacements: np.ndarray, draws: Draws) -> np.ndarray:
    """Return `tokens` where of the `chosen` positions 80 % hold `mask_id`, 10 % a random one of `replacements`, 10 % are kept.

    Source: BERT (Devlin et al. 2018), section 3.1; the action is drawn for each token on its own.
    """
    action = draws.uniform(len(chosen))
    random_ids = replacements[draws.integers(len(chosen), len(replacements))]
    changed = tokens.copy()
    changed[chosen] = np.where(action < 0.8, mask_id, np.where(action < 0.9, random_ids, tokens[chosen]))
    return changed
