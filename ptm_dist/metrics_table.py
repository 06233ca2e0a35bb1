"""Every metric, in one table. Metrics are derived from events, so the log and the scrape never disagree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ptm_dist.goodput import CLASSES

Event = dict[str, Any]
Reading = Callable[[Event], Any]
Kind = Literal["counter", "gauge", "histogram"]
Scope = Literal["run", "rank", "driver"]

COMMON: Final[Mapping[Scope, tuple[str, ...]]] = {
    "run": ("run", "attempt"),
    "rank": ("run", "attempt", "rank", "node"),
    "driver": ("run",),
}
"""Labels of every series of a scope. What the driver tells outlives attempts, and a changing label would cut it to pieces."""

CAUSES: Final = (
    "finished", "stopped", "preempted", "resized", "lost_worker", "hung", "oom", "data", "storage", "numeric", "config", "checkpoint",
    "defect",
)  # fmt: skip
PHASES: Final = ("data", "forward", "backward", "optimizer", "communication", "checkpoint", "evaluation", "restore", "start")
PREPARATION: Final = ("documents", "deal", "tokenizer", "tokens", "examples")
OTHER: Final = "other"
"""What stands for a label value that nobody has foreseen, so that no text of an error makes new series."""

STEP_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True)
class Metric:
    """A metric: name, type and help as Prometheus wants them, the events that it follows, and the value that it takes from them."""

    name: str
    type: Kind
    help: str
    events: str | tuple[str, ...]
    value: str | Reading
    """A field of the event, or what is read from it; what is missing or undefined leaves the metric as it was."""
    labels: tuple[str, ...] = ()
    """Fields of the event that tell series apart, beside those that all of the scope have."""
    scope: Scope = "run"
    words: tuple[str, ...] = ()
    """All values of the only label, where they are known: each is shown from the beginning, and any other value is OTHER."""

    def read(self, event: Event) -> Any:
        """Return the value, None if this event has none."""
        return event.get(self.value) if isinstance(self.value, str) else self.value(event)

    def follows(self, event: str) -> bool:
        """Does this kind of event say something about it?"""
        return event in ((self.events,) if isinstance(self.events, str) else self.events)

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Labels of its series."""
        return (*COMMON[self.scope], *self.labels)


def _once(_: Event) -> float:
    return 1.0


def _is(name: str) -> Reading:
    return lambda event: float(event["event"] == name)


MEASURED: Final = ("task", "objective", "source")
"""What tells held-out figures apart; of all sources together `source` is empty, which to Prometheus is no label."""

STEPS: Final = (
    Metric("ptm_train_steps_total", "counter", "Optimizer updates done by this attempt.", "step", _once),
    Metric("ptm_train_step", "gauge", "Updates done since the start of the run.", "step", lambda e: e["step"] + 1),
    Metric("ptm_train_tokens_total", "counter", "Tokens trained on by this attempt, padding excluded.", "step", "tokens"),
    Metric("ptm_train_rows_total", "counter", "Examples trained on by this attempt.", "step", "rows"),
    Metric("ptm_train_flops_total", "counter", "Arithmetic of the model for these tokens, all workers.", "step", "flops"),
    Metric("ptm_train_mfu_ratio", "gauge", "Share of the peak of all devices that the last step used.", "step", "mfu"),
    Metric("ptm_train_loss", "gauge", "Training loss of the last step of a task, nats.", "step", "loss", ("task",)),
    Metric("ptm_train_objective_loss", "gauge", "Loss of each objective in it, nats.", "objective", "loss", ("task", "objective")),
    Metric("ptm_train_learning_rate", "gauge", "Learning rate of the last step.", "step", "learning_rate"),
    Metric("ptm_train_gradient_norm", "gauge", "Norm of the whole gradient of the last step.", "step", "gradient_norm"),
    Metric("ptm_train_loss_scale", "gauge", "Scale of the loss in fp16 after the last step.", "step", "loss_scale"),
    Metric("ptm_train_step_seconds", "histogram", "Duration of a step, waiting for data included.", "step", "seconds"),
    Metric("ptm_train_data_wait_seconds_total", "counter", "Time spent waiting for examples.", "step", "data_seconds"),
    Metric("ptm_train_phase_seconds_total", "counter", "Time of rank 0 by phase.", "phase", "seconds", ("phase",), words=PHASES),
    Metric("ptm_train_skipped_steps_total", "counter", "Steps that changed no weight: their numbers were not finite.", "step", "skipped"),
    Metric("ptm_train_nonfinite_steps_total", "counter", "Those of them that a scale in fp16 does not explain.", "step", "nonfinite"),
    Metric("ptm_train_last_step_timestamp_seconds", "gauge", "When the last step ended.", "step", "time"),
    Metric("ptm_train_last_event_timestamp_seconds", "gauge", "When the attempt last wrote an event.", "written", "time"),
)

ATTEMPT: Final = (
    Metric("ptm_train_start_timestamp_seconds", "gauge", "When the first step could begin.", "attempt_started", "time"),
    Metric("ptm_train_total_steps", "gauge", "Updates of the whole run.", "attempt_started", "total_steps"),
    Metric("ptm_train_world_size", "gauge", "Workers of this attempt.", "attempt_started", "world"),
    Metric("ptm_train_peak_flops", "gauge", "Arithmetic a second that all devices together can do.", "attempt_started", "known_peak"),
    Metric("ptm_data_examples", "gauge", "Training examples prepared, all tasks.", "attempt_started", "examples"),
    Metric("ptm_checkpoint_restore_seconds", "gauge", "Duration of reading the checkpoint.", "attempt_started", "restore_seconds"),
)

CHECKPOINTS: Final = (
    Metric("ptm_checkpoint_saves_total", "counter", "Checkpoints committed by this attempt.", "checkpoint_saved", _once),
    Metric("ptm_checkpoint_written_bytes_total", "counter", "Bytes of them.", "checkpoint_saved", "bytes"),
    Metric("ptm_checkpoint_bytes", "gauge", "Size of the last checkpoint.", "checkpoint_saved", "bytes"),
    Metric("ptm_checkpoint_save_seconds", "gauge", "Duration of the last save.", "checkpoint_saved", "seconds"),
    Metric("ptm_checkpoint_step", "gauge", "Step of the last checkpoint.", "checkpoint_saved", "step"),
    Metric("ptm_checkpoint_timestamp_seconds", "gauge", "When the last checkpoint was committed.", "checkpoint_saved", "time"),
    Metric("ptm_checkpoint_interval_seconds", "gauge", "From the one before, or the first step, to it.", "checkpoint_saved", "interval"),
    Metric("ptm_checkpoint_failures_total", "counter", "Saves that failed; training went on.", "checkpoint_failed", _once),
    Metric("ptm_checkpoint_quarantined_total", "counter", "Damaged checkpoints that were set aside.", "checkpoint_quarantined", _once),
)

EVALUATION: Final = (
    Metric("ptm_evaluate_loss", "gauge", "Held-out loss, nats.", "evaluated", "loss", MEASURED),
    Metric("ptm_evaluate_accuracy_ratio", "gauge", "Held-out accuracy of the targets.", "evaluated", "accuracy", MEASURED),
    Metric("ptm_evaluate_targets", "gauge", "Held-out targets that were measured.", "evaluated", "targets", MEASURED),
    Metric("ptm_evaluate_unigram_entropy", "gauge", "Entropy of held-out tokens, nats.", "evaluated", "unigram_entropy", MEASURED),
    Metric("ptm_evaluate_baseline_loss", "gauge", "Entropy of held-out labels, nats.", "evaluated", "baseline_loss", MEASURED),
    Metric(
        "ptm_evaluate_baseline_accuracy_ratio", "gauge", "Share of the most frequent label.", "evaluated", "baseline_accuracy", MEASURED
    ),
    Metric("ptm_probe_accuracy", "gauge", "Held-out accuracy of a probe, from 0 to 1.", "probed", "accuracy", ("probe",)),
)


def _of_rank(name: str, kind: Kind, help: str, events: str, value: str | Reading) -> Metric:
    return Metric(name, kind, help, events, value, scope="rank")


RANKS: Final = (
    Metric("ptm_rank_info", "gauge", "Always 1: where a rank runs.", "rank_placed", _once, ("gpu_uuid", "pid"), "rank"),
    _of_rank("ptm_rank_up", "gauge", "1 while the process of a rank runs, 0 when it is stopped or gone.", "rank_seen", "up"),
    _of_rank("ptm_rank_busy_seconds_total", "counter", "Time that a rank computed, not waiting for others.", "rank", "busy"),
    _of_rank("ptm_rank_data_seconds_total", "counter", "Time that a rank waited for examples.", "rank", "data"),
    _of_rank("ptm_rank_steps_total", "counter", "Steps that these times cover.", "rank", "steps"),
    _of_rank("ptm_rank_memory_bytes", "gauge", "Memory that a rank holds: of its GPU, or in all.", "rank", "memory"),
)

ENDS: Final = ("attempt_placed", "attempt_ended")
WAITS: Final = ("waiting_for_capacity", "attempt_placed")
GIVEN_UP: Final = ("gave_up", "attempt_placed")


def _of_run(name: str, kind: Kind, help: str, events: str | tuple[str, ...], value: str | Reading) -> Metric:
    return Metric(name, kind, help, events, value, scope="driver")


RUN: Final = (
    _of_run("ptm_run_attempts_total", "counter", "Attempts that were placed.", "attempt_placed", _once),
    _of_run("ptm_run_attempt", "gauge", "Number of the newest attempt.", "attempt_placed", "attempt"),
    _of_run("ptm_run_attempt_running", "gauge", "1 while an attempt runs.", ENDS, _is("attempt_placed")),
    _of_run("ptm_run_attempt_start_timestamp_seconds", "gauge", "When it was placed.", "attempt_placed", "time"),
    _of_run("ptm_run_workers", "gauge", "Workers of the newest attempt.", "attempt_placed", "workers"),
    _of_run("ptm_run_workers_wanted", "gauge", "Workers that the recipe wants.", "attempt_placed", "wanted_workers"),
    _of_run("ptm_run_waiting_for_capacity", "gauge", "1 while there are too few workers to start.", WAITS, _is("waiting_for_capacity")),
    _of_run("ptm_run_gave_up", "gauge", "1 when the run ended without being done.", GIVEN_UP, _is("gave_up")),
    _of_run("ptm_run_restarts_left", "gauge", "Failures in a row that are still allowed.", "restarting", "restarts_left"),
    _of_run("ptm_run_stepped_back_total", "counter", "Checkpoints set aside after a crash loop.", "stepped_back", _once),
    _of_run("ptm_run_lost_steps_total", "counter", "Updates that had to be done again.", "attempt_ended", "lost_steps"),
    _of_run("ptm_run_worker_seconds_total", "counter", "Workers times seconds of ended attempts.", "attempt_ended", "worker_seconds"),
    _of_run("ptm_run_step", "gauge", "Updates done since the start of the run.", "step", lambda e: e["step"] + 1),
    _of_run("ptm_run_kept_step", "gauge", "Step of the newest checkpoint.", "checkpoint_saved", "step"),
    _of_run("ptm_run_total_steps", "gauge", "Updates of the whole run.", "attempt_started", "total_steps"),
    _of_run("ptm_run_last_event_timestamp_seconds", "gauge", "When the run last wrote an event.", "written", "time"),
    _of_run("ptm_run_disk_free_bytes", "gauge", "Free on the disk of the run directory.", "disk_seen", "free"),
    _of_run("ptm_run_disk_size_bytes", "gauge", "Size of that disk.", "disk_seen", "size"),
    _of_run("ptm_goodput_ratio", "gauge", "Productive share of the wall time of the run.", "goodput_seen", "ratio"),
)


BY_WORD: Final = {
    "attempt_ended": ("cause", (*CAUSES, OTHER)),
    "restarting": ("reason", (*CAUSES, OTHER)),
    "time_seen": ("class", tuple(CLASSES)),
    "prepared": ("stage", (*PREPARATION, OTHER)),
    "node_checked": ("node", ()),
}
"""The label of metrics that follow these events, and its values where they are known."""


def _by_word(name: str, kind: Kind, help: str, event: str, value: str | Reading) -> Metric:
    label, words = BY_WORD[event]
    return Metric(name, kind, help, event, value, (label,), "driver", words)


RUN_BY_WORD: Final = (
    _by_word("ptm_run_ended_total", "counter", "Attempts that ended.", "attempt_ended", _once),
    _by_word("ptm_run_restarts_total", "counter", "Attempts that followed one that ended.", "restarting", _once),
    _by_word("ptm_goodput_seconds", "gauge", "Wall time of the run by what it went into.", "time_seen", "seconds"),
    _by_word("ptm_node_check_passed", "gauge", "0 for a node that was left out.", "node_checked", "fine"),
    _by_word("ptm_node_check_matmul_seconds", "gauge", "Its matrix products before the attempt.", "node_checked", "matmul_seconds"),
    _by_word("ptm_node_check_allreduce_seconds", "gauge", "Its sums over all nodes.", "node_checked", "allreduce_seconds"),
    _by_word("ptm_prepare_seconds_total", "counter", "Time of a stage of preparation.", "prepared", "seconds"),
    _by_word("ptm_prepare_tasks", "gauge", "Tasks of the stage, done before or now.", "prepared", "tasks"),
    _by_word("ptm_prepare_done_total", "counter", "Tasks that had to be done.", "prepared", "done"),
)

TABLE: Final = (*STEPS, *ATTEMPT, *CHECKPOINTS, *EVALUATION, *RANKS, *RUN, *RUN_BY_WORD)
