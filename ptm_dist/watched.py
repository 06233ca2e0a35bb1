"""A run directory that is looked at again and again, by whoever shows it; nothing in it is written, nobody is waited for."""

from __future__ import annotations

import fcntl
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ptm_dist import lease
from ptm_dist.errors import ConfigError, DataUnavailableError
from ptm_dist.events import Tail
from ptm_dist.history import Attempt, attempts_of
from ptm_dist.observed import Observed
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from ptm_dist.status import PlannedTasks, RunPlan, Status, status_of
from ptm_dist.store import read_json
from ptm_dist.train.committed import list_checkpoints

KERNEL_LOCKS: Final = Path("/proc/locks")


@dataclass
class Watched:
    """A run, its logs as far as they were read, and its recipe."""

    folder: RunFolder
    recipe: Recipe
    observed: Observed = field(default_factory=Observed)
    alive: bool = False
    """Does a driver or a worker hold it?"""
    looked_at: float = 0.0
    _tails: list[Tail] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Watched:
        """Open a run and read what there is.

        Raises:
            ConfigError: there is no run.

        """
        folder = RunFolder(path)
        watched = cls(folder, folder.recipe())
        watched._tails = [Tail(folder.supervision_path), Tail(folder.events_path)]
        watched.refresh()
        return watched

    def refresh(self) -> bool:
        """Read what was written since the last look; return whether there was anything."""
        self.alive, self.looked_at = is_held(self.folder), time.time()
        found = False
        for tail in self._tails:
            for event in tail.read():
                self.observed.add(event)
                found = True
        if found and (self.recipe.budgets or self.observed.done > self.recipe.total_steps):
            self.recipe = self.folder.recipe()  # Its budgets have become steps, or it was made longer.
        return found

    @property
    def plan(self) -> RunPlan:
        """What is planned."""
        return plan_of(self.recipe)

    def status(self) -> Status:
        """Return where it stands."""
        return status_of(self.observed, self.plan, self.attempts(), str(self.folder.path), self.looked_at, self.alive)

    def attempts(self) -> list[Attempt]:
        """Return its attempts, oldest first."""
        return attempts_of(self.observed, self.alive, {number: errors_of(self.folder, number) for number in self.observed.attempts})

    def line(self) -> str:
        """Return the line that says where it stands: new, finished, or at which step it goes on."""
        checkpoints = list_checkpoints(self.folder.checkpoints)
        length, steps = self.recipe.length, self.observed.steps
        last = f"; last step {steps.numbers[-1]:,}, loss {steps.plain['loss'][-1]:.4f}" if len(steps) else ""
        newest = max(checkpoints, key=lambda checkpoint: checkpoint.step, default=None)
        if newest is None:
            told = f"{'running' if self.alive else 'new'}, {length}"
        elif not self.recipe.budgets and newest.step == self.recipe.total_steps:
            told = f"finished, {newest.step:,} steps"
        else:
            saved = f"{max(0.0, newest.age_seconds) / 60:.0f} min ago"
            goes_on = "running, last saved" if self.alive else "resuming"
            told = f"{goes_on} at step {newest.step:,} of {length.removesuffix(' steps')} (saved {saved})"
        return f"run {self.folder.path}: {told}{last}"


def plan_of(recipe: Recipe) -> RunPlan:
    """Return the stages of a recipe; none while it has budgets that are not steps yet."""
    order = sorted(recipe.tasks, key=lambda task: recipe.task_numbers[task])
    objectives = {task: tuple(objective.kind for objective in recipe.tasks[task].objectives) for task in order}
    stages, first = [], 0
    for stage in () if recipe.budgets else recipe.planned_stages:
        end = first + sum(stage.steps.values())
        stages.append(PlannedTasks(stage.name, first, end, dict(stage.steps)))
        first = end
    return RunPlan(recipe.name, tuple(stages), objectives, recipe.engine.workers)


def errors_of(folder: RunFolder, attempt: int) -> list[dict[str, Any]]:
    """Return what ranks of an attempt left as the cause of its end."""
    found = []
    for path in sorted(folder.logs(attempt).glob("rank-*.error.json")):
        try:
            error = read_json(path)
        except DataUnavailableError:
            continue
        if isinstance(error, dict) and isinstance(error.get("exit_code"), int):
            found.append({"exit_code": error["exit_code"], "message": str(error.get("message", ""))})
    return found


def is_held(folder: RunFolder) -> bool:
    """Return whether somebody works on a run: a fresh lease, or a lock of this machine's kernel. Nothing is written to find out."""
    return lease.is_live(folder.path) or any(_is_locked(folder.path / f".{role}.lock") for role in ("driver", "writer"))


def _is_locked(path: Path) -> bool:
    """Return whether a process of this machine holds a lock. It is not taken to find out: a run that starts just now would be refused."""
    try:
        status, pid = path.stat(), path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return False
    try:
        locks = [line.split() for line in KERNEL_LOCKS.read_text(encoding="ascii").splitlines()]
    except OSError:
        return _refuses(path)
    # On layered file systems the kernel knows a file by another device than stat does, and by the same inode.
    held = {(parts[4], *parts[5].rsplit(":", 1)) for parts in locks if len(parts) > 5 and parts[1] == "FLOCK"}
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    return any(inode == str(status.st_ino) and (owner == pid or where == device) for owner, where, inode in held)


def _refuses(path: Path) -> bool:
    """Return whether a lock cannot be had, where the kernel keeps no list of them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)  # Otherwise it is a file system without locks.
    finally:
        os.close(descriptor)
    return False


_SINCE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds_in(text: str) -> float:
    """Return the seconds of a span such as 90m, 24h or 7d.

    Raises:
        ConfigError: it is none.

    """
    found = _SINCE.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"--since {text}: write a number and its unit, s, m, h, d or w, for example 24h.")
    return float(found[1]) * _UNIT_SECONDS[found[2]]
