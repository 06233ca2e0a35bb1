"""The commit protocol of checkpoints: all ranks or none, whole or not at all, and nothing is read before its bytes are proved.

A checkpoint is written under `.stage-<step>-<token>`; the rename to its final name is the commit. `committed` says what it looks like.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ptm_dist.errors import (
    ConfigError,
    DataIntegrityError,
    InternalError,
    NoValidCheckpointError,
    PtmError,
    ResumeMismatchError,
    StorageError,
)
from ptm_dist.faults import reached
from ptm_dist.store import fsync_directory, sha256_file, write_atomic, write_json
from ptm_dist.train import committed as disk
from ptm_dist.train.committed import Checkpoint, CheckpointInfo, list_checkpoints, list_quarantined, pin, verify
from ptm_dist.train.peers import Alone, Peers, from_first, together

__all__ = ["Alone", "Checkpoint", "CheckpointInfo", "CheckpointStore", "Peers", "list_checkpoints", "list_quarantined", "pin", "verify"]

LATEST: Final = "LATEST.json"
"""Names the newest checkpoint for people and scripts; never read here."""
MOST_FAILURES: Final = 3
"""Saves in a row that may fail before the run gives up."""
SPACE: Final = 1.2
"""Free space wanted before a save, in sizes of the last checkpoint."""
PATIENCE_SECONDS: Final = 10.0
"""How long a network file system gets to show a directory that another worker has made."""

_LEFTOVERS = (".stage-", ".trash-", f".{LATEST}.")


@dataclass
class CheckpointStore:
    """The checkpoints of a run. Every method but `steps` is called by all ranks together, and all get the same answer.

    Raises:
        ConfigError: fewer than two checkpoints would be kept.

    """

    root: Path
    peers: Peers
    keep_last: int = 2
    fence: Callable[[], None] = lambda: None
    """Called on rank 0 right before a commit; raises where somebody else has taken the run over."""
    failure: str = field(default="", init=False)
    """Why the last save that failed did."""
    rejected: list[str] = field(default_factory=list, init=False)
    """What `latest` set aside, each with its file and the reason."""
    _failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.keep_last < 2:
            raise ConfigError(f"checkpoint.keep_last: {self.keep_last} is too few; at least 2 are kept, one may turn out damaged.")

    def save(self, step: int, write: Callable[[Path], list[Path]], state: dict[str, Any], pinned: str | None = None) -> Checkpoint | None:
        """Commit what `write(directory)` makes on every rank, flat files with names of their own, together with `state` (JSON).

        Step, state and pin of rank 0 count. Returns None where the disk failed on any rank: the checkpoints
        before it are as they were, and training may go on. A step that is committed already is not written again.

        Raises:
            StorageError: it failed for the third time in a row.
            PtmError: `write` failed on any rank for another reason than the disk.

        """
        try:
            saved = self._save(step, write, state, pinned)
        except StorageError as error:
            self._give_up(error)
            return None
        self._failures = 0
        return saved

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that all ranks find whole, None where there never was one; damaged ones are set aside.

        Raises:
            NoValidCheckpointError: there were checkpoints, and none is whole.
            ResumeMismatchError: the ranks see different directories, or a newer ptm_dist wrote it.
            DataUnavailableError: a file cannot be read just now.

        """
        while name := from_first(self.peers, lambda: _newest_name(self.root)):
            if found := self._elect(self.root / name):
                return found
        if broken := from_first(self.peers, lambda: [path.name for path in list_quarantined(self.root)]):
            why = "; ".join(self.rejected) or f"set aside before: {', '.join(broken)}"
            raise NoValidCheckpointError(
                f"{self.root}: no checkpoint is whole ({why}). Restore one, or remove .bad-* to start from step 0."
            )
        return None

    def steps(self) -> list[int]:
        """Return the committed steps that this rank sees, in order."""
        return sorted(disk.committed(self.root))

    def pin(self, step: int, name: str) -> None:
        """Keep the checkpoint of `step` under `name`, as the function `pin` does."""
        from_first(self.peers, lambda: pin(self.root, step, name))

    def clean(self) -> None:
        """Remove what killed attempts left behind; call it once at the start, when this run is the only writer."""
        from_first(self.peers, lambda: disk.sweep(self.root, *_LEFTOVERS))

    def _save(self, step: int, write: Callable[[Path], list[Path]], state: dict[str, Any], pinned: str | None) -> Checkpoint:
        plan = together(self.peers, lambda: self._begin(step, pinned))[0]
        if "manifest" not in plan:
            files = together(self.peers, lambda: _write_files(self.root / plan["staging"], plan["step"], write))
            about = {"step": step, "state": state, "parent": plan["parent"]}
            plan |= from_first(self.peers, lambda: {"manifest": self._commit(self.root / plan["staging"], files, about, pinned)})
        return Checkpoint(self.root / disk.name_of(plan["step"]), plan["step"], plan["manifest"])

    def _begin(self, step: int, pinned: str | None) -> dict[str, Any]:
        """Decide, on rank 0, what all ranks will do."""
        reached("ckpt.begin", step)
        if self.peers.rank > 0:
            return {}
        self.root.mkdir(parents=True, exist_ok=True)
        fsync_directory(self.root.parent)
        if there := _whole_or_aside(self.root / disk.name_of(step)):
            if pinned:
                pin(self.root, step, pinned)
            return {"step": step, "manifest": there}
        disk.sweep(self.root, *_LEFTOVERS)
        parent = _newest_manifest(self.root)
        _require_space(self.root, disk.size_of(parent) if parent else 0)
        staging = self.root / f".stage-{step:012d}-{secrets.token_hex(4)}"
        staging.mkdir()
        return {"step": step, "staging": staging.name, "parent": parent and parent["digest"]}

    def _commit(self, staging: Path, files: list[dict[str, Any]], about: dict[str, Any], pinned: str | None) -> dict[str, Any]:
        step = about["step"]
        reached("ckpt.before_manifest", step)
        all_files = {name: entry for each in files for name, entry in each.items()}
        if len(all_files) != sum(map(len, files)) or all_files.keys() != {path.name for path in staging.iterdir()}:
            raise InternalError(f"{staging}: the files there are not those that the ranks named, or two ranks share a name.")
        token = staging.name.rpartition("-")[2]
        manifest = disk.seal({"schema": disk.SCHEMA, "world": self.peers.world, "files": all_files, "token": token} | about)
        write_atomic(staging / disk.MANIFEST, disk.render(manifest))
        reached("ckpt.after_manifest", step)
        if pinned:
            disk.mark(self.root, step, pinned)  # Before the commit, so that no crash leaves it unpinned.
        reached("ckpt.before_rename", step)
        self.fence()
        os.rename(staging, self.root / disk.name_of(step))
        reached("ckpt.after_rename", step)
        fsync_directory(self.root)
        with suppress(OSError, StorageError):  # It is committed; the next save or start repeats this housekeeping.
            self._tidy(step, manifest["digest"], pinned)
        return manifest

    def _tidy(self, step: int, sealed: str, pinned: str | None) -> None:
        write_json(self.root / LATEST, {"name": disk.name_of(step), "step": step, "digest": sealed})
        if pinned:
            disk.unmark_others(self.root, step, pinned)
        reached("ckpt.before_prune", step)
        whole = [(other, path) for other, path in sorted(disk.committed(self.root).items(), reverse=True) if disk.looks_whole(path)]
        for other, path in whole[self.keep_last :]:  # Damaged ones neither count nor go; `latest` sets them aside.
            if other != step and not disk.pins_of(self.root, other):
                # Its name goes first: a checkpoint that is half removed must not look like one.
                os.rename(path, self.root / f".trash-{other:012d}-{secrets.token_hex(4)}")
        disk.sweep(self.root, ".trash-")

    def _give_up(self, error: StorageError) -> None:
        from_first(self.peers, lambda: disk.sweep(self.root, ".stage-"))
        self._failures += 1
        self.failure = str(error)
        if self._failures >= MOST_FAILURES:
            raise StorageError(
                f"{self.root}: {self._failures} checkpoints in a row could not be written ({error}). "
                "The last good one is kept. Free some space or repair the disk; the same command goes on from there."
            ) from error

    def _elect(self, path: Path) -> Checkpoint | None:
        """Return the checkpoint at `path` where all ranks vote for it; set it aside where one finds damage."""
        votes = together(self.peers, lambda: self._vote(path))
        damage = [vote["damage"] for vote in votes if vote["damage"]]
        if damage:
            self.rejected.append(damage[0])
            from_first(self.peers, lambda: disk.set_aside(path))
            return None
        if len({vote["digest"] for vote in votes}) > 1:
            raise ResumeMismatchError(f"{path}: the workers see different checkpoints. --run must be on storage that they all share.")
        manifest = disk.read_manifest(path)
        return Checkpoint(path, manifest["step"], manifest)

    def _vote(self, path: Path) -> dict[str, Any]:
        if not _appears(path):
            raise ResumeMismatchError(f"{path}: worker 0 sees it, this one does not. --run must be on storage that all workers share.")
        try:
            return {"digest": disk.inspect(path, self.peers.rank, self.peers.world)["digest"], "damage": None}
        except DataIntegrityError as error:
            return {"digest": None, "damage": str(error)}


def _write_files(staging: Path, step: int, write: Callable[[Path], list[Path]]) -> dict[str, dict[str, Any]]:
    """Write this rank's files and return name, size and hash of each, once they are on the disk."""
    if not _appears(staging):
        raise OSError(errno.ENOENT, "worker 0 made it, this one does not see it; --run must be on shared storage", str(staging))
    entries = {}
    for path in write(staging):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        entries[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        reached("ckpt.after_file", step)
    return entries


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _newest_name(root: Path) -> str | None:
    return max((path.name for path in disk.committed(root).values()), default=None)


def _newest_manifest(root: Path) -> dict[str, Any] | None:
    for _, path in sorted(disk.committed(root).items(), reverse=True):
        with suppress(PtmError):
            return disk.read_manifest(path)
    return None


def _require_space(root: Path, last_bytes: int) -> None:
    wanted, free = int(SPACE * last_bytes), shutil.disk_usage(root).free
    if free < wanted:
        raise OSError(errno.ENOSPC, f"a checkpoint wants {wanted:,} bytes, {free:,} are free", str(root))


def _whole_or_aside(path: Path) -> dict[str, Any] | None:
    """Return the manifest of a checkpoint that is there and whole; a damaged one makes room."""
    if not os.path.lexists(path):
        return None
    try:
        return disk.inspect(path)
    except DataIntegrityError:
        disk.set_aside(path)
        return None
