"""The attempts of a run: when, with whom, from where to where, why they ended, and what was lost.

The log of the driver tells most of it. Where there is none, as in runs of earlier code, the log of the workers and the messages that ranks
left tell what they can: an attempt without a last word was killed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ptm_dist.errors import CAUSES
from ptm_dist.observed import Event, Heard, Observed

KILLED: Final = "killed"
"""The cause of an attempt that left no word."""
RUNNING: Final = "running"
PEER_LOST: Final = 60


@dataclass(frozen=True)
class Attempt:
    """One start of a run."""

    attempt: int
    started_at: float
    ended_at: float | None
    """None while it runs."""
    workers: int
    wanted_workers: int
    nodes: tuple[str, ...]
    first_step: int
    last_step: int
    """Updates done when it ended."""
    cause: str
    exit_code: int | None
    """None while it runs, and where nobody knows."""
    message: str
    lost_steps: int
    """Steps of it that a later attempt does again, or will."""
    seconds: float
    compute_hours: float
    """Workers times hours."""
    code: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"nodes": list(self.nodes)}


def attempts_of(observed: Observed, alive: bool, errors: Mapping[int, Sequence[Mapping[str, Any]]]) -> list[Attempt]:
    """Return the attempts, oldest first; `errors` are the messages that ranks of each left, `alive` says whether the last one runs."""
    numbers = sorted(observed.attempts)
    return [_attempt(observed, number, numbers[place + 1 :], alive, errors.get(number, ())) for place, number in enumerate(numbers)]


def _attempt(observed: Observed, number: int, later: Sequence[int], alive: bool, errors: Sequence[Mapping[str, Any]]) -> Attempt:
    heard = observed.attempts[number]
    placed, started, ended = (heard.told.get(kind, {}) for kind in ("attempt_placed", "attempt_started", "attempt_ended"))
    runs = alive and not later and not ended and "attempt_finished" not in heard.told
    workers = int(ended.get("workers") or placed.get("workers") or started.get("world") or 0)
    begun = placed.get("time", heard.first_at)
    seconds = float(ended.get("seconds") or heard.last_at - begun)
    first = heard.first_step if heard.first_step is not None else int(placed.get("step") or 0)
    last = max(first, heard.last_step or 0, int(ended.get("step") or 0))
    cause, code, message = (RUNNING, None, "") if runs else _end_of(heard, errors)
    return Attempt(
        attempt=number,
        started_at=begun,
        ended_at=None if runs else ended.get("time", heard.last_at),
        workers=workers,
        wanted_workers=int(placed.get("wanted_workers") or workers),
        nodes=_nodes(placed, started),
        first_step=first,
        last_step=last,
        cause=cause,
        exit_code=code,
        message=message,
        lost_steps=0 if runs or cause == "finished" else _lost(observed, later, last, ended),
        seconds=seconds,
        compute_hours=workers * seconds / 3600,
        code=str(started.get("code", "")),
    )


def _nodes(placed: Event, started: Event) -> tuple[str, ...]:
    named = placed.get("nodes") or [rank.get("node", "") for rank in started.get("ranks") or ()]
    return tuple(dict.fromkeys(str(node) for node in named if node))


def _end_of(heard: Heard, errors: Sequence[Mapping[str, Any]]) -> tuple[str, int | None, str]:
    """Return cause, exit code and message of an attempt that has ended."""
    if told := heard.told.get("attempt_ended"):
        code = told.get("exit_code")
        return str(told.get("cause") or CAUSES.get(code if isinstance(code, int) else -1, KILLED)), code, str(told.get("message") or "")
    if "attempt_finished" in heard.told:
        return "finished", 0, ""
    # Ranks that lost a peer only tell that another one failed first.
    first = min(errors, key=lambda error: error["exit_code"] == PEER_LOST, default=None)
    stopping = heard.told.get("stopping", {}).get("reason")
    if first is not None:
        cause = {"preempted": "preempted", "resized": "resized"}.get(stopping or "", CAUSES.get(first["exit_code"], "defect"))
        return cause, first["exit_code"], str(first["message"])
    return KILLED, None, ""


def _lost(observed: Observed, later: Sequence[int], last: int, ended: Event) -> int:
    """Return how many steps were done in vain: those after the place where the next attempt goes on, or will go on."""
    starts = (observed.attempts[number].told.get("attempt_started") for number in later)
    next_start = next((started["step"] for started in starts if started), None)
    if next_start is not None:
        return max(0, last - next_start)
    if ended:
        return int(ended.get("lost_steps") or 0)
    return max(0, last - max((saved.get("step", 0) for saved in observed.checkpoints), default=0))


def since(attempts: Sequence[Attempt], seconds: float, now: float) -> list[Attempt]:
    """Return the attempts that run, or ended in the last `seconds`."""
    return [attempt for attempt in attempts if attempt.ended_at is None or attempt.ended_at >= now - seconds]


def summed(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Return the sum over attempts: how many, steps that count, steps lost, hours, compute hours, and ends by cause."""
    done = sum(attempt.last_step - attempt.first_step for attempt in attempts)
    lost = sum(attempt.lost_steps for attempt in attempts)
    return {
        "attempts": len(attempts),
        "steps": done - lost,
        "lost_steps": lost,
        "hours": math.fsum(attempt.seconds for attempt in attempts) / 3600,
        "compute_hours": math.fsum(attempt.compute_hours for attempt in attempts),
        "causes": dict(Counter(attempt.cause for attempt in attempts)),
    }
