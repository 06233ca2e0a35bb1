"""The folder of a run: what is where, whose recipe it is, and who may write to it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptm_dist.data.dataset import MANIFEST
from ptm_dist.errors import ConfigError, ResumeMismatchError, RunOwnedError
from ptm_dist.locks import locked
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_budget import parse_budget
from ptm_dist.recipe_io import read_recipe, recipe_diff, save_recipe
from ptm_dist.store import explain_disk_errors, read_json, write_json


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
    def supervision_path(self) -> Path:
        """The log of the driver: attempts placed, ended, restarted."""
        return self.path / "supervision.jsonl"

    @property
    def lease_path(self) -> Path:
        """Who may write here."""
        return self.path / "lease"

    @property
    def targets_path(self) -> Path:
        """Where Prometheus finds what this run serves."""
        return self.path / "monitoring" / "targets.json"

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
    def history_path(self) -> Path:
        """Changes of the recipe between attempts, and their reasons."""
        return self.path / "history.json"

    @property
    def parent_path(self) -> Path:
        """What this run was forked from."""
        return self.path / "parent.json"

    @property
    def choices_path(self) -> Path:
        """What the first attempt chose where the recipe says auto."""
        return self.path / "choices.json"

    @property
    def budgets_path(self) -> Path:
        """The updates that budgets have become."""
        return self.path / "budgets.json"

    @property
    def init_path(self) -> Path:
        """The weights that the run starts from, under the names of its own model."""
        return self.path / "init"

    def logs(self, attempt: int) -> Path:
        """The folder of the log of each rank of an attempt."""
        return self.path / "logs" / f"attempt-{attempt}"

    def rank_log(self, attempt: int, rank: int) -> Path:
        """What a rank printed."""
        return self.logs(attempt) / f"rank-{rank}.log"

    def stacks_path(self, attempt: int, rank: int) -> Path:
        """The stacks of a rank that no longer got anywhere."""
        return self.logs(attempt) / f"rank-{rank}.stacks"

    def stacks(self, attempt: int) -> list[Path]:
        """Return the files of ranks of an attempt that left stacks."""
        return sorted(path for path in self.logs(attempt).glob("rank-*.stacks") if path.stat().st_size)

    def ask_to_stop(self, reason: str) -> None:
        """Ask the workers to finish the step, save and stop; the reason goes into the log."""
        with explain_disk_errors(self.path):
            self.stop_path.write_text(f"{reason}\n", encoding="utf8")

    @property
    def stop_reason(self) -> str | None:
        """Why the workers are asked to stop, None if they are not."""
        try:
            return self.stop_path.read_text(encoding="utf8").strip() or "user"
        except FileNotFoundError:
            return None

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
        return self.with_known_steps(read_recipe(self.recipe_path))

    def budgets(self) -> list[dict[str, Any]]:
        """Return every budget of this run that has become updates: stage, task, budget, steps, rows, seconds; oldest first."""
        return read_json(self.budgets_path) if self.budgets_path.exists() else []

    def note_budgets(self, found: Sequence[dict[str, Any]]) -> None:
        """Keep what budgets have become; from now on the run never asks again."""
        if found:
            write_json(self.budgets_path, [*self.budgets(), *found])

    def with_known_steps(self, recipe: Recipe) -> Recipe:
        """Return a recipe with updates in place of those of its budgets that this run has settled."""
        if not recipe.budgets:
            return recipe
        known = {(entry["stage"], entry["task"], parse_budget(entry["budget"])): entry["steps"] for entry in self.budgets()}
        wanted = {slot: (*slot, parse_budget(text)) for slot, text in recipe.budgets.items()}
        return recipe.with_steps({slot: known[budget] for slot, budget in wanted.items() if budget in known})

    def data(self) -> DataFolders:
        """Return where the prepared data lie."""
        return DataFolders.from_json(read_json(self.data_path))

    @property
    def has_data(self) -> bool:
        """Are the prepared data of all tasks and probes still there?"""
        recipe = self.recipe()
        return self.has_data_of([*recipe.tasks, *recipe.probe_data.values()])

    def has_data_of(self, names: Iterable[str]) -> bool:
        """Return whether the prepared data sets of these names are still there."""
        datasets = self.data().datasets if self.data_path.exists() else {}
        return all(name in datasets and all((path / MANIFEST).exists() for path in datasets[name].values()) for name in names)

    def claim(self, recipe: Recipe, because: str = "") -> None:
        """Make the directory one of `recipe`, or check that it may go on with it.

        `because` is why settings tagged "reason" have changed; it goes into the history of the run.

        Raises:
            ResumeMismatchError: it holds a run of a recipe that differs in what may not change, or not without a reason.
            StorageError: it cannot be written.

        """
        with explain_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if self.exists and (known := self.recipe()).digest != recipe.digest:
            self._require_allowed(known, recipe, because)
            self.note_change(known, recipe, because)
        save_recipe(recipe, self.recipe_path)

    def _require_allowed(self, known: Recipe, recipe: Recipe, because: str) -> None:
        changes = [(key, old, new) for key, old, new in recipe_diff(known, recipe) if known.change_of(key) != "allowed"]
        told = "; ".join(f"{key}: {old!r} -> {new!r}" for key, old, new in changes[:5]) or "the code changed"
        if all(known.change_of(key) == "reason" for key, _, _ in changes) and changes:
            if not because:
                raise ResumeMismatchError(
                    f"{self.path} holds a run with other settings ({told}). Give the old values, go on with --because "
                    '"why they changed", or choose another directory with --run.'
                )
            return
        raise ResumeMismatchError(
            f"{self.path} holds a run of another recipe ({told}). Give the old values, choose another directory with --run, or start "
            f"a run from its weights and its place in the data: ptm fork {self.path} --at STEP KEY=VALUE"
        )

    def note_change(self, before: Recipe, after: Recipe, because: str) -> None:
        """Add a change of the recipe to the history of the run, which lets it read the checkpoints written before."""
        changes = [[key, old, new] for key, old, new in recipe_diff(before, after)]
        entry = {"time": time.time(), "because": because, "before": before.digest, "after": after.digest, "changes": changes}
        write_json(self.history_path, [*self.history(), entry])

    def history(self) -> list[dict[str, Any]]:
        """Return the changes of the recipe, oldest first: time, because, digests before and after, [key, old, new] of each."""
        return read_json(self.history_path) if self.history_path.exists() else []

    def parent(self) -> dict[str, Any] | None:
        """Return what this run was forked from: run, step, the digests of its recipe; None for a run of its own."""
        return read_json(self.parent_path) if self.parent_path.exists() else None

    def known_digests(self) -> set[str]:
        """Return the digests of recipes whose checkpoints this run may go on from."""
        inherited = self.parent() or {"digests": []}
        return {self.recipe().digest, *(entry["before"] for entry in self.history()), *inherited["digests"]}

    def set_data(self, data: DataFolders) -> None:
        """Record where the prepared data lie: those of a run that has begun, and of tasks that join it; probes come and go.

        Raises:
            ResumeMismatchError: the run was trained on other data.

        """
        if self.data_path.exists() and self.checkpoints.exists():
            new = data.prepared()
            others = sorted(name for name, made in self.data().prepared().items() if new.get(name) != made)
            if others:
                raise ResumeMismatchError(
                    f"{self.path} was trained on other data, of {', '.join(others)} (sources, or the versions of the libraries that read "
                    "them, changed). Restore them, or choose another directory with --run."
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
        with locked(self.path, role, wait_seconds):
            yield


def default_path(recipe: Recipe, root: Path = Path("runs")) -> Path:
    """Return where a run of `recipe` lives unless told otherwise."""
    return root / f"{recipe.name}-{recipe.digest[:8]}"
