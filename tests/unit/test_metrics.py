"""Metrics follow events."""

import json
import os
import signal
import subprocess
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ptm_dist import metrics
from ptm_dist.goodput import CLASSES
from ptm_dist.metrics import Exporter, exported
from ptm_dist.metrics_table import CAUSES, OTHER, TABLE
from tests.monitoring.told import BUSY, DRIVER, FIGURES, HERE, STARTED, STEP, WORKERS, told


def parse(text):
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def shown(exporter):
    """Return {(name, labels without run and attempt): value} of a scrape."""
    samples = parse(exporter.text().decode())
    return {(s.name, *(value for name, value in sorted(s.labels.items()) if name not in ("run", "attempt"))): s.value for s in samples}


def exporter_of(events, role="run", **more):
    exporter = Exporter("run", 2, role, **more)
    for event in events:
        exporter.observe(event)
    return exporter


def test_steps_become_samples():
    exporter = exporter_of([STARTED, STEP, STEP | {"step": 17, "loss": float("nan"), "skipped": True, "seconds": 3.0}])
    samples = {sample.name: sample for sample in parse(exporter.text().decode()) if "phase" not in sample.labels}
    assert samples["ptm_train_steps_total"].value == 2
    assert samples["ptm_train_tokens_total"].value == 2000
    assert samples["ptm_train_rows_total"].value == 32
    assert samples["ptm_train_step"].value == 18
    assert samples["ptm_train_loss"].value == 5.5, "an undefined value leaves the last one"
    assert samples["ptm_train_skipped_steps_total"].value == 1
    assert samples["ptm_train_step_seconds_count"].value == 2
    assert samples["ptm_train_step_seconds_sum"].value == 4.0
    assert samples["ptm_train_step"].labels == {"run": "run", "attempt": "2"}
    assert samples["ptm_train_loss"].labels == {"run": "run", "attempt": "2", "task": "mlm"}


def test_every_metric_of_a_role_is_shown_once_its_event_came():
    for role, events in (("run", WORKERS), ("node", WORKERS), ("driver", DRIVER + WORKERS)):
        names = {name for name, *_ in shown(exporter_of(events, role, node="far"))}
        # Of processes elsewhere nobody here knows whether they run, and without a folder there is no disk.
        unseen = {"node": {"ptm_rank_up"}, "driver": {"ptm_run_disk_free_bytes", "ptm_run_disk_size_bytes"}}.get(role, set())
        missing = {metric.name for metric in exported(role)} - unseen - names - {name.removesuffix("_count") for name in names}
        assert missing == set(), role


def test_an_event_of_an_earlier_version_is_enough():
    bare = {
        "event": "step",
        "step": 4,
        "loss": 5.5,
        "rows": 16,
        "tokens": 1000,
        "skipped": False,
        "seconds": 0.1,
        "data_seconds": 0.01,
        "time": 1.0,
    }
    found = shown(exporter_of([{"event": "attempt_started", "step": 0, "total_steps": 9, "world": 1, "time": 0.5}, bare]))
    assert found["ptm_train_step",] == 5
    assert found["ptm_train_phase_seconds_total", "data"] == 0.01
    assert "ptm_train_mfu_ratio" not in {name for name, *_ in found}


def test_the_use_of_the_devices_is_known_where_their_peak_is():
    assert shown(exporter_of([STARTED, STEP]))["ptm_train_mfu_ratio",] == pytest.approx(1000 * 100 / 1.0 / 1e6)
    assert shown(exporter_of([STARTED, STEP]))["ptm_train_flops_total",] == 1e5
    names = {name for name, *_ in shown(exporter_of([STARTED | {"peak_flops": 0}, STEP]))}
    assert not names & {"ptm_train_mfu_ratio", "ptm_train_peak_flops"}


def test_phases_of_steps_saves_evaluation_and_start():
    found = shown(exporter_of(WORKERS))
    phases = {labels[0]: value for (name, *labels), value in found.items() if name == "ptm_train_phase_seconds_total"}
    assert phases == STEP["phases"] | {"checkpoint": 2.0, "evaluation": 0.75, "restore": 2.0, "start": 8.0}


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, 0.0),
        ({"skipped": True, "loss": float("nan")}, 1.0),
        ({"skipped": True}, 0.0),  # An overflow in fp16, which a smaller scale mends.
        ({"skipped": True, "loss_scale": None}, 1.0),
    ],
)
def test_steps_that_are_not_finite_are_told_from_overflows_in_fp16(changes, counted):
    assert shown(exporter_of([STEP | changes]))["ptm_train_nonfinite_steps_total",] == counted


def test_the_interval_of_checkpoints_begins_with_the_first_step():
    saves = [told("checkpoint_saved", time, step=1, seconds=1.0, bytes=1) for time in (1110.0, 1310.0)]
    assert shown(exporter_of([STARTED, saves[0]]))["ptm_checkpoint_interval_seconds",] == 100.0
    assert shown(exporter_of([STARTED, *saves]))["ptm_checkpoint_interval_seconds",] == 200.0
    assert "ptm_checkpoint_interval_seconds" not in {name for name, *_ in shown(exporter_of(saves[:1]))}


def test_held_out_figures_are_told_apart_by_task_objective_and_source():
    event = {"event": "evaluated", "step": 4, "task": "t", "objective": "masked_lm"} | FIGURES | {"baseline_loss": None}
    exporter = Exporter("run", 2)
    exporter.observe(event | {"sources": {"a": FIGURES | {"loss": 1.0}, "b": FIGURES | {"loss": 4.0, "unigram_entropy": 5.0}}})
    exporter.observe({"event": "evaluated", "step": 4, "task": "u", "objective": "masked_lm", "loss": 7.0})
    labels = {"run": "run", "attempt": "2", "objective": "masked_lm"}

    def value(name, task, source):
        return exporter.registry.get_sample_value(name, labels | {"task": task, "source": source})

    assert [value("ptm_evaluate_loss", "t", source) for source in ("", "a", "b")] == [2.0, 1.0, 4.0]
    assert [value("ptm_evaluate_unigram_entropy", "t", source) for source in ("", "a", "b")] == [3.0, 3.0, 5.0]
    assert value("ptm_evaluate_loss", "u", "") == 7.0, "an event of an earlier version"
    assert value("ptm_evaluate_baseline_loss", "t", "") is None


def test_each_rank_is_told_by_one_exporter():
    name_of_busy = "ptm_rank_busy_seconds_total"
    roles = {"rank 0": ("run", ""), "far": ("node", "far")}
    told_by = {
        who: {key[1:] for key in shown(exporter_of(WORKERS, role, node=node)) if key[0] == name_of_busy}
        for who, (role, node) in roles.items()
    }
    assert told_by["rank 0"] == {(HERE, "0"), (HERE, "1"), ("mute", "3")}, "its own node, and one where nobody serves"
    assert told_by["far"] == {("far", "2")}


def test_seconds_of_ranks_count_every_step_that_they_cover():
    found = shown(exporter_of([STARTED, BUSY, BUSY | {"steps": 1}]))
    assert found["ptm_rank_busy_seconds_total", HERE, "1"] == pytest.approx(0.6 * 6)
    assert found["ptm_rank_data_seconds_total", HERE, "1"] == pytest.approx(0.2 * 6)
    assert found["ptm_rank_steps_total", HERE, "1"] == 6
    assert found["ptm_rank_memory_bytes", HERE, "1"] == 200
    assert found["ptm_rank_info", "GPU-1", HERE, str(os.getpid()), "1"] == 1


def test_a_rank_whose_process_is_stopped_or_gone_is_down(monkeypatch):
    monkeypatch.setattr(metrics, "FRESH_SECONDS", -1.0)
    sleeper = subprocess.Popen(["sleep", "60"])
    ranks = [{"rank": 0, "node": HERE, "pid": os.getpid(), "metrics": "h:1"}, {"rank": 1, "node": HERE, "pid": sleeper.pid, "metrics": ""}]
    exporters = [exporter_of([STARTED | {"ranks": ranks}]), exporter_of([*DRIVER, STARTED | {"ranks": ranks}], "driver")]

    def ups():
        return [[shown(exporter)["ptm_rank_up", HERE, rank] for rank in "01"] for exporter in exporters]

    try:
        assert ups() == [[1, 1]] * 2
        sleeper.send_signal(signal.SIGSTOP)
        assert ups() == [[1, 0]] * 2
        sleeper.send_signal(signal.SIGCONT)
        assert ups() == [[1, 1]] * 2
    finally:
        sleeper.kill()
        sleeper.wait()
    assert ups() == [[1, 0]] * 2
    exporters[1].observe(told("attempt_ended", 1.0, cause="lost_worker"))
    assert "ptm_rank_up" not in {name for name, *_ in shown(exporters[1])}, "the attempt is over"


@pytest.mark.parametrize("later", [[told("attempt_ended", 1050.0, cause="hung")], [told("attempt_placed", 1060.0, 3)]])
def test_a_driver_that_reads_its_logs_anew_says_nothing_of_ranks_that_are_long_gone(later):
    names = {name for name, *_ in shown(exporter_of([*DRIVER, *later, STARTED], "driver"))}
    assert "ptm_run_attempts_total" in names
    assert "ptm_rank_up" not in names


def test_the_last_event_is_the_latest_whatever_log_is_read_first():
    assert shown(exporter_of([told("gave_up", 2000.0), STEP], "driver"))["ptm_run_last_event_timestamp_seconds",] == 2000.0


def test_what_the_driver_tells_spans_attempts():
    exporter = exporter_of(DRIVER + WORKERS, "driver")
    found = shown(exporter)
    assert found["ptm_run_attempts_total",] == 2
    assert (found["ptm_run_workers",], found["ptm_run_workers_wanted",]) == (4, 8)
    assert found["ptm_run_restarts_total", "lost_worker"] == 1, "a reason that is a sentence is the cause of the attempt"
    assert found["ptm_run_restarts_total", "hung"] == 0, "shown before it happens, so that its first time is seen as a rise"
    assert found["ptm_run_lost_steps_total",] == 4
    assert found["ptm_run_worker_seconds_total",] == 4 * 49
    assert (found["ptm_run_attempt_running",], found["ptm_run_waiting_for_capacity",], found["ptm_run_gave_up",]) == (1, 0, 0)
    assert (found["ptm_node_check_passed", HERE], found["ptm_node_check_passed", "bad"]) == (1, 0)
    assert found["ptm_prepare_done_total", "tokens"] == 30
    run_level = [sample.labels for sample in parse(exporter.text().decode()) if sample.name.startswith(("ptm_run", "ptm_goodput"))]
    assert all("attempt" not in labels for labels in run_level)
    classes = {name: found["ptm_goodput_seconds", name] for name in CLASSES}
    assert (classes["productive"], classes["data"], classes["idle"]) == (0.8, pytest.approx(0.2), 50.0)
    assert found["ptm_goodput_ratio",] == pytest.approx(0.8 / sum(classes.values()))


def test_an_unforeseen_word_makes_no_series_of_its_own():
    exporter = exporter_of([told("attempt_ended", 1.0, cause=f"cause {number}") for number in range(50)], "driver")
    found = {labels[0]: value for (name, *labels), value in shown(exporter).items() if name == "ptm_run_ended_total"}
    assert found == dict.fromkeys(CAUSES, 0.0) | {OTHER: 50.0}


def test_a_driver_reads_the_logs_itself_and_goes_on_where_it_was(tmp_path):
    (tmp_path / "supervision.jsonl").write_text("".join(json.dumps(event) + "\n" for event in DRIVER))
    exporter = Exporter("run", 0, "driver", folder=tmp_path)
    assert shown(exporter)["ptm_run_attempts_total",] == 2
    with (tmp_path / "events.jsonl").open("a") as log:
        log.write(json.dumps(STEP) + "\n" + json.dumps(STEP | {"step": 17})[:20])
        log.flush()
        assert shown(exporter)["ptm_run_step",] == 17, "a line that is not whole yet waits"
        log.write(json.dumps(STEP | {"step": 17})[20:] + "\n")
    found = shown(exporter)
    assert found["ptm_run_step",] == 18
    assert found["ptm_goodput_seconds", "productive"] == pytest.approx(1.6)
    assert 0 < found["ptm_run_disk_free_bytes",] < found["ptm_run_disk_size_bytes",]
    again = shown(Exporter("run", 0, "driver", folder=tmp_path))
    assert {key: value for key, value in again.items() if key[0].endswith("_total")} == {
        key: value for key, value in found.items() if key[0].endswith("_total")
    }


def test_names_follow_the_conventions():
    names = Counter(metric.name for metric in TABLE)
    assert set(names.values()) == {1}
    for metric in TABLE:
        assert metric.name.startswith("ptm_")
        assert metric.help.endswith(".")
        assert (metric.type == "counter") == metric.name.endswith("_total")
        assert not metric.words or len(metric.labels) == 1
