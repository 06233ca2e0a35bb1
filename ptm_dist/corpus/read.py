"""Sources: where documents come from. A source names its work units (parts), reads one, and says what identifies its content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.corpus.docstrings import docstrings_of, source_files, topics, version_of
from ptm_dist.corpus.files import BROKEN, damaged, fingerprint, named_files, size_of
from ptm_dist.corpus.lines import blank_line_documents, json_documents, text_document
from ptm_dist.data.document import Document

PART_BYTES: Final = 4 << 20
"""Input of one work unit. It never depends on the number of cores, because the order of documents follows from it."""

_SUFFIXES: Final = tuple(form + packing for form in (".txt", ".jsonl") for packing in ("", ".gz", ".zst"))


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
        return {"files": [fingerprint(name, url) for name, url in self._files()], "documents": self.documents}

    def parts(self) -> list[list[str]]:
        """Return lists of "name NUL url", each of about 4 MB of files; a larger file is a part of its own."""
        return in_parts([(f"{name}\0{url}", size_of(url)) for name, url in self._files()])

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
            except BROKEN as error:
                raise damaged(url, error) from error

    def _documents(self, name: str, url: str) -> Iterable[Document]:
        if _is_json(url):
            return json_documents(name, url)
        return [text_document(name, url)] if self.documents == "files" else blank_line_documents(name, url)

    def _files(self) -> list[tuple[str, str]]:
        return named_files(self.paths, _SUFFIXES, "paths")


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
