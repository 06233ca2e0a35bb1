"""The path of a step: rows, counts, micro-batches, one update; then the log, evaluation and checkpoints.

One SPMD function for every launcher. The step is the only clock and the only cursor.
"""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ptm_dist.data.batch import MicroBatch
from ptm_dist.data.dataset import Dataset
from ptm_dist.data.loader import Loader
from ptm_dist.errors import NumericError, ResumeMismatchError, StoppedError
from ptm_dist.events import EventLog
from ptm_dist.faults import reached
from ptm_dist.metrics import Exporter
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from ptm_dist.schedule import Moment, Schedule
from ptm_dist.trackers.sink import Sink
from ptm_dist.train.clock import Watchdog
from ptm_dist.train.commit import CheckpointStore
from ptm_dist.train.committed import Checkpoint
from ptm_dist.train.context import WorkerContext
from ptm_dist.train.device import held_bytes, peak_bytes
from ptm_dist.train.engine import Engine
from ptm_dist.train.evaluation import HeldOut
from ptm_dist.train.loss_scale import LossScale
from ptm_dist.train.memory import LaneMemory
from ptm_dist.train.module import count_of, parts_of
from ptm_dist.train.probe import Probes, is_due
from ptm_dist.train.state import read_state, read_weights, write_state

MOST_SKIPPED: Final = 10
"""Steps in a row whose loss is not finite before the run gives up."""
RANKS_SECONDS: Final = 10.0
"""How often the figures of single ranks are gathered."""


@dataclass
class Reporter:
    """Events of rank 0, for the log and for the metrics; the first rank of another node has metrics only, others are silent."""

    attempt: int = 0
    log: EventLog | None = None
    exporter: Exporter | None = None
    trackers: Sink | None = None

    def __call__(self, event: str, **fields: Any) -> None:
        """Write an event."""
        record = self.log.write(event, **fields) if self.log else {"event": event, "attempt": self.attempt, "time": time.time()} | fields
        if self.exporter:
            self.exporter.observe(record)
        if self.trackers:
            self.trackers.observe(record)


@dataclass
class Trainer:
    """What the steps of one attempt need."""

    recipe: Recipe
    run: RunFolder
    context: WorkerContext
    schedule: Schedule
    loader: Loader
    engine: Engine
    store: CheckpointStore
    report: Reporter
    held_out: HeldOut
    probes: Probes
    memory: LaneMemory
    watchdog: Watchdog
    skipped: int = 0
    stop_signals: list[int] = field(default_factory=list)
    restore_seconds: float = 0.0
    """What loading the checkpoint took."""
    _own: Counter[str] = field(default_factory=Counter)
    """Seconds of this rank since figures of ranks were gathered last, by phase, and the steps that took them."""
    _gathered_at: float = 0.0

    def train(self, start: int, stop: int) -> None:
        """Do steps start..stop-1.

        Raises:
            StoppedError: somebody asked the run to stop; a checkpoint was written.
            NumericError: the gradient was not finite too many times in a row.

        """
        if not start:
            self.evaluate(0)  # What there is to gain; and an evaluation that cannot be done fails now, not after hours.
        waiting_since = time.perf_counter()
        for moment, batches in self.loader.steps(start, stop):
            data_seconds = time.perf_counter() - waiting_since
            reached("step.begin", moment.step)
            stopping = self._step(moment, batches, data_seconds)
            done = moment.step + 1
            last = done == self.schedule.total_steps
            self.evaluate(done)
            if stopping and not last:
                self.report("stopping", step=done, reason=self.run.stop_reason or "preempted")
            if last or stopping or done in self._stage_ends or done % self.recipe.checkpoint.every_steps == 0:
                self.save(done)
            if stopping and not last:
                raise StoppedError(f"stopped at step {done:,} as asked; the state is saved. The same command goes on from here.")
            waiting_since = time.perf_counter()

    def _step(self, moment: Moment, batches: list[MicroBatch], data_seconds: float) -> bool:
        """Do one update and return whether any rank was asked to stop."""
        started_at, clock = time.perf_counter(), self.engine.clock
        self.watchdog.feed()
        clock.add("data", data_seconds)
        asked = self.recipe.tasks[moment.task].objectives
        shares, objectives = {objective.kind: objective.weight for objective in asked}, [objective.kind for objective in asked]
        mine = [sum(count_of(objective, batch) for batch in batches) for objective in asked]
        tokens = sum(batch.tokens for batch in batches)
        # Counts come first, over all ranks, so that no gradient depends on how the batch was split.
        with clock.during("communication"):
            *counts, tokens, stop_votes, gathering = self.context.sum([*mine, tokens, float(self._asked_to_stop()), float(self._gathers())])
        weights = {kind: shares[kind] * self.context.world / max(count, 1.0) for kind, count in zip(objectives, counts, strict=True)}
        sums = dict.fromkeys(objectives, 0.0)
        self.engine.prepare()
        for number, batch in enumerate(batches):
            before = self.memory.before(moment.task, number)
            losses, after = self.engine.train(moment.task, batch, weights, (moment.step, number), before)
            self.memory.after(moment.task, number, after)
            for kind, loss in losses.items():
                sums[kind] += float(loss.sum)
        with clock.during("communication"):
            totals = self.context.sum([sums[kind] for kind in objectives])
        means = {kind: total / max(count, 1.0) for kind, total, count in zip(objectives, totals, counts, strict=True)}
        finite = all(map(math.isfinite, means.values()))
        rate = self.recipe.learning_rate(moment.step)
        norm, applied = self.engine.step(rate, self._active(moment) if finite else set())
        phases = clock.take()
        self.report(
            "step",
            step=moment.step,
            task=moment.task,
            loss=sum(shares[kind] * mean for kind, mean in means.items()),
            losses=means,
            learning_rate=rate,
            gradient_norm=norm,
            rows=moment.rows,
            tokens=int(tokens),
            skipped=not (finite and applied),
            loss_scale=self.engine.loss_scale.value if self.engine.loss_scale else None,
            seconds=round(time.perf_counter() - started_at + data_seconds, 6),
            data_seconds=round(data_seconds, 6),
            phases=phases,
        )
        self._own.update(phases | {"steps": 1})
        if gathering:
            self._gather(moment.step)
        scale = self.engine.loss_scale
        self._count_skipped(moment.step, finite and (applied or scale is None or scale.value > 1.0))
        return stop_votes > 0

    def _active(self, moment: Moment) -> set[str]:
        return parts_of(self.recipe.owner(moment.task), self.recipe.tasks[moment.task].objectives)

    def _count_skipped(self, step: int, finite: bool) -> None:
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped >= MOST_SKIPPED:
            raise NumericError(
                f"step {step}: the gradient was not finite {MOST_SKIPPED} steps in a row; none of them changed the weights. "
                "Lower optimizer.learning_rate, lengthen its warm-up, or set optimizer.clip_norm=1.0."
            )

    def _asked_to_stop(self) -> bool:
        return bool(self.stop_signals) or (self.context.rank == 0 and self.run.stop_path.exists())

    def _gathers(self) -> bool:
        """Return whether it is time for the figures of single ranks; rank 0 decides."""
        return self.context.rank == 0 and time.monotonic() - self._gathered_at >= RANKS_SECONDS

    def _gather(self, step: int) -> None:
        """Report what each rank did by itself: the forward pass waits for nobody below ZeRO 3, so a slow rank shows there."""
        steps = self._own["steps"]
        mine = (self._own["forward"] / steps, self._own["data"] / steps, held_bytes(self.context.device))
        busy, data, held = (list(values) for values in zip(*self.context.gather(mine), strict=True))
        self.report("ranks", step=step, steps=int(steps), busy_seconds=busy, data_seconds=data, memory_bytes=held)
        self._own, self._gathered_at = Counter(), time.monotonic()

    def evaluate(self, done: int) -> None:
        """Measure what is due after `done` steps: the held-out loss of every task, and what probes reach."""
        started_at, end = time.perf_counter(), self.schedule.total_steps
        tasks = list(self.recipe.tasks) if is_due(done, self.recipe.evaluate.every_steps, end) else []
        probes = self.probes.due(done, end)
        for task in tasks:
            self.watchdog.feed()
            for objective, figures in self.held_out.measure(task).items():
                self.report("evaluated", step=done, task=task, objective=objective, **figures)
        for probe in probes:
            self.watchdog.feed()
            self.report("probed", step=done, probe=probe, **self.probes.measure(probe))
        if tasks or probes:
            self.report("evaluation_finished", step=done, seconds=round(time.perf_counter() - started_at, 3))

    def save(self, done: int) -> None:
        """Write and commit a checkpoint after `done` steps; a failed one is reported and training goes on."""
        self.watchdog.feed()
        started_at = time.perf_counter()
        saved = self.store.save(done, self._write, self._state(done), self._stage_ends.get(done))
        seconds = round(time.perf_counter() - started_at, 3)
        if saved is None:
            self.report("checkpoint_failed", step=done, seconds=seconds, reason=self.store.failure)
        else:
            size = sum(entry["bytes"] for entry in saved.manifest["files"].values())
            self.report("checkpoint_saved", step=done, seconds=seconds, bytes=size, path=str(saved.path))

    @cached_property
    def _stage_ends(self) -> dict[int, str]:
        return self.recipe.stage_ends

    def _write(self, directory: Path) -> list[Path]:
        return [*write_state(self.engine, directory), *self.memory.write(directory)]

    @cached_property
    def _identity(self) -> str:
        # Of the recipe as it was written: where it says auto, this one holds what was chosen.
        return self.run.recipe().digest

    @cached_property
    def _data_digests(self) -> dict[str, str]:
        return {name: Dataset.open(path).digest for name, path in sorted(self.loader.reader.reading.directories.items())}

    def _state(self, done: int) -> dict[str, Any]:
        return {
            "step": done,
            "recipe": self._identity,
            "data": self._data_digests,
            "versions": {name: importlib.metadata.version(name) for name in ("ptm_dist", "torch", "deepspeed", "numpy")},
            "engine": self.recipe.engine.model_dump(mode="json"),
            "loss_scale": asdict(self.engine.loss_scale) if self.engine.loss_scale else None,
        }

    def resume(self) -> int:
        """Load the newest valid checkpoint and return the step to do next, 0 in a new run.

        Raises:
            ResumeMismatchError: it belongs to another recipe or other data.
            NoValidCheckpointError: there are checkpoints, and each is damaged.

        """
        started_at = time.perf_counter()
        self.store.clean()
        found = self.store.latest()
        for reason in self.store.rejected:
            self.report("checkpoint_quarantined", reason=reason)
        if found is None:
            self._initialize()
            return 0
        self._require_own(found)
        fresh = read_state(self.engine, found.path)
        self.memory.read(found.path)
        if fresh:
            self.report("heads_added", step=found.step, parameters=fresh)
        if self.engine.loss_scale and found.state["loss_scale"]:
            self.engine.loss_scale = LossScale(**found.state["loss_scale"])
        self.restore_seconds = round(time.perf_counter() - started_at, 3)
        return found.step

    def _initialize(self) -> None:
        """Take the weights that `init:` names; what they do not cover stays fresh."""
        if self.recipe.init:
            self.report("initialized", source=self.recipe.init, fresh=read_weights(self.engine, self.run.init_path))

    def _require_own(self, found: Checkpoint) -> None:
        """Refuse a checkpoint of another recipe; one that was inherited may be of other data, and later tasks bring theirs."""
        inherited = (self.run.parent() or {"digests": []})["digests"]
        if found.state["recipe"] not in self.run.known_digests():
            raise ResumeMismatchError(f"{found.path} was written with another recipe. Restore it, or choose another --run.")
        if found.state["recipe"] not in inherited and not found.state["data"].items() <= self._data_digests.items():
            raise ResumeMismatchError(f"{found.path} was written with other data. Restore them, or choose another --run.")

    def try_out(self, steps: int) -> None:
        """Do an evaluation, a few steps, a save and a restore, and report what they cost."""
        self.train(0, steps)
        self.save(steps)
        started_at = time.perf_counter()
        self.resume()
        restore_seconds = round(time.perf_counter() - started_at, 3)
        peak = sum(self.context.gather(peak_bytes(self.context.device)))
        parameters = sum(math.prod(shape) for shape in self.engine.layout.shapes.values())
        self.report("trial", restore_seconds=restore_seconds, peak_bytes=peak, parameters=parameters)
