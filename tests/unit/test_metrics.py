"""Metrics follow events, are served on one port, and say so when they cannot be."""

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ptm_dist.errors import ConfigError
from ptm_dist.metrics import TABLE, Exporter

STEP = {
    "event": "step",
    "step": 4,
    "loss": 5.5,
    "learning_rate": 1e-3,
    "gradient_norm": 2.0,
    "rows": 16,
    "tokens": 1000,
    "skipped": False,
    "seconds": 0.1,
    "data_seconds": 0.01,
    "time": 1.0,
}


def scrape(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}


def test_events_become_samples():
    exporter = Exporter("run", 2)
    exporter.observe(STEP)
    exporter.observe(STEP | {"loss": float("nan"), "skipped": True})
    samples = scrape(exporter.serve("127.0.0.1", 0))
    assert samples["ptm_train_steps_total"].value == 2
    assert samples["ptm_train_tokens_total"].value == 2000
    assert samples["ptm_train_step"].value == 5
    assert samples["ptm_train_loss"].value == 5.5, "an undefined value leaves the last one"
    assert samples["ptm_train_skipped_steps_total"].value == 1
    assert samples["ptm_train_step_seconds_count"].value == 2
    assert samples["ptm_train_step"].labels == {"run": "run", "attempt": "2"}


def test_held_out_figures_are_told_apart_by_task_objective_and_source():
    figures = {"loss": 2.0, "accuracy": 0.5, "targets": 10.0, "unigram_entropy": 3.0, "baseline_loss": None, "baseline_accuracy": None}
    event = {"event": "evaluated", "step": 4, "task": "t", "objective": "masked_lm"} | figures
    exporter = Exporter("run", 2)
    exporter.observe(event | {"sources": {"a": figures | {"loss": 1.0}, "b": figures | {"loss": 4.0, "unigram_entropy": 5.0}}})
    exporter.observe({"event": "evaluated", "step": 4, "task": "u", "objective": "masked_lm", "loss": 7.0})
    labels = {"run": "run", "attempt": "2", "objective": "masked_lm"}

    def value(name, task, source):
        return exporter.registry.get_sample_value(name, labels | {"task": task, "source": source})

    assert [value("ptm_evaluate_loss", "t", source) for source in ("", "a", "b")] == [2.0, 1.0, 4.0]
    assert [value("ptm_evaluate_unigram_entropy", "t", source) for source in ("", "a", "b")] == [3.0, 3.0, 5.0]
    assert value("ptm_evaluate_loss", "u", "") == 7.0, "an event of an earlier version"
    assert value("ptm_evaluate_baseline_loss", "t", "") is None


def test_names_follow_the_conventions():
    for metric in TABLE:
        assert metric.name.startswith("ptm_")
        assert metric.help.endswith(".")
        assert (metric.type.__name__ == "Counter") == metric.name.endswith("_total")


def test_a_port_in_use_says_which_and_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"metrics\.port: cannot listen on 127\.0\.0\.1:{port} .*metrics\.port=0"):
            Exporter("run", 1).serve("127.0.0.1", port)
