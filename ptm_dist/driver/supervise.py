"""Attempt after attempt until the run is done: placed by what there is, restarted within a budget, stopped and resized on purpose."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ptm_dist.cost import flops_per_token
from ptm_dist.driver.ends import cause_of_end, newest_step, oom_kills, steps_done
from ptm_dist.driver.launchers import LAUNCHERS, Launcher, fitting
from ptm_dist.driver.notify import Notifier
from ptm_dist.driver.policy import MEANT, Decision, Ended, decide
from ptm_dist.driver.train import EventHandler, follow, stopping_on_signals
from ptm_dist.errors import PeerLostError, PtmError, StoppedError, StorageError
from ptm_dist.events import EventLog
from ptm_dist.lease import Lease, held
from ptm_dist.metrics import Exporter
from ptm_dist.placed import Placed
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from ptm_dist.targets import Target, write_targets
from ptm_dist.terms import Terms
from ptm_dist.train.attempt import require_even
from ptm_dist.train.committed import list_checkpoints, set_aside
from ptm_dist.train.device import node_name, reachable

NOTIFY_SECONDS: Final = 15.0
"""What messages that wait get to leave when the driver ends."""
PATIENT_SECONDS: Final = 3.0
"""How long places that were just taken by something else may take to be free again before it is told."""
SETTLE_SECONDS: Final = 10.0
"""How long fewer workers than wanted must be all that there is before they are taken: nodes and freed cores show up one by one."""


def train(run: RunFolder, launcher: str, on_event: EventHandler, terms: Terms | None = None, tell: EventHandler | None = None) -> None:
    """Train a claimed run to its end; `on_event` sees what workers report, `tell` what the supervisor does.

    Raises:
        RunOwnedError: another process has the run.
        PtmError: why the last attempt ended before the last step.

    """
    terms, recipe = terms or Terms(), run.recipe()
    if launcher == "ray":
        from ptm_dist.driver.cluster import start_ray

        start_ray(recipe)  # In the main thread, and before the handlers below: Ray sets its own.
    with ExitStack() as stack:
        supervisor = Supervisor(run, LAUNCHERS[launcher], launcher, terms, [on_event], [tell] if tell else [])
        for receiver in terms.notify:
            notifier = Notifier(receiver, str(run.path), lambda line: supervisor.log(0, "notify_failed", reason=line))
            stack.callback(notifier.close, NOTIFY_SECONDS)
            supervisor.on_event.append(notifier.tell)
            supervisor.tell.append(notifier.tell)
        supervisor.lease = stack.enter_context(held(run.path, on_loss=supervisor.lose))
        run.stop_path.unlink(missing_ok=True)
        stack.enter_context(stopping_on_signals(run))
        supervisor.metrics = stack.enter_context(_served(run, recipe, terms))
        supervisor.run_to_the_end()


@contextmanager
def _served(run: RunFolder, recipe: Recipe, terms: Terms) -> Iterator[str]:
    """Serve the metrics of the driver, which outlive attempts, beside those of the workers; give host and port."""
    bound = terms.metrics or recipe.metrics
    exporter = Exporter(run.path.name, 0, "driver", folder=run.path)
    try:
        yield reachable(exporter.serve(bound.host, bound.port + 1 if bound.port else 0))
    finally:
        exporter.close()
        with suppress(StorageError):
            write_targets(run, 0, [])  # Else a run that has ended would look like one that cannot be reached.


@dataclass
class Supervisor:
    """What one driver knows of its run."""

    run: RunFolder
    launcher: Launcher
    launcher_name: str
    terms: Terms
    on_event: list[EventHandler]
    """Told what workers report."""
    tell: list[EventHandler]
    """Told what the supervisor does."""
    lease: Lease | None = None
    metrics: str = ""
    """Where the driver serves its own."""
    history: list[Ended] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Ids of nodes that failed the last check."""
    _lost: bool = False
    _begun: bool = False
    """The workers of this attempt have their places."""
    _more_since: float | None = None
    _in_vain: int = 0
    """Attempts in a row that were stopped for more workers and got none."""

    def lose(self) -> None:
        """Note that another process has taken the run over."""
        self._lost = True

    def run_to_the_end(self) -> None:
        """Start attempts until one finishes, or none may follow."""
        while True:
            self._check_nodes()
            try:
                workers = self._await_workers(self.run.recipe())
            except PeerLostError as error:
                self.log(0, "gave_up", exit_code=error.exit_code, reason=str(error))
                raise
            vain = self.history and self.history[-1].cause == "resized" and workers <= self.history[-1].workers
            self._in_vain = min(self._in_vain + 1, 10) if vain else 0
            ended, error = self._attempt(workers)
            self.history.append(ended)
            decision = decide(self.history, self.terms.supervise, random.random())
            if decision.action == "done" and error is None:
                return
            if decision.action in ("done", "give_up"):
                self._give_up(ended, error, decision)
            self._go_on(ended, decision)

    def _attempt(self, workers: int) -> tuple[Ended, PtmError | None]:
        recipe = self.run.recipe()
        placed = self._place(recipe, workers)
        before, started_at, kills = newest_step(self.run), time.monotonic(), oom_kills()
        self._begun, self._more_since = False, None
        error: PtmError | None = None
        try:
            follow(self.run, self.launcher, placed, self._heard, lambda: self._look(recipe, placed))
        except PtmError as caught:
            error = caught
        assert self.lease is not None
        self.lease.require()  # Nothing of another's run is written, its log neither.
        ended = Ended(
            attempt=placed.attempt,
            cause=cause_of_end(self.run, placed.attempt, error, oom_kills() > kills),
            exit_code=error.exit_code if error else 0,
            message=str(error or ""),
            started_step=before,
            step=steps_done(self.run, placed.attempt, before),
            kept_step=newest_step(self.run),
            workers=workers,
            seconds=round(time.monotonic() - started_at, 3),
        )
        with suppress(StorageError):
            write_targets(self.run, placed.attempt, [Target(self.metrics, node_name(), "driver")])
        self.log(placed.attempt, "attempt_ended", **ended.event())
        return ended, error

    def _heard(self, event: dict[str, Any]) -> None:
        self._begun = self._begun or event["event"] == "attempt_started"
        for hear in self.on_event:
            hear(event)

    def _place(self, recipe: Recipe, workers: int) -> Placed:
        assert self.lease is not None
        self.lease.require()
        attempt = self.run.next_attempt()
        metrics = self.terms.metrics
        placed = Placed(
            attempt=attempt,
            lease=self.lease.number,
            workers=workers,
            launcher=self.launcher_name,
            metrics_host=metrics and metrics.host,
            metrics_port=metrics.port if metrics else 0,
            flops_per_token=flops_per_token(recipe) if self.launcher.has_gpus() else 0.0,  # Nobody knows the peak of a CPU.
            driver_metrics=self.metrics,
            host=node_name(),
            left_out=self.left_out,
        )
        placed.write(self.run)
        self.log(
            attempt,
            "attempt_placed",
            workers=workers,
            wanted_workers=recipe.engine.workers,
            nodes=self.launcher.nodes(),
            kind=self.launcher_name,
            step=newest_step(self.run),
            host=node_name(),
        )
        return placed

    def _check_nodes(self) -> None:
        """Find nodes that are slow or wrong, and leave them out of the next attempt."""
        seconds = self.terms.supervise.check_seconds
        reports = self.launcher.check(seconds, self.run.recipe()) if seconds else []
        self.left_out = [report.node for report in reports if not report.fine]
        if reports:
            names = [report.name for report in reports if not report.fine]
            self.log(0, "nodes_checked", seconds=seconds, nodes=[report.event() for report in reports], left_out=names)

    def _await_workers(self, recipe: Recipe) -> int:
        """Return how many workers the next attempt has; wait for those that are wanted, then for the least.

        Raises:
            ConfigError: the workers that are wanted cannot share the lanes evenly.
            PeerLostError: there were too few for too long.
            StoppedError: somebody asked the run to stop meanwhile.

        """
        require_even(recipe, recipe.engine.workers)
        rules, least = self.terms.supervise, self.terms.workers.least or recipe.engine.workers
        began_at = time.monotonic()
        told = False
        while True:
            found = fitting(recipe, self.launcher.free(recipe, self.left_out), least)
            waited = time.monotonic() - began_at
            if found == recipe.engine.workers or (found and waited >= SETTLE_SECONDS):
                return found
            if not told and waited >= PATIENT_SECONDS:
                self.log(0, "waiting_for_capacity", workers=found, least=least)
                told = True
            if waited >= rules.capacity_seconds:
                raise PeerLostError(
                    f"{recipe.engine.workers} workers are wanted, at least {least}, and after {waited:.0f} s there is room for {found}. "
                    "Add nodes, lower engine.workers, or allow fewer with workers.least in the cluster file. The same command goes on."
                )
            self._sleep(1.0)

    def _look(self, recipe: Recipe, placed: Placed) -> None:
        """Ask the attempt to stop when a node is about to go, or when there has been room for more workers for a while."""
        self._require_own()
        if self.run.stop_path.exists():
            return
        if leaving := self.launcher.leaving(self.run, placed.attempt):
            self.run.ask_to_stop("preempted" if leaving == "workers" else "the node of the driver leaves")
        elif self._begun and placed.workers < recipe.engine.workers:  # Before, the places that they take look free.
            more = fitting(recipe, placed.workers + self.launcher.free(recipe, self.left_out), placed.workers) > placed.workers
            self._more_since = (self._more_since or time.monotonic()) if more else None
            if self._more_since and time.monotonic() - self._more_since >= self.terms.supervise.grow_seconds * 2**self._in_vain:
                self.run.ask_to_stop("resized")

    def _go_on(self, ended: Ended, decision: Decision) -> None:
        if decision.action == "step_back":
            self._step_back(ended.attempt, decision.reason)
        if self.run.stop_reason in MEANT:  # Somebody may have asked the run itself to stop meanwhile.
            self.run.stop_path.unlink(missing_ok=True)
        self.log(
            ended.attempt,
            "restarting",
            seconds=round(decision.wait_seconds, 1),
            reason=decision.reason,
            restarts_left=decision.restarts_left,
        )
        self._sleep(decision.wait_seconds)

    def _step_back(self, attempt: int, reason: str) -> None:
        """Set the newest checkpoint aside, unless it is the only one: it may be what the run fails of."""
        found = sorted(list_checkpoints(self.run.checkpoints), key=lambda info: info.step)
        if len(found) > 1:
            set_aside(found[-1].path)
            self.log(attempt, "stepped_back", step=found[-2].step, reason=reason)

    def _give_up(self, ended: Ended, error: PtmError | None, decision: Decision) -> None:
        assert error is not None
        if decision.action == "give_up":
            self.log(ended.attempt, "gave_up", exit_code=error.exit_code, reason=decision.reason)
        if self.terms.supervise.restarts and decision.action == "give_up":
            raise type(error)(f"{error} (given up: {decision.reason})") from error
        raise error

    def _require_own(self) -> None:
        """Write nothing more where another process has taken the run over."""
        if self._lost and self.lease is not None:
            self.lease.require()

    def _sleep(self, seconds: float) -> None:
        """Wait, but for a request to stop.

        Raises:
            StoppedError: there was one.

        """
        until = time.monotonic() + seconds
        while True:
            if self.run.stop_path.exists():
                raise StoppedError("stopped while no attempt ran, as asked; nothing was lost. The same command goes on from here.")
            self._require_own()
            if (left := until - time.monotonic()) <= 0:
                return
            time.sleep(min(0.2, left))

    def log(self, attempt: int, event: str, **fields: Any) -> None:
        """Write an event of the driver, and tell it."""
        log = EventLog(self.run.supervision_path, attempt)
        try:
            record = log.write(event, **fields)
            for hear in self.tell:
                hear(record)
        finally:
            log.close()
