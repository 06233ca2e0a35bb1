"""Data sets made of given rows, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ptm_dist.corpus.shard import Shards, ShardWriter, merge
from ptm_dist.data.example import token_dtype
from ptm_dist.data.vocabulary import Vocabulary


def write_sources(directory: Path, sources: Mapping[str, Sequence[np.ndarray]], vocabulary: Vocabulary, rows_per_chunk: int) -> Path:
    """Write rows of token ids of several sources as a data set that keeps them apart, two parts a source; return its directory."""
    names = [name for name in sources for _ in range(2)]
    halves = [rows[start::2] for rows in sources.values() for start in range(2)]
    parts = [_write(directory, rows, vocabulary, rows_per_chunk, f"part-{number}") for number, rows in enumerate(halves)]
    merge(directory, parts, {}, names)
    return directory


def write_rows(directory: Path, rows: Sequence[np.ndarray], vocabulary: Vocabulary, rows_per_chunk: int) -> Path:
    """Write rows of token ids as a data set and return its directory."""
    merge(directory, [_write(directory, rows, vocabulary, rows_per_chunk, "part")], {})
    return directory


def _write(directory: Path, rows: Sequence[np.ndarray], vocabulary: Vocabulary, rows_per_chunk: int, prefix: str) -> Shards:
    examples = ({"tokens": row.astype(token_dtype(vocabulary.size))} for row in rows)
    return ShardWriter(directory, vocabulary, prefix, rows_per_chunk=rows_per_chunk, shard_bytes=40_000).write(examples)
