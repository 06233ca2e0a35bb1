"""Examples to WebDataset tars and the manifest entries that describe them; equal examples give equal bytes.

Several tasks may write shards of one data set side by side, each with its own prefix; `merge` makes one manifest of them.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from ptm_dist.data.dataset import LENGTHS, MANIFEST, SOURCE_TOKEN_COUNTS, TOKEN_COUNTS, ChunkEntry, ShardEntry, write_manifest
from ptm_dist.data.example import Example, pack
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.store import sha256_bytes, write_atomic

ROWS_PER_CHUNK: Final = 64
SHARD_BYTES: Final = 16 << 20


@dataclass
class Shards:
    """What was written: entries of shards and chunks, uint32 [rows] lengths, int64 [vocabulary size] counts of each id."""

    shards: list[ShardEntry]
    chunks: list[ChunkEntry]
    lengths: np.ndarray
    token_counts: np.ndarray

    def entries(self) -> dict[str, Any]:
        """Return shards and chunks as plain data."""
        return {"shards": [asdict(shard) for shard in self.shards], "chunks": [asdict(chunk) for chunk in self.chunks]}

    @classmethod
    def of(cls, entries: dict[str, Any], lengths: np.ndarray, token_counts: np.ndarray) -> Shards:
        """Return the shards whose `entries()` these are."""
        shards = [ShardEntry(**shard) for shard in entries["shards"]]
        return cls(shards, [ChunkEntry(**chunk) for chunk in entries["chunks"]], lengths, token_counts)


@dataclass(frozen=True)
class ShardWriter:
    """Where shards go and how large they get. A shard is closed once it holds `shard_bytes`, so it may exceed them by a chunk."""

    directory: Path
    vocabulary: Vocabulary
    prefix: str = "part"
    rows_per_chunk: int = ROWS_PER_CHUNK
    shard_bytes: int = SHARD_BYTES

    def write(self, examples: Iterator[Example]) -> Shards:
        """Write all examples as PREFIX-NNNNNN.tar; each appears under its final name complete or not at all.

        Raises:
            StorageError: the disk is full or cannot be written.

        """
        written = Shards([], [], np.empty(0, dtype="<u4"), np.zeros(self.vocabulary.size, dtype="<i8"))
        lengths = []
        shard = _OpenShard(self._name(0))
        while rows := list(islice(examples, self.rows_per_chunk)):
            chunk = pack(rows)
            shard.add(f"{len(written.chunks) + len(shard.cuts):08d}", chunk)
            lengths.append(chunk["lengths"])
            written.token_counts += np.bincount(chunk["tokens"], minlength=self.vocabulary.size)
            if shard.bytes >= self.shard_bytes:
                self._close(shard, written)
                shard = _OpenShard(self._name(len(written.shards)))
        if shard.cuts:
            self._close(shard, written)
        written.lengths = np.concatenate([written.lengths, *lengths])
        return written

    def _name(self, number: int) -> str:
        return f"{self.prefix}-{number:06d}.tar"

    def _close(self, shard: _OpenShard, written: Shards) -> None:
        data = shard.finish()
        write_atomic(self.directory / shard.name, data)
        written.shards.append(ShardEntry(shard.name, len(data), sha256_bytes(data)))
        for cut in shard.cuts:
            digest = sha256_bytes(data[cut.offset : cut.offset + cut.bytes])
            written.chunks.append(ChunkEntry(shard.name, cut.offset, cut.bytes, cut.rows, cut.tokens, digest))


@dataclass(frozen=True)
class _Cut:
    offset: int
    bytes: int
    rows: int
    tokens: int


@dataclass
class _OpenShard:
    """A tar in memory: its size is bounded, and only whole files reach the disk."""

    name: str
    cuts: list[_Cut] = field(default_factory=list)
    _buffer: io.BytesIO = field(default_factory=io.BytesIO)

    def __post_init__(self) -> None:
        # Imported here because webdataset imports torch, which only the tasks that write shards should pay for.
        from webdataset.writer import TarWriter

        self._tar = TarWriter(self._buffer, user="ptm", group="ptm", mtime=0, encoder=False, compress=False)

    @property
    def bytes(self) -> int:
        return self._tar.tarstream.offset

    def add(self, key: str, chunk: dict[str, np.ndarray]) -> None:
        offset = self.bytes
        self._tar.write({"__key__": key} | {f"{name}.npy": _npy(values) for name, values in chunk.items()})
        self.cuts.append(_Cut(offset, self.bytes - offset, len(chunk["lengths"]), len(chunk["tokens"])))

    def finish(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def merge(directory: Path, parts: Sequence[Shards], about: dict[str, Any], sources: Sequence[str] = ()) -> list[str]:
    """Make one data set of the shards that lie in `directory`, in the order of `parts`; the manifest comes last.

    `sources` names the source of each part where their rows shall be told apart; parts of one source stand together. Returns the
    files that were written.
    """
    arrays = {
        LENGTHS: np.concatenate([part.lengths for part in parts]).astype("<u4"),
        TOKEN_COUNTS: np.sum([part.token_counts for part in parts], axis=0, dtype="<i8"),
    }
    rows, counts = Counter[str](), dict[str, Any]()
    for source, part in zip(sources, parts, strict=bool(sources)):
        if len(part.lengths):
            rows[source] += len(part.lengths)
            counts[source] = counts.get(source, 0) + part.token_counts
    if rows:
        arrays[SOURCE_TOKEN_COUNTS] = np.stack(list(counts.values())).astype("<i8")
        about = about | {"sources": [{"name": source, "rows": number} for source, number in rows.items()]}
    shards, chunks = [shard for part in parts for shard in part.shards], [chunk for part in parts for chunk in part.chunks]
    write_manifest(directory, shards, chunks, arrays, about)
    return [MANIFEST, *arrays]


def write_dataset(examples: Iterator[Example], directory: Path, vocabulary: Vocabulary, about: dict[str, Any]) -> None:
    """Write a whole data set from one process."""
    merge(directory, [ShardWriter(directory, vocabulary).write(examples)], about)
