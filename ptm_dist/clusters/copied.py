"""Runs of which only a copy in an object store can be seen from here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec

from ptm_dist.errors import ConfigError
from ptm_dist.store import split_scheme

SMALL_BYTES: Final = 64 << 10
LARGEST_BYTES: Final = 1 << 30
_TEXTS: Final = (".json", ".jsonl", ".log", ".stacks")
_LEFT: Final = ("export", "init", "ray", "timing")
"""Folders of a run that say nothing of how it goes."""


def is_remote(run: str) -> bool:
    """Does a run lie in an object store?"""
    return "://" in run and split_scheme(run) != "file"


@contextmanager
def seen_here(run: str) -> Iterator[Path]:
    """Give the folder of a run; of one in an object store a copy of its logs and small files, for as long as the block runs.

    Raises:
        ConfigError: there is no run at this address, or it cannot be read.

    """
    if not is_remote(run):
        yield Path(run)
        return
    with tempfile.TemporaryDirectory(prefix="ptm-run-") as folder:
        target = Path(folder) / PurePosixPath(run).name
        _bring(run.rstrip("/"), target)
        yield target


def _bring(run: str, target: Path) -> None:
    try:
        system, root = fsspec.core.url_to_fs(run)
        found: dict[str, Any] = (
            system.find(root, detail=True, refresh=True) if split_scheme(run) == "s3" else system.find(root, detail=True)
        )
        wanted = {name: about for name, about in found.items() if _is_wanted(_below(name, root), about["size"])}
        for name in wanted:
            path = target / _below(name, root)
            path.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(name, str(path))
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(f"{run}: cannot be read ({error}). Check the address, and the permissions to list and read it.") from error
    if not (target / "recipe.json").exists():
        raise ConfigError(f"{run}: there is no run (recipe.json is missing).")


def _below(name: str, root: str) -> PurePosixPath:
    inside = PurePosixPath(name.lstrip("/")).relative_to(root.strip("/"))
    if ".." in inside.parts:
        raise ValueError(f"{name} is no name of a file")
    return inside


def _is_wanted(name: PurePosixPath, size: int) -> bool:
    return name.parts[0] not in _LEFT and (size <= SMALL_BYTES or (name.suffix in _TEXTS and size <= LARGEST_BYTES))
