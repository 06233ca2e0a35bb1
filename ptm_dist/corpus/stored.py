"""Documents between the stages of preparation, on disk: as text (JSON lines, zstd) and as token ids (plain .npy)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import zstandard

from ptm_dist.data.document import Document, TokenizedDocument
from ptm_dist.data.example import token_dtype
from ptm_dist.errors import DataIntegrityError
from ptm_dist.store import open_url, write_atomic

_ARRAYS: Final = ("tokens", "sentences", "documents")


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as one {"id", "text", "meta"} a line, compressed with fixed settings and a checksum."""
    lines = (json.dumps({"id": d.id, "text": d.text, "meta": dict(d.meta)}, ensure_ascii=False, sort_keys=True) + "\n" for d in documents)
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    write_atomic(path, compressor.compress("".join(lines).encode()))


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file that `write_documents` wrote.

    Raises:
        DataIntegrityError: the file is damaged.

    """
    try:
        with open_url(str(path)) as file:
            for line in file:
                yield Document(**json.loads(line))
    except (zstandard.ZstdError, EOFError, ValueError) as error:
        raise DataIntegrityError(f"{path}: the file is damaged ({error}). Delete it and prepare again: it makes the same bytes.") from error


def write_tokenized(prefix: Path, documents: Sequence[TokenizedDocument], vocabulary_size: int) -> list[str]:
    """Write documents as flat arrays and return the names of the files.

    PREFIX.tokens.npy [tokens] holds all ids, PREFIX.sentences.npy [sentences] the tokens of each sentence,
    PREFIX.documents.npy [documents] the sentences of each document, PREFIX.ids.json the ids of the documents.
    """
    sentences = [sentence for document in documents for sentence in document.sentences]
    arrays = (
        np.concatenate([np.empty(0, np.int32), *sentences]).astype(token_dtype(vocabulary_size)),
        np.array([len(sentence) for sentence in sentences], dtype="<u4"),
        np.array([len(document.sentences) for document in documents], dtype="<u4"),
    )
    for name, values in zip(_ARRAYS, arrays, strict=True):
        write_array(_beside(prefix, f"{name}.npy"), values)
    write_atomic(_beside(prefix, "ids.json"), json.dumps([document.id for document in documents], ensure_ascii=False).encode())
    return [_beside(prefix, name).name for name in (*(f"{array}.npy" for array in _ARRAYS), "ids.json")]


def read_tokenized(prefix: Path) -> Iterator[TokenizedDocument]:
    """Yield the documents that `write_tokenized` wrote under this prefix."""
    tokens, sentences, documents = (np.load(_beside(prefix, f"{name}.npy"), allow_pickle=False) for name in _ARRAYS)
    ids = json.loads(_beside(prefix, "ids.json").read_bytes())
    pieces = np.split(tokens.astype(np.int32), np.cumsum(sentences, dtype=np.int64)[:-1]) if len(sentences) else []
    start = 0
    for document_id, count in zip(ids, documents.tolist(), strict=True):
        yield TokenizedDocument(document_id, pieces[start : start + count])
        start += count


def write_array(path: Path, values: np.ndarray) -> None:
    """Write one array as .npy, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def _beside(prefix: Path, ending: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{ending}")
