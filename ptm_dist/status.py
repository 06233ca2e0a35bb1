"""Where a run stands: figures from its events. Pure; the screen, the JSON and the page all show these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from ptm_dist.errors import CAUSES
from ptm_dist.goodput import ratio
from ptm_dist.history import KILLED, PEER_LOST, RUNNING, Attempt
from ptm_dist.observed import Event, Observed

NOW_SECONDS: Final = 60.0
"""The speed of now is that of the steps of the last minute, or of the last ten if they took longer."""
LEAST_STEPS: Final = 10
AHEAD_STEPS: Final = 1000
"""Time left goes by the last so many steps of the attempt, evaluations and saves between them included."""
LOSS_STEPS: Final = 20
"""The training loss of a task is the mean of its last so many steps."""


@dataclass(frozen=True)
class PlannedTasks:
    """A stage: its steps from `first` up to `end`, and the updates of each task."""

    name: str
    first: int
    end: int
    steps: Mapping[str, int]


@dataclass(frozen=True)
class RunPlan:
    """What a run is to do; without stages while its length is not known."""

    name: str
    stages: tuple[PlannedTasks, ...]
    objectives: Mapping[str, tuple[str, ...]]
    """Objectives of each task."""
    workers: int

    @property
    def total_steps(self) -> int | None:
        """Updates of the whole run."""
        return self.stages[-1].end if self.stages else None

    def stage_at(self, step: int) -> int | None:
        """Return the number of the stage of a step; of the last one at the end of the run."""
        within = (number for number, stage in enumerate(self.stages) if step < stage.end)
        return next(within, len(self.stages) - 1 if self.stages else None)


@dataclass(frozen=True)
class HeldOut:
    """Held-out figures of an objective of a task beside what a guess reaches without context: entropy of tokens, or labels alone."""

    task: str
    objective: str
    step: int
    loss: float | None
    accuracy: float | None
    unigram_entropy: float | None
    baseline_loss: float | None
    baseline_accuracy: float | None

    @property
    def floor(self) -> float | None:
        """The loss of a guess without context, nats."""
        return self.unigram_entropy if self.unigram_entropy is not None else self.baseline_loss


@dataclass(frozen=True)
class Probed:
    """What a probe reaches on held-out targets, beside the share of their most frequent class."""

    probe: str
    step: int
    accuracy: float | None
    loss: float | None
    baseline_accuracy: float | None


@dataclass(frozen=True)
class LastCheckpoint:
    """The newest checkpoint."""

    step: int
    saved_at: float
    age_seconds: float
    bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class Status:
    """Where a run stands. None is not known."""

    run: str
    name: str
    state: str
    """new, preparing, running, restarting, finished, stopped, or failed."""
    attempt: int | None
    cause: str | None
    """Why the last attempt ended."""
    exit_code: int | None
    """Of a run that has ended; 60 where it was killed without a word."""
    message: str
    step: int
    """Updates done."""
    total_steps: int | None
    stage: str | None
    stage_number: int | None
    """From 1."""
    stages: int
    task: str | None
    loss: float | None
    losses: dict[str, float]
    """Training loss of each task, in the mean over its last 20 steps."""
    learning_rate: float | None
    gradient_norm: float | None
    tokens: int
    tokens_per_second: float | None
    """Of the last minute of steps."""
    tokens_per_second_average: float | None
    seconds_left: float | None
    workers: int | None
    wanted_workers: int
    nodes: list[str]
    held_out: list[HeldOut]
    probes: list[Probed]
    checkpoint: LastCheckpoint | None
    goodput: float | None
    """The productive share of the wall time."""
    goodput_seconds: dict[str, float]
    restarts: int
    lost_steps: int
    skipped_steps: int
    last_step_at: float | None
    seen_at: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data; what is not finite becomes null."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def status_of(observed: Observed, plan: RunPlan, attempts: Sequence[Attempt], run: str, now: float, alive: bool = False) -> Status:
    """Return where a run stands at the time `now`; `alive` says whether somebody works on it."""
    steps, last = observed.steps, attempts[-1] if attempts else None
    runs = last is not None and last.cause == RUNNING
    number = plan.stage_at(observed.done) if plan.stages else None
    # Of a run that nobody works on, the clock ends with its last word.
    goodput = observed.goodput.seconds(now if alive else max((heard.last_at for heard in observed.attempts.values()), default=now))
    state, cause, code = _state(last, alive, observed.gave_up)
    return Status(
        run=run,
        name=plan.name,
        state=state,
        attempt=last.attempt if last else None,
        cause=cause,
        exit_code=code,
        message=last.message if last else str((observed.gave_up or {}).get("reason", "")),
        step=observed.done,
        total_steps=plan.total_steps,
        stage=plan.stages[number].name if number is not None else None,
        stage_number=None if number is None else number + 1,
        stages=len(plan.stages),
        task=steps.tasks[steps.task_numbers[-1]] if len(steps) else None,
        loss=_newest(observed, "loss"),
        losses=_losses(observed),
        learning_rate=_newest(observed, "learning_rate"),
        gradient_norm=_newest(observed, "gradient_norm"),
        tokens=int(np.nansum(steps.column("tokens"))),
        tokens_per_second=_speed_now(observed),
        tokens_per_second_average=_speed(steps.column("tokens"), steps.column("seconds")),
        seconds_left=_seconds_left(observed, plan) if runs else None,
        workers=last.workers if last else None,
        wanted_workers=last.wanted_workers if last else plan.workers,
        nodes=list(last.nodes) if last else [],
        held_out=_all_held_out(observed, plan),
        probes=_probes(observed),
        checkpoint=_checkpoint(observed.checkpoints[-1], now) if observed.checkpoints else None,
        goodput=ratio(goodput) if len(steps) else None,
        goodput_seconds=goodput,
        restarts=max(0, len(attempts) - 1),
        lost_steps=observed.lost_steps,
        skipped_steps=steps.skipped,
        last_step_at=_newest(observed, "time"),
        seen_at=now,
    )


def _state(last: Attempt | None, alive: bool, gave_up: Event | None) -> tuple[str, str | None, int | None]:
    """Return state, cause of the last end, and exit code."""
    if last is not None and last.cause == RUNNING:
        return "running", None, None
    if last is not None and last.cause == "finished":
        return "finished", "finished", 0
    if alive:
        return ("preparing", None, None) if last is None else ("restarting", last.cause, None)
    code = gave_up.get("exit_code") if gave_up else None
    if last is None:
        return ("new", None, None) if code is None else ("failed", CAUSES.get(code, KILLED), code)
    ended = PEER_LOST if last.cause == KILLED else last.exit_code
    return ("stopped" if last.cause in {"stopped", "preempted", "resized"} else "failed"), last.cause, ended if code is None else code


def _newest(observed: Observed, name: str) -> float | None:
    column = observed.steps.plain[name]
    return column[-1] if len(column) else None


def _losses(observed: Observed) -> dict[str, float]:
    steps, loss = observed.steps, observed.steps.column("loss")
    found = {task: loss[steps.of_task(task)][-LOSS_STEPS:] for task in steps.tasks}
    return {task: float(np.nanmean(values)) for task, values in found.items() if np.isfinite(values).any()}


def _speed(tokens: np.ndarray, seconds: np.ndarray) -> float | None:
    total = float(np.nansum(seconds))
    return float(np.nansum(tokens)) / total if total > 0 else None


def _speed_now(observed: Observed) -> float | None:
    of_attempt = slice(observed.begins, None)
    at, tokens, seconds = (observed.steps.column(name)[of_attempt] for name in ("time", "tokens", "seconds"))
    if not len(at):
        return None
    window = max(LEAST_STEPS, int((at > at[-1] - NOW_SECONDS).sum()))
    return _speed(tokens[-window:], seconds[-window:])


def _seconds_left(observed: Observed, plan: RunPlan) -> float | None:
    at = observed.steps.column("time")[observed.begins :][-AHEAD_STEPS:]
    if plan.total_steps is None or not len(at):
        return None
    each = (at[-1] - at[0]) / (len(at) - 1) if len(at) > 1 else observed.steps.plain["seconds"][-1]
    return max(0.0, float(each)) * max(0, plan.total_steps - observed.done)


def _all_held_out(observed: Observed, plan: RunPlan) -> list[HeldOut]:
    """Return the newest figures in the order of tasks and objectives."""
    order = {pair: place for place, pair in enumerate((task, kind) for task, kinds in plan.objectives.items() for kind in kinds)}
    found = observed.last_evaluations()
    return [_held_out(found[pair]) for pair in sorted(found, key=lambda pair: order.get(pair, len(order)))]


def _held_out(event: Event) -> HeldOut:
    figures = {name: event.get(name) for name in ("loss", "accuracy", "unigram_entropy", "baseline_loss", "baseline_accuracy")}
    return HeldOut(task=event["task"], objective=event.get("objective", ""), step=event["step"], **figures)


def _probes(observed: Observed) -> list[Probed]:
    """Return the newest figures of each probe."""
    last = {name: event for (_, name), event in observed.probes.items()}
    names = ("accuracy", "loss", "baseline_accuracy")
    return [Probed(name, event["step"], **{key: event.get(key) for key in names}) for name, event in last.items()]


def _checkpoint(event: Event, now: float) -> LastCheckpoint:
    return LastCheckpoint(event["step"], event["time"], max(0.0, now - event["time"]), event.get("bytes"), event.get("seconds"))
