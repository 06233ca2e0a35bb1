"""From an event of a log to the finer ones that metrics follow: one for each objective, phase, rank, node and source."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ptm_dist.events import by_source
from ptm_dist.goodput import amount_of
from ptm_dist.metrics_table import CAUSES

Event = dict[str, Any]


class Unfolding:
    """Takes the events of a log in order, and remembers what later ones need of earlier ones."""

    def __init__(self) -> None:
        self._flops_per_token = self._peak_flops = self._written_at = 0.0
        self._saved_at: float | None = None
        self._cause = ""
        self._nodes: dict[int, str] = {}
        self._known = {
            "step": self._step,
            "attempt_started": self._attempt_started,
            "ranks": self._ranks,
            "checkpoint_saved": self._checkpoint_saved,
            "checkpoint_failed": self._checkpoint_failed,
            "evaluated": by_source,
            "evaluation_finished": self._evaluation_finished,
            "attempt_ended": self._attempt_ended,
            "restarting": self._restarting,
            "nodes_checked": self._nodes_checked,
        }

    def __call__(self, event: Event) -> Iterator[Event]:
        """Yield what an event says; kinds that need nothing are passed on as they are."""
        self._written_at = max(self._written_at, amount_of(event, "time"))  # Of two logs, one is read after the other.
        yield {"event": "written", "time": self._written_at}
        unfold = self._known.get(event["event"])
        yield from unfold(event) if unfold else (event,)

    def _step(self, event: Event) -> Iterator[Event]:
        flops = self._flops_per_token * (event.get("tokens") or 0)
        seconds = amount_of(event, "seconds")
        scaled = event.get("loss_scale") is not None and _is_finite(event.get("loss"))
        yield (
            {"task": ""}
            | event
            | {
                "flops": flops or None,
                "mfu": flops / seconds / self._peak_flops if flops and seconds and self._peak_flops else None,
                "nonfinite": bool(event.get("skipped")) and not scaled,
            }
        )
        for objective, loss in (event.get("losses") or {}).items():
            yield {"event": "objective", "task": event.get("task", ""), "objective": objective, "loss": loss}
        for phase, spent in (event.get("phases") or {"data": event.get("data_seconds")}).items():
            yield _phase(phase, spent)

    def _attempt_started(self, event: Event) -> Iterator[Event]:
        self._flops_per_token, self._peak_flops = amount_of(event, "flops_per_token"), amount_of(event, "peak_flops")
        self._saved_at = event.get("time")
        yield event | {"known_peak": self._peak_flops or None}
        yield _phase("start", event.get("start_seconds"))
        yield _phase("restore", event.get("restore_seconds"))
        ranks = event.get("ranks") or []
        self._nodes = {rank["rank"]: str(rank.get("node", "")) for rank in ranks}
        for rank in ranks:
            yield {"event": "rank_placed", "node": "", "pid": ""} | rank | {"gpu_uuid": rank.get("gpu", "")}

    def _ranks(self, event: Event) -> Iterator[Event]:
        steps = event.get("steps") or 0
        columns = [event.get(name) or [] for name in ("busy_seconds", "data_seconds", "memory_bytes")]
        for rank, (busy, data, memory) in enumerate(zip(*columns, strict=False)):
            told = {"busy": busy * steps, "data": data * steps, "steps": steps, "memory": memory}
            yield {"event": "rank", "rank": rank, "node": self._nodes.get(rank, "")} | told

    def _checkpoint_saved(self, event: Event) -> Iterator[Event]:
        now, before = event.get("time"), self._saved_at
        yield event | {"interval": now - before if now is not None and before is not None else None}
        self._saved_at = now
        yield _phase("checkpoint", event.get("seconds"))

    def _checkpoint_failed(self, event: Event) -> Iterator[Event]:
        yield event
        yield _phase("checkpoint", event.get("seconds"))

    def _evaluation_finished(self, event: Event) -> Iterator[Event]:
        yield _phase("evaluation", event.get("seconds"))

    def _attempt_ended(self, event: Event) -> Iterator[Event]:
        self._cause = event.get("cause", "")
        yield event | {"worker_seconds": amount_of(event, "seconds") * (event.get("workers") or 0)}

    def _restarting(self, event: Event) -> Iterator[Event]:
        # A reason may be a sentence; what the attempt ended of is one of a few words.
        yield event | {"reason": event.get("reason") if event.get("reason") in CAUSES else self._cause}

    def _nodes_checked(self, event: Event) -> Iterator[Event]:
        for node in event.get("nodes") or []:
            yield {"event": "node_checked"} | node


def _phase(phase: str, seconds: float | None) -> Event:
    return {"event": "phase", "phase": phase, "seconds": seconds}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
