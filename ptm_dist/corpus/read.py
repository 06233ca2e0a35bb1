"""Sources: where documents come from. A source names its work units (parts), reads one, and says what identifies its content."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, Protocol

import fsspec
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.corpus.docstrings import docstrings_of, source_files, topics, version_of
from ptm_dist.corpus.lines import blank_line_documents, json_documents, text_document
from ptm_dist.data.document import Document
from ptm_dist.errors import DataIntegrityError, DataUnavailableError
from ptm_dist.store import open_raw, split_scheme

PART_BYTES: Final = 4 << 20
"""Input of one work unit. It never depends on the number of cores, because the order of documents follows from it."""

_SUFFIXES: Final = tuple(form + packing for form in (".txt", ".jsonl") for packing in ("", ".gz", ".zst"))
_BROKEN: Final = (EOFError, zlib.error, zstandard.ZstdError, gzip.BadGzipFile)


class Source(Protocol):
    """Documents from somewhere; it is its own configuration."""

    kind: str

    def identity(self) -> dict[str, Any]:
        """Return plain data that changes exactly when the documents may change."""
        ...

    def parts(self) -> list[list[str]]:
        """Return the work units in order, each a list of names that `read` understands."""
        ...

    def read(self, part: list[str]) -> Iterator[Document | str]:
        """Yield the documents of a work unit, or the reason why one cannot be had."""
        ...


class TextSource(BaseModel):
    """Text files (.txt) and JSON lines (.jsonl, a document each), also as .gz or .zst.

    A line of JSON has "text" and optionally "id", "title", or "pair" and "label"; or "turns" of a dialogue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["text"] = "text"
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, directories (with all below them), glob patterns, or URLs of these."""
    documents: Literal["files", "blank_lines"] = "files"
    """What a document is in .txt: the whole file, or what lies between blank lines."""

    def identity(self) -> dict[str, Any]:
        """Return name, size and content hash of every file; a remote file counts as changed when its store says so."""
        return {"files": [_fingerprint(name, url) for name, url in self._files()], "documents": self.documents}

    def parts(self) -> list[list[str]]:
        """Return lists of "name NUL url", each of about 4 MB of files; a larger file is a part of its own."""
        return in_parts([(f"{name}\0{url}", _size(url)) for name, url in self._files()])

    def read(self, part: list[str]) -> Iterator[Document | str]:
        """Yield the documents of some files; ids are the file's name, with the line number where a file holds several, or JSON's own id.

        Raises:
            DataUnavailableError: a file is gone or is not UTF-8.
            DataIntegrityError: a line is not a JSON object with a text, or the compression is broken.

        """
        for item in part:
            name, _, url = item.partition("\0")
            try:
                yield from self._documents(name, url)
            except _BROKEN as error:
                raise DataIntegrityError(f"{url}: the compressed file is damaged or cut short ({error}). Copy it again.") from error

    def _documents(self, name: str, url: str) -> Iterable[Document]:
        if _is_json(url):
            return json_documents(name, url)
        return [text_document(name, url)] if self.documents == "files" else blank_line_documents(name, url)

    def _files(self) -> list[tuple[str, str]]:
        """Return (name, url) sorted by name. Names do not depend on where the folder lies; equal names are told apart by number."""
        found = {url: name for pattern in self.paths for name, url in _matches(pattern)}
        named: dict[str, str] = {}
        for url, name in sorted(found.items(), key=lambda item: (item[1], item[0])):
            number = sum(1 for taken in named if taken.rpartition("#")[0] == name) + 2
            named[f"{name}#{number}" if name in named else name] = url
        return sorted(named.items())


class InstalledDocs(BaseModel):
    """Docstrings over 200 characters and the help topics of Python: some 16 MB of English that need no download."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["installed_docs"] = "installed_docs"
    packages: Annotated[tuple[str, ...], Field(min_length=1)] = ("python",)
    """Installed packages by their import names; "python" is the standard library with its help topics."""

    def identity(self) -> dict[str, Any]:
        """Return the packages in their order, with versions."""
        return {"packages": [[name, version_of(name)] for name in ("python", *self.packages)]}

    def parts(self) -> list[list[str]]:
        """Return lists of source files, "package/path.py", each of about 4 MB of Python; the help topics come first."""
        files = [pair for package in self.packages for pair in source_files(package)]
        first = [["topics"]] if "python" in self.packages else []
        return first + in_parts(files)

    def read(self, part: list[str]) -> Iterator[Document | str]:
        """Yield one document a docstring, its id the file and line; a file that does not parse is the reason `not_python`."""
        for name in part:
            yield from topics() if name == "topics" else docstrings_of(name)


def _is_json(url: str) -> bool:
    return url.removesuffix(".gz").removesuffix(".zst").endswith(".jsonl")


def in_parts(sized: list[tuple[str, int]]) -> list[list[str]]:
    """Cut named sizes into runs of about PART_BYTES."""
    parts: list[list[str]] = []
    filled = PART_BYTES
    for name, size in sized:
        if filled >= PART_BYTES:
            parts.append([])
            filled = 0
        parts[-1].append(name)
        filled += size
    return parts


def _matches(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield (name relative to the folder that the pattern names, url) of every text file that the pattern matches."""
    scheme = split_scheme(pattern)
    try:
        system, path = fsspec.core.url_to_fs(pattern)
        found, base = _found(system, path)
    except (OSError, ImportError) as error:
        raise DataUnavailableError(f"paths: {pattern!r} cannot be listed ({error}). Check the address and your rights.") from error
    if not found:
        expected = "no file" if not any(c in path for c in "*?[") and not system.isdir(path) else f"no {', '.join(_SUFFIXES)} file"
        raise DataUnavailableError(f"paths: {pattern!r} matches {expected}. Check the spelling, and that every worker sees this folder.")
    for file in found:
        yield file[len(base) :].lstrip("/"), file if scheme == "file" else system.unstrip_protocol(file)


def _found(system: fsspec.AbstractFileSystem, path: str) -> tuple[list[str], str]:
    """Return the files that `path` stands for, and the folder that their names are relative to."""
    if system.isfile(path):
        return [path], system._parent(path)
    if system.isdir(path):
        return [file for file in sorted(system.find(path)) if file.endswith(_SUFFIXES)], path
    plain = path[: min((path.index(c) for c in "*?[" if c in path), default=len(path))]
    files = [str(file) for file in sorted(system.glob(path)) if str(file).endswith(_SUFFIXES) and system.isfile(file)]
    return files, plain.rpartition("/")[0]


def _size(url: str) -> int:
    system, path = fsspec.core.url_to_fs(url)
    return int(system.size(path) or 0)


def _fingerprint(name: str, url: str) -> dict[str, Any]:
    if split_scheme(url) != "file":
        system, path = fsspec.core.url_to_fs(url)
        return {"name": name, "bytes": _size(url), "stamp": str(system.ukey(path))}
    with open_raw(url) as file:
        return {"name": name, "bytes": _size(url), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
