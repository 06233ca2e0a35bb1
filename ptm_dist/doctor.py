"""What can be wrong with a machine, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGES: Final = ("torch", "deepspeed", "ray", "webdataset", "sentencepiece", "tokenizers", "prometheus-client", "safetensors")
LEAST_FREE_BYTES: Final = 2 << 30
STALE_SECONDS: Final = 600


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    fine: bool
    text: str


def examine() -> list[Finding]:
    """Look at Python, packages, disk, shared memory and stale locks."""
    return [_python(), *map(_package, PACKAGES), _disk(), _shared_memory(), *_stale_locks()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding((3, 11) <= sys.version_info[:2] <= (3, 12), f"Python {version} (3.11 or 3.12 is needed)")


def _package(name: str) -> Finding:
    try:
        return Finding(True, f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(False, f"{name} is missing: pip install -e . -c constraints.txt")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    return Finding(free >= LEAST_FREE_BYTES, f"{free / 2**30:,.1f} GiB free here (2 GiB is a sensible least)")


def _shared_memory() -> Finding:
    path = Path("/dev/shm")  # noqa: S108 - that is its name on Linux
    size = shutil.disk_usage(path).total if path.exists() else 0
    return Finding(size >= 256 << 20, f"{size / 2**20:,.0f} MiB of shared memory (Ray wants 256; containers: --shm-size)")


def _stale_locks() -> list[Finding]:
    """A compilation that was killed leaves a lock that makes every later one wait for ever without a word."""
    default = Path.home() / ".cache" / "torch_extensions"
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR", default))
    locks = [path for path in root.rglob("lock") if time.time() - path.stat().st_mtime > STALE_SECONDS] if root.exists() else []
    if not locks:
        return [Finding(True, f"no stale compilation locks in {root}")]
    return [Finding(False, f"{path} is a stale lock: if nothing compiles now, remove it") for path in locks]
