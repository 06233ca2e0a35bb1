"""Documents between the stages of preparation, on disk: as text (JSON lines, zstd) and as token ids (plain .npy)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import zstandard

from ptm_dist.data.document import TOKEN, WORD, Document, TokenizedDocument, tokens
from ptm_dist.data.example import token_dtype
from ptm_dist.errors import DataIntegrityError
from ptm_dist.store import open_url, write_atomic

_ARRAYS: Final = ("id", "marks", "letters", "sentences", "labels", "documents")


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

    PREFIX.id.npy [tokens] holds all ids, PREFIX.marks.npy and PREFIX.letters.npy [tokens] what else tokens have, if any has some;
    PREFIX.sentences.npy [pieces] the tokens of each piece, PREFIX.labels.npy [pieces] their labels,
    PREFIX.documents.npy [documents] the pieces of each document, PREFIX.ids.json the ids of the documents.
    """
    pieces = [piece for document in documents for piece in document.sentences]
    flat = np.concatenate(pieces) if pieces else tokens([])
    arrays = {name: flat[name] for name in flat.dtype.names or () if name == "id" or flat[name].any()}
    arrays["id"] = arrays["id"].astype(token_dtype(vocabulary_size))
    arrays["sentences"] = np.array([len(piece) for piece in pieces], dtype="<u4")
    arrays["documents"] = np.array([len(document.sentences) for document in documents], dtype="<u4")
    labels = np.array([label for document in documents for label in document.labels], dtype="<u2")
    arrays |= {"labels": labels} if labels.any() else {}
    for name, values in arrays.items():
        write_array(_beside(prefix, f"{name}.npy"), values)
    write_atomic(_beside(prefix, "ids.json"), json.dumps([document.id for document in documents], ensure_ascii=False).encode())
    return [_beside(prefix, name).name for name in (*(f"{array}.npy" for array in arrays), "ids.json")]


def read_tokenized(prefix: Path) -> Iterator[TokenizedDocument]:
    """Yield the documents that `write_tokenized` wrote under this prefix."""
    arrays = {name: np.load(path, allow_pickle=False) for name in _ARRAYS if (path := _beside(prefix, f"{name}.npy")).exists()}
    flat = tokens(arrays["id"], arrays.get("marks", 0), WORD if "letters" in arrays else TOKEN)
    if "letters" in arrays:
        flat["letters"] = arrays["letters"]
    ends = np.cumsum(arrays["sentences"], dtype=np.int64)
    pieces = np.split(flat, ends[:-1]) if len(ends) else []
    labels = arrays["labels"].tolist() if "labels" in arrays else [0] * len(pieces)
    ids = json.loads(_beside(prefix, "ids.json").read_bytes())
    start = 0
    for document_id, count in zip(ids, arrays["documents"].tolist(), strict=True):
        yield TokenizedDocument(document_id, pieces[start : start + count], labels[start : start + count])
        start += count


def write_marks(path: Path, marks: Sequence[np.ndarray]) -> None:
    """Write the marks of the characters of some pieces, laid end to end."""
    write_array(path, np.concatenate([np.empty(0, np.uint8), *marks]))


def read_marks(path: Path, lengths: Sequence[int]) -> list[np.ndarray]:
    """Return the marks of pieces of these lengths."""
    flat = np.load(path, allow_pickle=False)
    return np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []


def write_array(path: Path, values: np.ndarray) -> None:
    """Write one array as .npy, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def _beside(prefix: Path, ending: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{ending}")
