"""What follows when an attempt has ended: a pure function of what happened so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from ptm_dist.errors import RETRYABLE
from ptm_dist.terms import Supervise

Cause: TypeAlias = Literal[
    "finished",
    "stopped",
    "preempted",
    "resized",
    "lost_worker",
    "hung",
    "oom",
    "data",
    "storage",
    "numeric",
    "config",
    "checkpoint",
    "defect",
]
SUSPICIOUS: Final = 2
"""Failures at one step with one cause after which the checkpoint before it is no longer trusted."""
HOPELESS: Final = 4
"""Failures at one step with one cause after which nothing else is tried."""
MEANT: Final = frozenset({"preempted", "resized"})
"""Causes that the supervisor brought about itself, and that cost nothing of the budget."""


@dataclass(frozen=True)
class Ended:
    """How an attempt ended."""

    attempt: int
    cause: Cause
    exit_code: int
    message: str
    started_step: int
    """The newest checkpoint when it was placed."""
    step: int
    """Updates done when it ended."""
    kept_step: int
    """The newest checkpoint then."""
    workers: int
    seconds: float

    @property
    def lost_steps(self) -> int:
        """Updates that the next attempt does again."""
        return max(0, self.step - self.kept_step)

    def event(self) -> dict[str, Any]:
        """Return what the log says of it."""
        told = asdict(self) | {"lost_steps": self.lost_steps}
        return {name: value for name, value in told.items() if name not in ("attempt", "started_step")}


@dataclass(frozen=True)
class Decision:
    """What the supervisor does next."""

    action: Literal["done", "restart", "step_back", "give_up"]
    reason: str
    wait_seconds: float = 0.0
    restarts_left: int = 0


def decide(history: Sequence[Ended], rules: Supervise, chance: float) -> Decision:
    """Return what to do after the last of `history`; `chance` in [0, 1) spreads the waits of many runs.

    Restarts are counted from the last new checkpoint, so that a run of weeks has its budget anew after each. The same failure at the same
    step is no accident: after two, the run goes one checkpoint back; after four it ends.
    """
    last = history[-1]
    if last.cause in {"finished", "stopped"}:
        return Decision("done", last.cause)
    if last.cause in MEANT:
        return Decision("restart", last.cause, restarts_left=rules.restarts)
    if last.exit_code not in RETRYABLE:
        return Decision("give_up", f"{last.cause}: a restart would not help")
    return _after_failure(history, rules, chance)


def _after_failure(history: Sequence[Ended], rules: Supervise, chance: float) -> Decision:
    last = history[-1]
    failures = _in_a_row(history)
    left = rules.restarts - failures
    if left < 0:
        told = f"{failures} attempts in a row brought no new checkpoint" if failures > 1 else "no restarts are allowed"
        return Decision("give_up", told)
    wait = min(rules.longest_wait_seconds, rules.wait_seconds * 2 ** min(failures - 1, 60)) * (0.5 + chance / 2)
    alike = _alike(history)
    if alike >= HOPELESS:
        return Decision("give_up", f"{alike} attempts ended at step {last.step:,}: {last.cause}")
    if alike == SUSPICIOUS:
        return Decision("step_back", f"{alike} attempts ended at step {last.step:,}: {last.cause}", wait, left)
    return Decision("restart", last.cause, wait, left)


def _in_a_row(history: Sequence[Ended]) -> int:
    """Return how many attempts failed since the last new checkpoint; the one that brought it has failed too."""
    count = 0
    for ended in reversed(history):
        if ended.cause in MEANT:
            continue
        count += 1
        if ended.kept_step > ended.started_step:
            break
    return count


def _alike(history: Sequence[Ended]) -> int:
    """Return how many attempts ended at the same step with the same cause as the last; none if it did no step at all."""
    last = history[-1]
    if last.step <= last.started_step:
        return 0
    return sum((ended.step, ended.cause) == (last.step, last.cause) for ended in history)
