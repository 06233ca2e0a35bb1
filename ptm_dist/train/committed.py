"""Committed checkpoints on disk: their form, their proof, and what a command may do with them. For one process; no torch.

A checkpoint is a directory `step-<12 digits>` of flat files and MANIFEST.json, which holds the size and SHA-256 of every file and a
digest of itself. Damaged ones are renamed to `.bad-<step>-<n>` and never removed. An empty file `pinned-<name>-<12 digits>` beside
them keeps one for ever.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError, PtmError, ResumeMismatchError
from ptm_dist.store import digest, explain_disk_errors, fsync_directory, sha256_file

SCHEMA: Final = 1
MANIFEST: Final = "MANIFEST.json"

_FINAL = re.compile(r"step-(\d{12})")
_PIN = re.compile(r"pinned-([A-Za-z0-9_.-]+)-(\d{12})")
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)
"""What reading a damaged checkpoint may answer; other errors (permissions, a stale mount) say nothing about the bytes."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint whose bytes were verified when it was written or chosen."""

    path: Path
    step: int
    manifest: dict[str, Any]

    @property
    def state(self) -> dict[str, Any]:
        """What the caller saved beside the files."""
        return self.manifest["state"]

    @property
    def world(self) -> int:
        """The number of ranks that wrote it."""
        return self.manifest["world"]

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, and so of everything in the checkpoint."""
        return self.manifest["digest"]


@dataclass(frozen=True)
class CheckpointInfo:
    """One line of `ptm checkpoint ls`; nothing was hashed. `world` is None where the manifest is unreadable."""

    path: Path
    step: int
    bytes: int
    """What its files occupy now."""
    world: int | None
    age_seconds: float
    pins: tuple[str, ...]


def list_checkpoints(root: Path) -> list[CheckpointInfo]:
    """Return the committed checkpoints under `root`, oldest first."""
    return [_info(root, step, path) for step, path in sorted(committed(root).items())]


def checkpoint_of(root: Path, step: int | None = None) -> CheckpointInfo:
    """Return the committed checkpoint of a step under `root`, by default the newest; its bytes are not checked.

    Raises:
        ConfigError: there is none.

    """
    found = {info.step: info for info in list_checkpoints(root)}
    step = max(found, default=0) if step is None else step
    if step not in found:
        have = ", ".join(map(str, sorted(found))) or "none"
        raise ConfigError(f"{root.parent}: no checkpoint of step {step}; there are: {have}.")
    return found[step]


def list_quarantined(root: Path) -> list[Path]:
    """Return the damaged checkpoints that were set aside under `root`."""
    return sorted(root.glob(".bad-*"))


def verify(path: Path) -> None:
    """Check every byte of a checkpoint against its manifest.

    Raises:
        DataIntegrityError: something is damaged, missing or too many; the message names the file.
        DataUnavailableError: it cannot be read just now.
        ResumeMismatchError: a newer ptm_dist wrote it.

    """
    inspect(path)


def pin(root: Path, step: int, name: str) -> None:
    """Keep the checkpoint of `step` for ever under `name`; a name that was elsewhere moves.

    Raises:
        ConfigError: there is no such checkpoint, or the name has other characters than letters, digits, `_`, `.` and `-`.
        StorageError: the disk cannot be written.

    """
    if step not in committed(root):
        raise ConfigError(f"{root}: no checkpoint of step {step} to pin. ptm checkpoint ls shows what there is.")
    mark(root, step, name)
    unmark_others(root, step, name)


def name_of(step: int) -> str:
    """Return the name of the directory of a checkpoint."""
    return f"step-{step:012d}"


def committed(root: Path) -> dict[int, Path]:
    """Return what bears the name of a checkpoint under `root`, by step."""
    return {int(match[1]): path for path in root.glob("step-*") if (match := _FINAL.fullmatch(path.name))}


def size_of(manifest: dict[str, Any]) -> int:
    """Return the bytes of all files of a checkpoint."""
    return sum(entry["bytes"] for entry in manifest["files"].values())


def seal(body: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest, as it will be read again: `body` and the digest of it."""
    body = json.loads(json.dumps(body, allow_nan=False))
    return body | {"digest": digest(body)}


def render(manifest: dict[str, Any]) -> bytes:
    """Return the only bytes that a manifest may have."""
    return (json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint, proved by its own digest; the files are not looked at.

    Raises:
        DataIntegrityError: it is missing or any bit of it is wrong.
        ResumeMismatchError: a newer ptm_dist wrote it.

    """
    path = checkpoint / MANIFEST
    manifest = _unseal(_try_read(path))
    if manifest is None:
        raise DataIntegrityError(f"{path}: is not what was written.")
    if manifest["schema"] != SCHEMA:
        raise ResumeMismatchError(f"{path}: schema {manifest['schema']}, this ptm_dist reads {SCHEMA}. Use the version that wrote it.")
    if name_of(manifest["step"]) != checkpoint.name:
        raise DataIntegrityError(f"{path}: belongs to step {manifest['step']}; the directory was renamed.")
    return manifest


def inspect(path: Path, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Return the manifest after checking the set of files, their sizes, and the hash of every `world`-th file from `rank`.

    Raises: as `verify`.

    """
    manifest = _read_form(path)
    files = manifest["files"]
    for name in sorted(files)[rank::world]:
        try:
            right = sha256_file(path / name) == files[name]["sha256"]
        except OSError as error:
            raise _by_errno(path / name, error) from error
        if not right:
            raise DataIntegrityError(f"{path / name}: the SHA-256 is not that of the manifest.")
    return manifest


def looks_whole(path: Path) -> bool:
    """Return whether manifest, set of files and sizes are right; nothing is hashed."""
    try:
        _read_form(path)
    except PtmError:
        return False
    return True


def set_aside(path: Path) -> None:
    """Rename a damaged checkpoint so that it is never chosen again."""
    step = path.name.removeprefix("step-")
    free = next(name for n in itertools.count() if not os.path.lexists(name := path.with_name(f".bad-{step}-{n}")))
    os.rename(path, free)
    fsync_directory(path.parent)


def pins_of(root: Path, step: int) -> tuple[str, ...]:
    """Return the names under which a step is kept."""
    return tuple(sorted(name for name, pinned in _pins(root) if pinned == step))


def mark(root: Path, step: int, name: str) -> None:
    """Pin a step, there or still to come, and leave other pins alone.

    Raises:
        ConfigError: the name has other characters than letters, digits, `_`, `.` and `-`.

    """
    path = _pin_path(root, name, step)
    if not _PIN.fullmatch(path.name):
        raise ConfigError(f"checkpoint pin {name!r}: use letters, digits, '_', '.' and '-' only.")
    with explain_disk_errors(path):
        path.touch()
        fsync_directory(root)


def unmark_others(root: Path, step: int, name: str) -> None:
    """Let go of every other step that was pinned as `name`."""
    for other in [pinned for found, pinned in _pins(root) if found == name and pinned != step]:
        with explain_disk_errors(root):
            _pin_path(root, name, other).unlink(missing_ok=True)


def sweep(root: Path, *prefixes: str) -> None:
    """Remove, as far as possible, the files and directories of `root` whose name starts so."""
    for path in [path for prefix in prefixes for path in root.glob(f"{prefix}*")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _pins(root: Path) -> list[tuple[str, int]]:
    matches = (_PIN.fullmatch(path.name) for path in root.glob("pinned-*"))
    return [(match[1], int(match[2])) for match in matches if match]


def _pin_path(root: Path, name: str, step: int) -> Path:
    return root / f"pinned-{name}-{step:012d}"


def _info(root: Path, step: int, path: Path) -> CheckpointInfo:
    try:
        world = read_manifest(path)["world"]
    except PtmError:
        world = None
    size = sum(file.lstat().st_size for file in path.glob("*"))
    return CheckpointInfo(path, step, size, world, max(0.0, time.time() - path.stat().st_mtime), pins_of(root, step))


def _unseal(data: bytes) -> dict[str, Any] | None:
    try:
        manifest = json.loads(data)
        body = {key: value for key, value in manifest.items() if key != "digest"}
        # Comparing the bytes as well leaves nothing that may change unseen, not even white space.
        return manifest if manifest["digest"] == digest(body) and data == render(manifest) else None
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None


def _try_read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _by_errno(path, error) from error


def _read_form(path: Path) -> dict[str, Any]:
    """Return the manifest after checking all that needs no hashing."""
    manifest = read_manifest(path)
    try:
        _check_set(path, manifest["files"])
        for name, entry in manifest["files"].items():
            _check_size(path / name, entry["bytes"])
    except OSError as error:
        raise _by_errno(path, error) from error
    return manifest


def _check_set(path: Path, files: dict[str, Any]) -> None:
    there = {entry.name for entry in path.iterdir()} - {MANIFEST}
    if missing := sorted(files.keys() - there):
        raise DataIntegrityError(f"{path / missing[0]}: is missing.")
    if extra := sorted(there - files.keys()):
        raise DataIntegrityError(f"{path / extra[0]}: is not in the manifest.")


def _check_size(path: Path, size: int) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise DataIntegrityError(f"{path}: is not a plain file.")
    if found.st_size != size:
        raise DataIntegrityError(f"{path}: has {found.st_size:,} bytes, the manifest says {size:,}.")


def _by_errno(path: Path, error: OSError) -> PtmError:
    text = f"{error.filename or path}: {error.strerror or error}"
    if error.errno in _DAMAGE:
        return DataIntegrityError(f"{text}.")
    return DataUnavailableError(f"{text}. Nothing was changed; repair the access and give the same command again.")
