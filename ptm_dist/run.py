"""The folder of a run: what is where, whose recipe it is, and who may write to it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptm_dist.data.dataset import MANIFEST, Dataset
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, ResumeMismatchError, RunOwnedError
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import read_recipe, recipe_diff, save_recipe
from ptm_dist.store import explain_disk_errors, read_json, write_json


@dataclass(frozen=True)
class DataFolders:
    """The prepared data of a run: the tokenizer, and a data set for each task and split."""

    tokenizer: Path
    datasets: Mapping[str, Mapping[str, Path]]

    @property
    def vocabulary(self) -> Vocabulary:
        """Size and special ids of the tokenizer."""
        return Vocabulary(**read_json(self.tokenizer / "vocabulary.json"))

    def open(self, task: str, split: str) -> Dataset:
        """Open the data set of a task."""
        return Dataset.open(self.datasets[task][split])

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "tokenizer": str(self.tokenizer),
            "datasets": {task: {split: str(path) for split, path in splits.items()} for task, splits in self.datasets.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DataFolders:
        """Read what `to_json` gave."""
        datasets = {task: {split: Path(path) for split, path in splits.items()} for task, splits in value["datasets"].items()}
        return cls(Path(value["tokenizer"]), datasets)


@dataclass(frozen=True)
class RunFolder:
    """Paths within a run directory."""

    path: Path

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.json"

    @property
    def data_path(self) -> Path:
        """Where the prepared data lie."""
        return self.path / "data.json"

    @property
    def events_path(self) -> Path:
        """The event log, all attempts."""
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The checkpoint store."""
        return self.path / "checkpoints"

    @property
    def stop_path(self) -> Path:
        """A file whose existence asks the workers to finish the step, save and stop."""
        return self.path / "STOP"

    @property
    def trial_path(self) -> Path:
        """A file that holds the number of steps to try: the run is a trial, and is thrown away."""
        return self.path / "TRIAL"

    @property
    def choices_path(self) -> Path:
        """What the first attempt chose where the recipe says auto."""
        return self.path / "choices.json"

    def logs(self, attempt: int) -> Path:
        """The folder of the log of each rank of an attempt."""
        return self.path / "logs" / f"attempt-{attempt}"

    def rank_log(self, attempt: int, rank: int) -> Path:
        """What a rank printed."""
        return self.logs(attempt) / f"rank-{rank}.log"

    @property
    def exists(self) -> bool:
        """Does this directory hold a run?"""
        return self.recipe_path.exists()

    def recipe(self) -> Recipe:
        """Return the recipe that the run was started with.

        Raises:
            ConfigError: there is no run here.

        """
        if not self.exists:
            raise ConfigError(f"{self.path}: this is not a run directory (recipe.json is missing). ptm status lists the runs here.")
        return read_recipe(self.recipe_path)

    def data(self) -> DataFolders:
        """Return where the prepared data lie."""
        return DataFolders.from_json(read_json(self.data_path))

    @property
    def has_data(self) -> bool:
        """Are the prepared data that this run was given still there?"""
        if not self.data_path.exists():
            return False
        return all((path / MANIFEST).exists() for splits in self.data().datasets.values() for path in splits.values())

    def claim(self, recipe: Recipe) -> None:
        """Make the directory one of `recipe`, or check that it is.

        Raises:
            ResumeMismatchError: it holds a run of another recipe.
            StorageError: it cannot be written.

        """
        with explain_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if self.exists and (known := self.recipe()).digest != recipe.digest:
            changes = [f"{key}: {old!r} -> {new!r}" for key, old, new in recipe_diff(known, recipe)]
            raise ResumeMismatchError(
                f"{self.path} holds a run of another recipe ({'; '.join(changes[:5]) or 'the code changed'}). "
                "Give the old values, or choose another directory with --run."
            )
        save_recipe(recipe, self.recipe_path)

    def set_data(self, data: DataFolders) -> None:
        """Record where the prepared data lie.

        Raises:
            ResumeMismatchError: the run was trained on other data.

        """
        if self.data_path.exists() and self.checkpoints.exists():
            known, new = self.data().to_json(), data.to_json()
            if [Path(p).name for p in _leaves(known)] != [Path(p).name for p in _leaves(new)]:
                raise ResumeMismatchError(
                    f"{self.path} was trained on other data (sources, or the versions of the libraries that read them, changed). "
                    "Restore them, or choose another directory with --run."
                )
        write_json(self.data_path, data.to_json())

    @property
    def next_attempt_number(self) -> int:
        """The number of the next attempt, from 1."""
        return 1 + max((int(path.name.removeprefix("attempt-")) for path in (self.path / "logs").glob("attempt-*")), default=0)

    def next_attempt(self) -> int:
        """Return the number of the next attempt and make its log folder."""
        attempt = self.next_attempt_number
        with explain_disk_errors(self.path):
            self.logs(attempt).mkdir(parents=True)
        return attempt

    def is_owned(self, role: str) -> bool:
        """Does another process hold the lock `role`?"""
        try:
            with self.owned(role):
                return False
        except RunOwnedError:
            return True

    @contextmanager
    def owned(self, role: str, wait_seconds: float = 0.0) -> Iterator[None]:
        """Hold the lock `role` of the directory; the kernel frees it when the process ends, however it ends.

        Raises:
            RunOwnedError: another process holds it for longer than `wait_seconds`.

        """
        with explain_disk_errors(self.path), (self.path / f".{role}.lock").open("a+") as file:
            deadline = time.monotonic() + wait_seconds
            while not _try_lock(file.fileno()):
                if time.monotonic() >= deadline:
                    file.seek(0)
                    owner = file.read() or "unknown"
                    raise RunOwnedError(f"{self.path} is in use by process {owner.strip()}. Wait for it, stop it, or choose another --run.")
                time.sleep(0.2)
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leaves(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [leaf for key in sorted(value) for leaf in _leaves(value[key])]


def default_path(recipe: Recipe, root: Path = Path("runs")) -> Path:
    """Return where a run of `recipe` lives unless told otherwise."""
    return root / f"{recipe.name}-{recipe.digest[:8]}"
