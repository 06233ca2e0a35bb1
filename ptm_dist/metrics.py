"""Every metric, in one table. Metrics are derived from events, so the log and the scrape never disagree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from ptm_dist.errors import ConfigError
from ptm_dist.events import by_source

Event = dict[str, Any]
Reading = Callable[[Event], float | None]


@dataclass(frozen=True)
class Metric:
    """A metric: its Prometheus name, type and help, the event it follows, the value it takes from it, and fields that are its labels."""

    name: str
    type: type[Counter] | type[Gauge] | type[Histogram]
    help: str
    event: str
    value: Reading
    labels: tuple[str, ...] = ()


def _field(name: str) -> Reading:
    return lambda event: event.get(name)


MEASURED: Final = ("task", "objective", "source")
"""What tells held-out figures apart; of all sources together `source` is empty, which to Prometheus is no label."""

TABLE: Final = (
    Metric("ptm_train_steps_total", Counter, "Optimizer updates done by this attempt.", "step", lambda _: 1.0),
    Metric("ptm_train_step", Gauge, "Updates done since the start of the run.", "step", lambda e: e["step"] + 1),
    Metric("ptm_train_tokens_total", Counter, "Tokens trained on by this attempt, padding excluded.", "step", _field("tokens")),
    Metric("ptm_train_rows_total", Counter, "Examples trained on by this attempt.", "step", _field("rows")),
    Metric("ptm_train_loss", Gauge, "Training loss of the last step, nats.", "step", _field("loss")),
    Metric("ptm_train_learning_rate", Gauge, "Learning rate of the last step.", "step", _field("learning_rate")),
    Metric("ptm_train_gradient_norm", Gauge, "Norm of the whole gradient of the last step.", "step", _field("gradient_norm")),
    Metric("ptm_train_loss_scale", Gauge, "Scale of the loss in fp16 after the last step.", "step", _field("loss_scale")),
    Metric("ptm_train_step_seconds", Histogram, "Duration of a step.", "step", _field("seconds")),
    Metric("ptm_train_data_wait_seconds_total", Counter, "Time spent waiting for examples.", "step", _field("data_seconds")),
    Metric("ptm_train_skipped_steps_total", Counter, "Steps not applied: the loss was not finite.", "step", lambda e: float(e["skipped"])),
    Metric("ptm_train_last_step_timestamp_seconds", Gauge, "When the last step ended.", "step", _field("time")),
    Metric("ptm_train_total_steps", Gauge, "Updates of the whole run.", "attempt_started", _field("total_steps")),
    Metric("ptm_train_world_size", Gauge, "Workers of this attempt.", "attempt_started", _field("world")),
    Metric("ptm_data_examples", Gauge, "Training examples prepared, all tasks.", "attempt_started", _field("examples")),
    Metric("ptm_checkpoint_saves_total", Counter, "Checkpoints committed by this attempt.", "checkpoint_saved", lambda _: 1.0),
    Metric("ptm_checkpoint_bytes", Gauge, "Size of the last checkpoint.", "checkpoint_saved", _field("bytes")),
    Metric("ptm_checkpoint_save_seconds", Gauge, "Duration of the last save.", "checkpoint_saved", _field("seconds")),
    Metric("ptm_checkpoint_step", Gauge, "Step of the last checkpoint.", "checkpoint_saved", _field("step")),
    Metric("ptm_checkpoint_timestamp_seconds", Gauge, "When the last checkpoint was committed.", "checkpoint_saved", _field("time")),
    Metric("ptm_checkpoint_failures_total", Counter, "Saves that failed; training went on.", "checkpoint_failed", lambda _: 1.0),
    Metric("ptm_evaluate_loss", Gauge, "Held-out loss, nats.", "evaluated", _field("loss"), MEASURED),
    Metric("ptm_evaluate_accuracy_ratio", Gauge, "Held-out accuracy of the targets.", "evaluated", _field("accuracy"), MEASURED),
    Metric("ptm_evaluate_targets", Gauge, "Held-out targets that were measured.", "evaluated", _field("targets"), MEASURED),
    Metric("ptm_evaluate_unigram_entropy", Gauge, "Entropy of held-out tokens, nats.", "evaluated", _field("unigram_entropy"), MEASURED),
    Metric("ptm_evaluate_baseline_loss", Gauge, "Entropy of held-out labels, nats.", "evaluated", _field("baseline_loss"), MEASURED),
    Metric(
        "ptm_evaluate_baseline_accuracy_ratio",
        Gauge,
        "Share of the most frequent label.",
        "evaluated",
        _field("baseline_accuracy"),
        MEASURED,
    ),
)


class Exporter:
    """Holds the metrics of one attempt and serves them on one port."""

    def __init__(self, run: str, attempt: int) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"run": run, "attempt": str(attempt)}
        self._made = [
            (metric, metric.type(metric.name, metric.help, (*self._labels, *metric.labels), registry=self.registry)) for metric in TABLE
        ]
        for metric, family in self._made:
            if not metric.labels:
                family.labels(**self._labels)  # So that a scrape shows it before its first event.

    def observe(self, event: Event) -> None:
        """Update every metric that follows this kind of event; missing and undefined values leave it as it was."""
        told = list(by_source(event)) if event["event"] == "evaluated" else [event]
        for metric, family in self._made:
            for found in told if metric.event == event["event"] else ():
                value = metric.value(found)
                if value is not None and math.isfinite(value):
                    child = family.labels(**self._labels, **{name: found[name] for name in metric.labels})
                    {Counter: _add, Gauge: _set, Histogram: _observe}[metric.type](child, value)

    def serve(self, host: str, port: int) -> str:
        """Serve /metrics from a thread and return its URL; port 0 takes a free one.

        Raises:
            ConfigError: the port is taken or the interface does not exist.

        """
        try:
            server, _ = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise ConfigError(
                f"metrics.port: cannot listen on {host}:{port} ({error.strerror or error}). Set metrics.port=0 to take a free one."
            ) from error
        return f"http://{host}:{server.server_port}/metrics"


def _add(child: Counter, value: float) -> None:
    child.inc(value)


def _set(child: Gauge, value: float) -> None:
    child.set(value)


def _observe(child: Histogram, value: float) -> None:
    child.observe(value)
