import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ptm_dist import watched
from ptm_dist.cli.screen import screen_of, show_plain, span, sparkline
from ptm_dist.errors import ConfigError
from ptm_dist.events import Tail, steps_of
from ptm_dist.history import attempts_of
from ptm_dist.observed import Observed
from ptm_dist.page.curves import averaged, numbers, smoothed, thinned
from ptm_dist.run import RunFolder
from ptm_dist.status import PlannedTasks, RunPlan, status_of
from ptm_dist.watched import Watched, is_held, seconds_in
from tests.tiny import tiny_recipe

T0 = 1_000_000.0
PLAN = RunPlan(
    "two",
    (PlannedTasks("first", 0, 60, {"mlm": 60}), PlannedTasks("second", 60, 100, {"mlm": 20, "pair": 20})),
    {"mlm": ("masked_lm",), "pair": ("masked_lm", "classify_sequence")},
    4,
)


def started(attempt, step, at, **fields):
    return {"event": "attempt_started", "attempt": attempt, "time": at, "step": step, "total_steps": 100, "world": 2} | fields


def step_event(attempt, step, at, **fields):
    return {
        "event": "step",
        "attempt": attempt,
        "time": at,
        "step": step,
        "task": "mlm",
        "loss": 8.0 - step / 100,
        "losses": {"masked_lm": 8.0 - step / 100},
        "learning_rate": 1e-3,
        "gradient_norm": 2.0,
        "rows": 4,
        "tokens": 1000,
        "skipped": False,
        "seconds": 0.5,
        "data_seconds": 0.1,
    } | fields


def evaluated(step, task, objective, at, **fields):
    told = {
        "event": "evaluated",
        "attempt": 1,
        "time": at,
        "step": step,
        "task": task,
        "objective": objective,
        "loss": 6.0,
        "accuracy": 0.2,
    }
    return told | {"unigram_entropy": 7.0, "baseline_loss": None, "baseline_accuracy": None, "sources": {}} | fields


def observe(*events):
    observed = Observed()
    for event in events:
        observed.add(event)
    return observed


def status(observed, alive=True, now=T0 + 100, plan=PLAN):
    return status_of(observed, plan, attempts_of(observed, alive, {}), "runs/two", now, alive)


def steady(count, first=0, at=T0, attempt=1, every=1.0):
    return [step_event(attempt, first + n, at + (n + 1) * every) for n in range(count)]


def test_speed_time_left_and_place_follow_from_the_steps():
    found = status(observe(started(1, 0, T0), *steady(40)))
    assert (found.state, found.step, found.total_steps, found.stage, found.stage_number, found.stages) == (
        "running",
        40,
        100,
        "first",
        1,
        2,
    )
    assert found.tokens == 40_000
    assert found.tokens_per_second == found.tokens_per_second_average == pytest.approx(2000)  # 1,000 tokens in steps of 0.5 s
    assert found.seconds_left == pytest.approx(60)  # a step a second by the clock, whatever was done between them
    assert found.exit_code is None
    assert (found.workers, found.wanted_workers, found.restarts, found.lost_steps) == (2, 2, 0, 0)


def test_the_speed_of_now_is_that_of_the_last_minute():
    slow = [step_event(1, 60 + n, T0 + 61 + 10 * n, seconds=10.0) for n in range(20)]
    found = status(observe(started(1, 0, T0), *steady(60), *slow))
    assert found.tokens_per_second == pytest.approx(100)
    assert found.tokens_per_second_average == pytest.approx(80_000 / (60 * 0.5 + 200))


def test_time_left_counts_from_the_newest_attempt():
    found = status(observe(started(1, 0, T0), *steady(40), started(2, 32, T0 + 5000), *steady(8, 32, T0 + 5000, 2, every=3.0)))
    assert found.seconds_left == pytest.approx(60 * 3.0)


def test_steps_done_again_count_once_and_are_called_lost():
    observed = observe(started(1, 0, T0), *steady(40), started(2, 32, T0 + 50), *steady(4, 32, T0 + 50, 2))
    found = status(observed)
    assert list(observed.steps.numbers) == list(range(36))
    assert (found.step, found.lost_steps, found.restarts, found.tokens) == (36, 8, 1, 36_000)
    assert found.goodput_seconds["lost"] == pytest.approx(8 * 0.5)


def test_figures_measured_beyond_the_place_where_an_attempt_goes_on_are_forgotten():
    early, late = evaluated(20, "mlm", "masked_lm", T0 + 20, loss=6.5), evaluated(40, "mlm", "masked_lm", T0 + 40, loss=6.1)
    found = status(observe(started(1, 0, T0), *steady(40), early, late, started(2, 32, T0 + 50)))
    assert [(figures.step, figures.loss) for figures in found.held_out] == [(20, 6.5)]


def test_held_out_figures_stand_in_the_order_of_tasks_beside_their_floor():
    labels = evaluated(0, "pair", "classify_sequence", T0, unigram_entropy=None, baseline_loss=0.69, baseline_accuracy=0.5)
    found = status(observe(started(1, 0, T0), labels, evaluated(0, "mlm", "masked_lm", T0), evaluated(0, "pair", "masked_lm", T0)))
    assert [(figures.task, figures.objective, figures.floor) for figures in found.held_out] == [
        ("mlm", "masked_lm", 7.0),
        ("pair", "masked_lm", 7.0),
        ("pair", "classify_sequence", 0.69),
    ]


def test_the_loss_of_a_task_is_the_mean_of_its_own_last_steps():
    mixed = [step_event(1, n, T0 + n, task="pair" if n % 2 else "mlm", loss=float(n)) for n in range(100)]
    found = status(observe(started(1, 0, T0), *mixed))
    assert found.losses == {"mlm": pytest.approx(np.mean(range(60, 100, 2))), "pair": pytest.approx(np.mean(range(61, 100, 2)))}
    assert (found.task, found.loss, found.stage) == ("pair", 99.0, "second")


def test_losses_that_are_not_finite_become_null_and_are_left_out_of_means():
    bad = step_event(1, 2, T0 + 3, loss=float("nan"), skipped=True)
    found = status(observe(started(1, 0, T0), *steady(2), bad))
    assert found.skipped_steps == 1
    assert found.losses["mlm"] == pytest.approx((8.0 + 7.99) / 2)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["loss"] is None


def test_the_last_checkpoint_has_its_age():
    saved = {"event": "checkpoint_saved", "attempt": 1, "time": T0 + 30, "step": 30, "seconds": 0.5, "bytes": 4096, "path": "x"}
    found = status(observe(started(1, 0, T0), *steady(40), saved)).checkpoint
    assert (found.step, found.age_seconds, found.bytes, found.seconds) == (30, 70, 4096, 0.5)


@pytest.mark.parametrize(
    ("events", "alive", "expected"),
    [
        ([], False, ("new", None, None)),
        ([], True, ("preparing", None, None)),
        ([started(1, 0, T0)], True, ("running", None, None)),
        ([started(1, 0, T0), *steady(3)], False, ("failed", "killed", 60)),
        ([started(1, 0, T0), {"event": "attempt_finished", "attempt": 1, "time": T0 + 9, "step": 100}], False, ("finished", "finished", 0)),
        (
            [{"event": "attempt_ended", "attempt": 1, "time": T0, "exit_code": 41, "cause": "storage", "message": "full", "step": 3}],
            False,
            ("failed", "storage", 41),
        ),
        (
            [{"event": "attempt_ended", "attempt": 1, "time": T0, "exit_code": 10, "cause": "preempted", "message": "", "step": 3}],
            False,
            ("stopped", "preempted", 10),
        ),
        (
            [{"event": "attempt_ended", "attempt": 1, "time": T0, "exit_code": 60, "cause": "hung", "message": "", "step": 3}],
            True,
            ("restarting", "hung", None),
        ),
        ([{"event": "gave_up", "attempt": 1, "time": T0, "exit_code": 31, "reason": "no text"}], False, ("failed", "data", 31)),
    ],
)
def test_states(events, alive, expected):
    found = status(observe(*events), alive)
    assert (found.state, found.cause, found.exit_code) == expected


def test_an_attempt_that_was_placed_tells_wanted_workers_and_nodes():
    placed = {"event": "attempt_placed", "attempt": 1, "time": T0, "workers": 2, "wanted_workers": 8, "nodes": ["a", "b"], "step": 0}
    found = status(observe(placed, started(1, 0, T0 + 5), *steady(2, at=T0 + 5)))
    assert (found.workers, found.wanted_workers, found.nodes) == (2, 8, ["a", "b"])


def test_a_plan_without_steps_yet_has_no_total():
    found = status(observe(started(1, 0, T0), *steady(2)), plan=RunPlan("later", (), {"mlm": ("masked_lm",)}, 2))
    assert (found.total_steps, found.stage, found.seconds_left) == (None, None, None)


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1)), min_size=1, max_size=6))
def test_however_often_a_run_goes_back_its_steps_are_those_of_the_log(tmp_path_factory, attempts):
    """`steps_of` keeps the last word on each step; here those that were not done again yet are gone as well."""
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    events, done = [], 0
    for number, (count, share) in enumerate(attempts, 1):
        start = int(done * share)
        events += [
            started(number, start, T0 + number),
            *(step_event(number, start + n, T0 + number, loss=float(number)) for n in range(count)),
        ]
        done = start + count
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    observed = observe(*Tail(path).read())
    known = {step: event["loss"] for step, event in steps_of(path).items() if step < done}
    assert dict(zip(observed.steps.numbers, observed.steps.plain["loss"], strict=True)) == known
    assert observed.lost_steps == sum(count for count, _ in attempts) - done


def test_a_growing_log_is_read_once_and_torn_lines_are_passed_over(tmp_path):
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert list(tail.read()) == []
    whole, torn = json.dumps(step_event(1, 0, T0)), json.dumps(step_event(1, 1, T0))
    path.write_text(f"{whole}\n{torn[:50]}")
    assert [event["step"] for event in tail.read()] == [0]
    assert list(tail.read()) == []
    with path.open("a") as file:
        file.write(f"{torn[50:]}\n" + '{"event": "st\n' + "[1]\nnull\n" + f"{json.dumps(step_event(1, 2, T0))}\n")
    assert [event["step"] for event in tail.read()] == [1, 2]
    path.write_text(f"{whole}\n")
    assert [event["step"] for event in tail.read()] == [0], "another file in its place"


def make_run(path, events=(), **changes):
    run = RunFolder(path)
    run.claim(tiny_recipe(**changes))
    write(run, *events)
    return run


def write(run, *events):
    with run.events_path.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def test_a_run_of_earlier_code_is_read_and_nothing_in_it_is_written(tmp_path):
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(3)])
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    found = Watched.open(run.path)
    assert found.status().step == 3
    assert found.line() == f"run {run.path}: new, 40 steps; last step 2, loss 7.9800"
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


@pytest.mark.parametrize("list_of_locks", ["/proc/locks", "/no/such/list"])
def test_a_lock_of_the_kernel_says_that_somebody_works_on_a_run(tmp_path, monkeypatch, list_of_locks):
    monkeypatch.setattr(watched, "KERNEL_LOCKS", Path(list_of_locks))
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(3)])
    assert not is_held(run)
    holder = "import sys\nfrom ptm_dist.locks import locked\nfrom pathlib import Path\n"
    holder += "with locked(Path(sys.argv[1]), 'driver', 0): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holder, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert Watched.open(run.path).status().state == "running"
        process.stdin.close()
    assert Watched.open(run.path).status().state == "failed"


@pytest.mark.parametrize(
    ("about", "age", "held"),
    [
        ({"host": "elsewhere", "pid": 1, "seconds": 60, "beat": 3}, 5, True),
        ({"host": "elsewhere", "pid": 1, "seconds": 60, "beat": 3}, 61, False),
        ({"host": "elsewhere", "pid": 1, "seconds": 60, "beat": 3, "ended": True}, 5, False),
    ],
)
def test_a_fresh_lease_says_that_somebody_works_on_a_run(tmp_path, about, age, held):
    run = make_run(tmp_path / "run")
    lease = run.path / "lease" / "000002.json"
    lease.parent.mkdir()
    (lease.parent / "000001.json").write_text(json.dumps(about | {"ended": False}))
    lease.write_text(json.dumps(about))
    os.utime(lease, (time.time() - age, time.time() - age))
    assert is_held(run) is held


def test_no_run_is_a_named_error(tmp_path):
    with pytest.raises(ConfigError, match="not a run directory"):
        Watched.open(tmp_path)


def test_the_screen_shows_every_task_and_fits_its_width(tmp_path):
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(30), evaluated(0, "mlm", "masked_lm", T0)])
    for width in (60, 120):
        console = Console(width=width, force_terminal=False, color_system=None)
        with console.capture() as capture:
            console.print(screen_of(Watched.open(run.path), width))
        text = capture.get()
        assert max(map(len, text.splitlines())) <= width
        assert "step 30 of 40" in text
        assert "7.000" in text
        assert any(0x2800 < ord(character) < 0x2900 for character in text)


def test_the_screen_of_an_empty_run_says_that_it_is_new(tmp_path):
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(screen_of(Watched.open(make_run(tmp_path / "run").path), 80))
        show_plain(console, Watched.open(tmp_path / "run").status())
    assert "new" in capture.get()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (90061, "1 d 1 h"), (86400, "1 d")]
)
def test_spans(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(("text", "seconds"), [("24h", 86400), ("90 m", 5400), ("1.5d", 129600), ("2w", 1209600), ("30s", 30)])
def test_spans_that_people_write(text, seconds):
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "-3h", "3 years"])
def test_what_is_no_span_is_a_named_error(text):
    with pytest.raises(ConfigError, match="--since"):
        seconds_in(text)


@given(st.lists(st.floats(-100, 100) | st.just(float("nan")), min_size=1, max_size=500), st.integers(8, 60))
def test_thinning_keeps_ends_and_extremes(values, most):
    column = np.array(values)
    kept = thinned(column, most)
    assert len(kept) <= max(most, 2)
    assert {0, len(values) - 1} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    if np.isfinite(column).any():
        assert np.nanmin(column[kept]) == np.nanmin(column)
        assert np.nanmax(column[kept]) == np.nanmax(column)


def test_smoothing_passes_over_what_is_not_finite():
    assert smoothed(np.array([1.0, np.nan, 3.0])).tolist() == [2.0, 2.0, 2.0]
    assert np.isnan(smoothed(np.array([np.nan, np.nan]))).all()
    line = np.arange(1000.0)
    assert smoothed(line)[10:-10] == pytest.approx(line[10:-10]), "a straight line stays one"


def test_averages_keep_the_sum():
    table = np.arange(200.0).reshape(100, 2)
    assert averaged(table, 10).mean(axis=0) == pytest.approx(table.mean(axis=0))
    assert len(averaged(table, 10)) == 10


def test_numbers_for_json_are_short_and_finite():
    assert numbers([1.23456789, float("inf"), None, 0.0]) == [1.2346, None, None, 0.0]


def test_sparklines_fall_with_the_loss():
    assert sparkline(np.array([8.0, 6.0, 4.0]), 3) == "█▄▁"
    assert sparkline(np.array([np.nan])) == ""


def test_the_working_directory_is_not_needed(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(3)])
    monkeypatch.chdir(tmp_path)
    assert Watched.open(Path("run")).status().run == "run"
    assert run.exists
