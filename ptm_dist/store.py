"""Files: where bytes come from (any allowed fsspec URL) and how they get onto a disk so that a crash leaves old or new, never half."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import fsspec
import fsspec.compression
import fsspec.utils
import zstandard

from ptm_dist.errors import ConfigError, DataUnavailableError, StorageError

SCHEMES: Final = frozenset({"file", "s3", "gs", "az", "https", "http", "memory"})
"""What a URL may begin with. `pipe:` and other schemes that run commands are refused."""


def split_scheme(url: str) -> str:
    """Return the scheme of `url`, "file" for a plain path.

    Raises:
        ConfigError: the scheme is not on the list of allowed ones.

    """
    scheme, colon, _ = url.strip().partition(":")
    if not colon or "/" in scheme or os.path.exists(url):
        return "file"
    scheme = scheme.lower()
    if scheme not in SCHEMES:
        raise ConfigError(f"{url}: scheme {scheme!r} is not allowed; use one of {', '.join(sorted(SCHEMES))}, or a path.")
    return scheme


def open_raw(url: str) -> Any:
    """Open a file as it lies there, not decompressed.

    Raises:
        DataUnavailableError: it does not exist or may not be read.

    """
    split_scheme(url)
    system, path = fsspec.core.url_to_fs(url)
    try:
        return system.open(path, "rb")
    except OSError as error:
        raise DataUnavailableError(f"{url}: {error.strerror or error}. Check the path and its permissions.") from error


def open_url(url: str) -> IO[bytes]:
    """Open a file for reading bytes, decompressed when it ends in .gz, .bz2, .xz or .zst.

    Raises:
        ConfigError: the scheme of the URL is not allowed.
        DataUnavailableError: it does not exist or may not be read.

    """
    if url.endswith(".zst"):
        # fsspec's own reader stops after the first frame and takes a file that was cut short for a whole one.
        return io.BufferedReader(_Pieces(_frames(open_raw(url))))
    raw = open_raw(url)
    packing = fsspec.utils.infer_compression(url)
    return fsspec.compression.compr[packing](raw, mode="rb") if packing else raw  # type: ignore[index]


def _frames(file: Any) -> Iterator[bytes]:
    with file:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        inside = False
        while data := file.read(1 << 20):
            while data:
                yield decompressor.decompress(data)
                data, inside = decompressor.unused_data, not decompressor.eof
                if not inside:
                    decompressor = zstandard.ZstdDecompressor().decompressobj()
        if inside:
            raise EOFError("the last frame has no end")


class _Pieces(io.RawIOBase):
    """A file made of pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and (piece := next(self._pieces, None)) is not None:
            self._rest = piece
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a local file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces; what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 in hex of the canonical JSON of `value`."""
    return sha256_bytes(canonical_json(value).encode())


@contextmanager
def explain_disk_errors(where: Path | str) -> Iterator[None]:
    """Turn a full, read-only or failing disk under `where` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "the disk is full; free some space or choose another directory",
            errno.EDQUOT: "the disk quota is used up; free some space or choose another directory",
            errno.EROFS: "the file system is read-only; choose another directory",
            errno.EACCES: "permission denied; choose another directory or change its permissions",
            errno.EPERM: "operation not permitted; choose another directory or change its permissions",
            errno.EIO: "the disk reports an input/output error",
            errno.ENOTDIR: "a part of the path is a file, not a directory; choose another one",
        }.get(error.errno or 0)
        if advice is None:
            raise
        raise StorageError(f"cannot write {error.filename or where}: {advice}. Nothing that was complete is lost.") from error


def fsync_directory(path: Path) -> None:
    """Make renames inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one.

    Raises:
        StorageError: the disk is full or cannot be written.

    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically; equal values give equal bytes."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON from a local file.

    Raises:
        DataUnavailableError: the file is missing or is not JSON.

    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataUnavailableError(f"{path}: cannot be read as JSON ({error}).") from error
