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
