"""Exact duplicates: texts that are equal but for case and white space. Which one stays does not depend on who found it first."""

from __future__ import annotations

import hashlib

import numpy as np
from pydantic import BaseModel, ConfigDict


class DedupSettings(BaseModel):
    """Which duplicates are dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    exact: bool = True
    """Drop texts that differ from an earlier one in case and white space only."""


def text_key(text: str) -> tuple[int, int]:
    """Return the 128-bit BLAKE2b of the text, with its case folded and white space collapsed, as two 64-bit words."""
    folded = " ".join(text.casefold().split())
    key = hashlib.blake2b(folded.encode(), digest_size=16).digest()
    return int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")


def first_of_each(keys: np.ndarray) -> np.ndarray:
    """Return bool [documents]: whether no earlier row of `keys`, uint64 [documents, 2], is the same.

    Rows must be in canonical order: by source name, then part, then place in the part.
    """
    # lexsort is stable: among equal keys the earliest row comes first.
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    first = np.ones(len(keys), dtype=bool)
    first[order[1:]] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return first
