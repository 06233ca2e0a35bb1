"""Runs a sweep: data first, then each run in a process of its own, as many side by side as there is room for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ptm_dist.driver.cluster import start_ray
from ptm_dist.driver.run import Places, Watcher, prepare_run
from ptm_dist.driver.sweep import Figures, Sweep, SweptRun, cause_text, figures_of, write_table
from ptm_dist.driver.sweep_run import error_path, log_path
from ptm_dist.errors import PtmError, StoppedError, StoppedUnsavedError
from ptm_dist.recipe_io import save_recipe
from ptm_dist.run import RunFolder
from ptm_dist.store import explain_disk_errors, read_json

LOOK_SECONDS: Final = 0.2
STOPS: Final = frozenset({StoppedError.exit_code, StoppedUnsavedError.exit_code})


@dataclass(frozen=True)
class Room:
    """What runs can have at once; `address` is that of the Ray they share, "" where they start their workers themselves."""

    cpus: float
    gpus: float
    address: str = ""

    def fits(self, wanted: Sequence[tuple[float, float]]) -> bool:
        """Return whether so many (cores, GPUs) are there together."""
        return sum(cpus for cpus, _ in wanted) <= self.cpus and sum(gpus for _, gpus in wanted) <= self.gpus


@dataclass
class Queue:
    """The state of all runs of a sweep while it goes on."""

    sweep: Sweep
    places: Places
    watcher: Watcher
    parallel: int | None = None
    states: dict[str, str] = field(default_factory=dict)
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    stops: int = 0
    """How often somebody has asked all runs to stop."""
    told: dict[str, int] = field(default_factory=dict)
    """How often each running one has heard of it."""
    read: dict[str, tuple[tuple[str, int], Figures]] = field(default_factory=dict)
    """What was read of each, and when: its state and the size of its log."""

    def work(self) -> list[dict[str, Any]]:
        """Do what is not finished, and return the rows of the table, best first. Stopped runs go on with the next call.

        `places.run` plays no part: each run has its own directory.

        Raises:
            RunOwnedError: another process works on this sweep.

        """
        with explain_disk_errors(self.sweep.path):
            self.sweep.path.mkdir(parents=True, exist_ok=True)
        with RunFolder(self.sweep.path).owned("sweep"):
            return self._work()

    def _work(self) -> list[dict[str, Any]]:
        self.states = {run.name: "finished" if run.is_finished else "waiting" for run in self.sweep.runs}
        todo = [run for run in self.sweep.runs if self.states[run.name] == "waiting"]
        self.watcher.say(f"sweep {self.sweep.path}: {len(self.sweep.runs)} runs, {len(self.sweep.runs) - len(todo)} of them finished")
        if todo:
            room = self._room(todo)
            todo = [run for run in todo if self._prepare(run)]
            with self._stoppable():
                self._train(todo, room)
        return self.write()

    def write(self) -> list[dict[str, Any]]:
        """Write the table as it is now."""
        return write_table(self.sweep, [self._figures(run) for run in self.sweep.runs])

    def _figures(self, run: SweptRun) -> Figures:
        """Read what a run has come to, if its log has grown since the last look."""
        log, state = run.folder.events_path, self.states[run.name]
        seen = (state, log.stat().st_size if log.exists() else 0)
        if run.name not in self.read or self.read[run.name][0] != seen:
            self.read[run.name] = (seen, figures_of(run, state, self.failures.get(run.name)))
        return self.read[run.name][1]

    def _room(self, todo: Sequence[SweptRun]) -> Room:
        """Start or join the Ray that all runs share, which a local one must be large enough for, and return what there is."""
        import ray
        import torch

        start_ray(max((run.recipe for run in todo), key=lambda recipe: recipe.engine.workers * recipe.engine.threads))
        with_gpus = torch.cuda.is_available()
        if self.places.launcher != "ray":
            # Each run would take the first GPU of this machine.
            return Room(os.cpu_count() or 1, 1.0 if with_gpus else 0.0)
        found = ray.cluster_resources()
        gpus = found.get("GPU", 0.0) if with_gpus else 0.0
        return Room(found.get("CPU", 1.0), gpus, os.environ.get("RAY_ADDRESS") or ray.get_runtime_context().gcs_address)

    def _prepare(self, run: SweptRun) -> bool:
        """Prepare the data of a run, which for equal data finds what an earlier one has made; a failure is that of this run alone."""
        if run.folder.exists and run.folder.has_data:
            return True
        try:
            prepare_run(run.recipe, self._places_of(run), _only_news(self.watcher, run.name))
        except PtmError as error:
            self._failed(run, error.exit_code, str(error))
            return False
        return True

    def _places_of(self, run: SweptRun) -> Places:
        return Places(run.path, self.places.cache, self.places.launcher)

    def _train(self, todo: list[SweptRun], room: Room) -> None:
        waiting, running = list(todo), dict[str, SweptRun]()
        self.write()
        while running or (waiting and not self.stops):
            while waiting and not self.stops and self._may_start(waiting[0], list(running.values()), room):
                run = waiting.pop(0)
                running[run.name] = run
                self._start(run, room)
            for name in [name for name in running if self.processes[name].poll() is not None]:
                self._ended(running.pop(name))
            for name in running:
                self._pass_on(name)
            time.sleep(LOOK_SECONDS)

    def _may_start(self, run: SweptRun, running: Sequence[SweptRun], room: Room) -> bool:
        if not running:
            return True  # What is too large for the room that there is now waits in Ray, which may grow.
        wanted = [_need(other, room) for other in (*running, run)]
        return room.fits(wanted) and len(running) < (self.parallel or len(wanted))

    def _start(self, run: SweptRun, room: Room) -> None:
        recipe = self.sweep.path / "recipes" / f"{run.name}.json"
        save_recipe(run.recipe, recipe)
        log_path(run.folder).parent.mkdir(parents=True, exist_ok=True)
        error_path(run.folder).unlink(missing_ok=True)
        module = [sys.executable, "-m", "ptm_dist.driver.sweep_run"]
        words = map(str, (recipe, run.path, self.places.cache, self.places.launcher))
        environment = os.environ | ({"RAY_ADDRESS": room.address} if room.address else {})
        with log_path(run.folder).open("ab") as log:
            # A session of its own: Ctrl-C reaches it through this process only, once.
            self.processes[run.name] = subprocess.Popen(
                [*module, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.states[run.name] = "running"
        self.watcher.say(f"{run.name}: started")
        self.write()

    def _ended(self, run: SweptRun) -> None:
        code = self.processes.pop(run.name).returncode
        path = error_path(run.folder)
        told = read_json(path) if path.exists() else {"message": f"{cause_text(code)} (see {log_path(run.folder)})"}
        if code == 0:
            self.states[run.name] = "finished"
        elif code in STOPS or (self.stops and code == -signal.SIGINT):
            self.states[run.name] = "stopped"
        else:
            self._failed(run, code, told["message"])
        found = self._figures(run)
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in found.held_out.items())
        self.watcher.say(f"{run.name}: {found.state} after {found.step:,} steps{losses and f'; held-out loss {losses}'}")
        self.write()

    def _failed(self, run: SweptRun, code: int, message: str) -> None:
        self.states[run.name] = "failed"
        self.failures[run.name] = (code, message)
        self.watcher.say(f"{run.name}: failed, exit {code}: {message}")

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let a signal stop all runs; they save first, unless it comes twice."""
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            for process in self.processes.values():
                process.kill()
                process.wait()

    def _stop(self, *_: Any) -> None:
        self.stops += 1
        if self.stops == 1:
            print("\nall runs finish their step and save; once more stops them at once, without saving", file=sys.stderr, flush=True)

    def _pass_on(self, name: str) -> None:
        # Not by the handler, which may come while a process is being started.
        if self.told.get(name, 0) < self.stops:
            self.told[name] = self.told.get(name, 0) + 1
            self.processes[name].send_signal(signal.SIGINT)


def _only_news(watcher: Watcher, name: str) -> Watcher:
    """Return a watcher that hears of stages only where there is something to do."""
    under_way = set[str]()

    def stage(stage: str, done: int, total: int) -> None:
        if done < total and not under_way:
            watcher.say(f"{name}: preparing its data")
        if done < total or stage in under_way:
            under_way.add(stage)
            watcher.stage(stage, done, total)

    return replace(watcher, stage=stage)


def _need(run: SweptRun, room: Room) -> tuple[float, float]:
    """Return the cores and GPUs that a run takes."""
    engine = run.recipe.engine
    return float(engine.workers * engine.threads), float(engine.workers if room.gpus else 0)
