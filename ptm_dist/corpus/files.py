"""Files that a source reads: what patterns match, names that do not depend on where a folder lies, and what tells content apart."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

import fsspec
import zstandard

from ptm_dist.errors import DataIntegrityError, DataUnavailableError
from ptm_dist.store import open_raw, open_url, split_scheme

BROKEN: Final = (EOFError, zlib.error, zstandard.ZstdError, gzip.BadGzipFile)
"""What is raised where a compressed file is damaged."""


def named_files(patterns: Iterable[str], suffixes: tuple[str, ...], field: str) -> list[tuple[str, str]]:
    """Return (name, url) of the files that patterns match, sorted by name.

    Names do not depend on where the folder lies; equal names are told apart by number. In folders and by glob patterns only files that end
    in one of `suffixes` are found; without suffixes all but hidden ones. `field` is where the patterns stand, for messages.

    Raises:
        DataUnavailableError: a pattern matches nothing, or cannot be listed.

    """
    found = {url: name for pattern in patterns for name, url in _matches(pattern, suffixes, field)}
    named, again = dict[str, str](), Counter[str]()
    for url, name in sorted(found.items(), key=lambda item: (item[1], item[0])):
        again[name] += name in named
        named[f"{name}#{again[name] + 1}" if name in named else name] = url
    return sorted(named.items())


def size_of(url: str) -> int:
    """Return the bytes of a file as it lies there."""
    system, path = fsspec.core.url_to_fs(url)
    return int(system.size(path) or 0)


def fingerprint(name: str, url: str) -> dict[str, Any]:
    """Return name, size and content hash of a file; of a remote one what its store says of its version."""
    if split_scheme(url) != "file":
        system, path = fsspec.core.url_to_fs(url)
        return {"name": name, "bytes": size_of(url), "stamp": str(system.ukey(path))}
    with open_raw(url) as file:
        return {"name": name, "bytes": size_of(url), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def whole(url: str) -> bytes:
    """Return all of a file, decompressed.

    Raises:
        DataUnavailableError: it does not exist or may not be read.
        DataIntegrityError: its compression is broken.

    """
    try:
        with open_url(url) as file:
            return file.read()
    except BROKEN as error:
        raise damaged(url, error) from error


def damaged(url: str, error: Exception) -> DataIntegrityError:
    """Return what to say of a file whose compression is broken."""
    return DataIntegrityError(f"{url}: the compressed file is damaged or cut short ({error}). Copy it again.")


def _matches(pattern: str, suffixes: tuple[str, ...], field: str) -> Iterator[tuple[str, str]]:
    """Yield (name relative to the folder that the pattern names, url) of every file that the pattern matches."""
    scheme = split_scheme(pattern)
    try:
        system, path = fsspec.core.url_to_fs(pattern)
        found, base = _found(system, path, suffixes)
    except (OSError, ImportError) as error:
        raise DataUnavailableError(f"{field}: {pattern!r} cannot be listed ({error}). Check the address and your rights.") from error
    if not found:
        folder = any(c in path for c in "*?[") or system.isdir(path)
        expected = f"no {', '.join(suffixes)} file" if suffixes and folder else "no file"
        raise DataUnavailableError(f"{field}: {pattern!r} matches {expected}. Check the spelling, and that every worker sees this folder.")
    for file in found:
        yield file[len(base) :].lstrip("/"), file if scheme == "file" else system.unstrip_protocol(file)


def _found(system: fsspec.AbstractFileSystem, path: str, suffixes: tuple[str, ...]) -> tuple[list[str], str]:
    """Return the files that `path` stands for, and the folder that their names are relative to."""
    if system.isfile(path):
        return [path], system._parent(path)
    if system.isdir(path):
        return [file for file in sorted(system.find(path)) if _is_wanted(file, suffixes)], path
    plain = path[: min((path.index(c) for c in "*?[" if c in path), default=len(path))]
    files = [str(file) for file in sorted(system.glob(path)) if _is_wanted(str(file), suffixes) and system.isfile(file)]
    return files, plain.rpartition("/")[0]


def _is_wanted(file: str, suffixes: tuple[str, ...]) -> bool:
    return file.endswith(suffixes) if suffixes else not file.rpartition("/")[2].startswith(".")
