"""Data sets made of given rows, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ptm_dist.corpus.shard import ShardWriter, merge
from ptm_dist.data.example import token_dtype
from ptm_dist.data.vocabulary import Vocabulary


def write_rows(directory: Path, rows: Sequence[np.ndarray], vocabulary: Vocabulary, rows_per_chunk: int) -> Path:
    """Write rows of token ids as a data set and return its directory."""
    examples = ({"tokens": row.astype(token_dtype(vocabulary.size))} for row in rows)
    writer = ShardWriter(directory, vocabulary, rows_per_chunk=rows_per_chunk, shard_bytes=40_000)
    merge(directory, [writer.write(examples)], {})
    return directory
