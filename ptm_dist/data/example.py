"""The training example, a fixed record of arrays, and the chunk, many examples as a few long arrays.

A 1-D array of an example runs along its tokens and has the length of `tokens`; a 0-D array is one value of the whole example.
In a chunk the former are laid end to end (1-D), the latter are a column (2-D, [rows, 1]); `lengths` cuts them apart again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from ptm_dist.errors import DataIntegrityError

Example: TypeAlias = dict[str, np.ndarray]
Chunk: TypeAlias = dict[str, np.ndarray]

NO_LABEL: Final = 255
"""What stands in `labels` and `pick`, uint8 a token, where nothing is asked, such as at [CLS]."""
STARTS: Final = 1
"""The bit of `pick` where an answer starts."""
ENDS: Final = 2
"""The bit of `pick` where an answer ends."""


def token_dtype(vocabulary_size: int) -> np.dtype:
    """Return the narrowest unsigned type that holds every id."""
    return np.dtype("<u2") if vocabulary_size <= 1 << 16 else np.dtype("<u4")


def pack(examples: Sequence[Example]) -> Chunk:
    """Lay examples of equal fields end to end."""
    chunk = {"lengths": np.array([len(example["tokens"]) for example in examples], dtype="<u4")}
    for field in sorted(examples[0]):
        values = [example[field] for example in examples]
        chunk[field] = np.concatenate(values) if values[0].ndim else np.stack(values).reshape(-1, 1)
    return chunk


def row(chunk: Chunk, index: int, starts: np.ndarray) -> Example:
    """Return example `index` of a chunk; `starts` is int64 [rows + 1], the running sum of its lengths."""
    cut = slice(int(starts[index]), int(starts[index + 1]))
    return {field: values[cut] if values.ndim == 1 else values[index, 0] for field, values in chunk.items() if field != "lengths"}


def row_starts(chunk: Chunk) -> np.ndarray:
    """Return where each row begins, int64 [rows + 1].

    Raises:
        DataIntegrityError: the arrays of the chunk do not fit its lengths.

    """
    starts = np.concatenate([[0], np.cumsum(chunk["lengths"], dtype=np.int64)])
    for field, values in chunk.items():
        fits = len(values) == (starts[-1] if values.ndim == 1 and field != "lengths" else len(chunk["lengths"]))
        if not fits:
            raise DataIntegrityError(f"array {field!r} of a chunk has {len(values)} values, which does not fit its lengths.")
    return starts
