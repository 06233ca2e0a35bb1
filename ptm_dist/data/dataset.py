"""A data set on disk: WebDataset tars, the manifest that describes every chunk of them, and random access to rows.

The stock webdataset library reads the tars in sequence; it can neither resume nor reach a row, so this reader stands beside it.
Members are read as bytes and as arrays without pickle; nothing is ever extracted to disk.
"""

from __future__ import annotations

import io
import tarfile
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from ptm_dist.data.example import Chunk, Example, row, row_starts
from ptm_dist.errors import DataIntegrityError, DataUnavailableError
from ptm_dist.store import digest, read_json, sha256_bytes, sha256_file, write_atomic, write_json

MANIFEST: Final = "manifest.json"
LENGTHS: Final = "lengths.npy"
TOKEN_COUNTS: Final = "token_counts.npy"
SOURCE_TOKEN_COUNTS: Final = "source_token_counts.npy"
SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """Where a chunk lies: `bytes` from `offset` of `shard` are its tar members, and their SHA-256."""

    shard: str
    offset: int
    bytes: int
    rows: int
    tokens: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A tar file of the data set."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SourcePart:
    """The rows that are of one source, and how often each id stands in them, int64 [vocabulary size]."""

    rows: range
    token_counts: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """The manifest of a data set, open for reading rows.

    `lengths` is uint32 [rows], tokens of each row in the order of the shards; `token_counts` is int64 [vocabulary size]. `sources` are
    the parts by source where they are kept apart, else one part without a name.
    """

    directory: Path
    shards: tuple[ShardEntry, ...]
    chunks: tuple[ChunkEntry, ...]
    lengths: np.ndarray
    token_counts: np.ndarray
    sources: dict[str, SourcePart]
    about: dict[str, Any]
    digest: str

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the data set in `directory` and check its side files.

        Raises:
            DataUnavailableError: there is no data set.
            DataIntegrityError: manifest, side files and shards do not belong together.

        """
        if not (directory / MANIFEST).exists():
            raise DataUnavailableError(f"{directory}: there is no data set here ({MANIFEST} is missing). Run: ptm data prepare RECIPE")
        manifest = read_json(directory / MANIFEST)
        if manifest.get("schema") != SCHEMA:
            raise DataIntegrityError(f"{directory / MANIFEST}: schema {manifest.get('schema')!r}, this version reads {SCHEMA}.")
        shards = tuple(ShardEntry(**entry) for entry in manifest["shards"])
        chunks = tuple(ChunkEntry(shards[entry.pop("shard")].name, **entry) for entry in manifest["chunks"])
        for shard in shards:
            _check_size(directory / shard.name, shard.bytes)
        arrays = {name: _read_side_file(directory / name, sha256) for name, sha256 in manifest["side_files"].items()}
        lengths, token_counts = arrays[LENGTHS], arrays[TOKEN_COUNTS]
        named = manifest["about"].get("sources", [{"name": "", "rows": len(lengths)}])
        sources = _parts(named, arrays.get(SOURCE_TOKEN_COUNTS, token_counts[None]))
        for what, rows in (("chunks", [chunk.rows for chunk in chunks]), ("sources", [entry["rows"] for entry in named])):
            if sum(rows) != len(lengths):
                raise DataIntegrityError(f"{directory / MANIFEST}: its {what} hold another number of rows than {LENGTHS} lists.")
        return cls(directory, shards, chunks, lengths, token_counts, sources, manifest["about"], digest(manifest))

    @property
    def rows(self) -> int:
        """Examples in the data set."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Tokens in the data set, special ones included."""
        return int(self.lengths.sum(dtype=np.int64))

    def verify(self) -> None:
        """Hash every shard as a whole.

        Raises:
            DataIntegrityError: naming the first shard that is not what the manifest promises.

        """
        for shard in self.shards:
            if sha256_file(self.directory / shard.name) != shard.sha256:
                raise DataIntegrityError(f"{self.directory / shard.name}: SHA-256 differs from the manifest. {REBUILD}")


REBUILD: Final = "Delete the folder and run ptm data prepare again: it makes the same bytes."


def write_manifest(
    directory: Path, shards: list[ShardEntry], chunks: list[ChunkEntry], side_files: dict[str, np.ndarray], about: dict[str, Any]
) -> None:
    """Write side files and manifest; the manifest comes last, so a data set without one is unfinished."""
    hashes = {}
    for name, values in sorted(side_files.items()):
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        write_atomic(directory / name, buffer.getvalue())
        hashes[name] = sha256_bytes(buffer.getvalue())
    number = {shard.name: index for index, shard in enumerate(shards)}
    fields = ("offset", "bytes", "rows", "tokens", "sha256")
    write_json(
        directory / MANIFEST,
        {
            "schema": SCHEMA,
            "about": about,
            "shards": [{"name": s.name, "bytes": s.bytes, "sha256": s.sha256} for s in shards],
            "chunks": [{"shard": number[c.shard]} | {f: getattr(c, f) for f in fields} for c in chunks],
            "side_files": hashes,
        },
    )


def _parts(named: list[dict[str, Any]], token_counts: np.ndarray) -> dict[str, SourcePart]:
    """Lay out the rows of sources [{name, rows}], one after the other; `token_counts` is int64 [sources, vocabulary size]."""
    ends = accumulate(entry["rows"] for entry in named)
    return {
        entry["name"]: SourcePart(range(end - entry["rows"], end), counts)
        for entry, end, counts in zip(named, ends, token_counts, strict=True)
    }


def _check_size(path: Path, expected_bytes: int) -> None:
    try:
        found_bytes = path.stat().st_size
    except OSError as error:
        raise DataIntegrityError(f"{path}: the manifest lists this shard, but it is missing. {REBUILD}") from error
    if found_bytes != expected_bytes:
        raise DataIntegrityError(f"{path}: {found_bytes:,} bytes, the manifest says {expected_bytes:,}. {REBUILD}")


def _read_side_file(path: Path, sha256: str) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataIntegrityError(f"{path}: the manifest lists this file, but it cannot be read. {REBUILD}") from error
    if sha256_bytes(data) != sha256:
        raise DataIntegrityError(f"{path}: SHA-256 differs from the manifest. {REBUILD}")
    return np.load(io.BytesIO(data), allow_pickle=False)


class RowReader:
    """Random access to the rows of a data set through a bounded cache of decoded chunks."""

    def __init__(self, dataset: Dataset, cached_chunks: int) -> None:
        self.dataset = dataset
        self._cached_chunks = cached_chunks
        self._cache: OrderedDict[int, tuple[Chunk, np.ndarray]] = OrderedDict()
        self._files: dict[str, io.BufferedReader] = {}

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each chunk."""
        return np.cumsum([0, *(chunk.rows for chunk in self.dataset.chunks)])

    def row(self, number: int) -> Example:
        """Return row `number` of the data set; raises as `read` does."""
        chunk = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self.read(chunk, number - int(self._starts[chunk]))

    def read(self, chunk: int, index: int) -> Example:
        """Return row `index` of chunk number `chunk`.

        Raises:
            DataIntegrityError: the bytes on disk are not what the manifest promises, naming shard and offset.

        """
        if chunk not in self._cache:
            arrays = self._load(self.dataset.chunks[chunk])
            self._cache[chunk] = arrays, row_starts(arrays)
            while len(self._cache) > self._cached_chunks:
                self._cache.popitem(last=False)
        self._cache.move_to_end(chunk)
        return row(self._cache[chunk][0], index, self._cache[chunk][1])

    def _load(self, entry: ChunkEntry) -> Chunk:
        path = self.dataset.directory / entry.shard
        try:
            if entry.shard not in self._files:
                self._files[entry.shard] = path.open("rb")
            file = self._files[entry.shard]
            file.seek(entry.offset)
            data = file.read(entry.bytes)
        except OSError as error:
            raise DataIntegrityError(f"{path}: cannot be read ({error.strerror}). {REBUILD}") from error
        if sha256_bytes(data) != entry.sha256:
            raise DataIntegrityError(f"{path}: the chunk at byte {entry.offset:,} is damaged (SHA-256 differs). {REBUILD}")
        return decode_chunk(data)


def decode_chunk(data: bytes) -> Chunk:
    """Return the arrays of a chunk from the bytes of its tar members, named KEY.FIELD.npy."""
    chunk = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            file = tar.extractfile(member)
            field = member.name.split(".")[1]
            if file is not None:
                chunk[field] = np.load(io.BytesIO(file.read()), allow_pickle=False)
    return chunk
