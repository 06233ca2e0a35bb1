"""A run that is killed, stopped or moved goes on as if nothing had happened: the same losses, bit for bit, no step missing."""

import json
import os
import random
import signal
import subprocess
import time

import pytest

from ptm_dist.events import read_events, steps_of
from ptm_dist.train.launch import launch
from tests.tiny import STEPS, command, has_fp16, ledger, ptm

LOCAL = ("--launcher", "local")


def finish(run):
    launch(run, run.next_attempt(), run.recipe().engine.workers)
    return ledger(run.path)


@pytest.fixture(scope="module")
def references(tiny_data, tmp_path_factory):
    """The ledger of an undisturbed run, by engine settings."""
    from ptm_dist.run import RunFolder
    from tests.tiny import tiny_recipe

    known = {}

    def reference(**engine):
        key = json.dumps(engine, sort_keys=True)
        if key not in known:
            run = RunFolder(tmp_path_factory.mktemp("reference"))
            run.claim(tiny_recipe(engine=engine))
            run.set_data(tiny_data)
            known[key] = finish(run)
            assert [step for step, _ in known[key]] == list(range(STEPS))
        return known[key]

    return reference


def plan(point, rank, step):
    return {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps([{"point": point, "rank": rank, "step": step, "action": "kill", "count": 1}])}


@pytest.mark.parametrize(("rank", "step"), [(0, 21), pytest.param(1, 13, marks=pytest.mark.slow)])
def test_kill_one_worker_then_the_same_command(make_run, references, rank, step):
    run, recipe = make_run()
    words = ("train", recipe, "--run", run.path, *LOCAL)
    killed = ptm(*words, **plan("step.begin", rank, step))
    assert killed.returncode == 60, killed.stderr
    assert "the same command goes on" in killed.stderr
    assert max(steps_of(run.events_path)) < STEPS - 1, "it was killed in the middle"
    again = ptm(*words)
    assert again.returncode == 0, again.stderr
    assert f"resuming at step {step - step % 8}" in again.stdout
    assert ledger(run.path) == references()


@pytest.mark.slow
def test_kill_the_whole_run_at_random_times(make_run, references):
    run, recipe = make_run()
    words = command("train", recipe, "--run", run.path, *LOCAL)
    seconds, kills = random.Random(3), 0
    for _ in range(3):
        process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        known = len(list(read_events(run.events_path, "step")))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and len(list(read_events(run.events_path, "step"))) < known + 3:
            time.sleep(0.02)
        time.sleep(seconds.random() * 0.3)
        if process.poll() is None:
            kills += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert kills, "no kill hit a running process, so this test has shown nothing"
    assert ptm(*words[3:]).returncode == 0
    assert ledger(run.path) == references()


@pytest.mark.parametrize("processes", [1, 2])
def test_loader_processes_change_nothing(make_run, references, processes):
    run, _ = make_run(data={"loader_processes": processes})
    assert finish(run) == references()


@pytest.mark.parametrize("stage", [0, pytest.param(2, marks=pytest.mark.slow), 3])
def test_every_zero_stage_resumes_with_equal_bits(make_run, references, stage):
    reference = references(zero_stage=stage)
    run, recipe = make_run(engine={"zero_stage": stage})
    assert ptm("train", recipe, "--run", run.path, *LOCAL, **plan("step.begin", 1, 19)).returncode == 60
    assert finish(run) == reference


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "precision", "kind"),
    [
        # Each stage meets each precision, and each of both each optimizer.
        (0, "fp32", "adamw"),
        (0, "bf16", "lamb"),
        (0, "fp16", "adamw"),
        (1, "fp32", "lamb"),
        (1, "bf16", "adamw"),
        (1, "fp16", "lamb"),
        (2, "fp32", "lamb"),
        (2, "bf16", "lamb"),
        (2, "fp16", "adamw"),
        (3, "fp32", "adamw"),
        (3, "bf16", "adamw"),
        (3, "fp16", "lamb"),
    ],
)
def test_40_steps_are_17_a_kill_and_23(make_run, stage, precision, kind):
    if precision == "fp16" and not has_fp16():
        pytest.skip("this machine has no fp16")
    changes = {"engine": {"zero_stage": stage, "precision": precision}, "optimizer": {"kind": kind}}
    undisturbed, _ = make_run("undisturbed", **changes)
    run, recipe = make_run(**changes)
    assert ptm("train", recipe, "--run", run.path, *LOCAL, **plan("step.begin", 1, 17)).returncode == 60
    assert max(steps_of(run.events_path)) == 16
    assert finish(run) == finish(undisturbed)
    assert len(ledger(run.path)) == STEPS


def test_another_world_and_stage_go_on_from_the_same_state(make_run, tmp_path):
    from ptm_dist.run import RunFolder
    from tests.tiny import tiny_recipe

    quiet = {"dropout": 0.0, "attention_dropout": 0.0}
    run, _ = make_run("undisturbed", model=quiet)
    undisturbed = dict(finish(run))
    moved, recipe = make_run("moved", model=quiet)
    assert ptm("train", recipe, "--run", moved.path, *LOCAL, **plan("step.begin", 1, 20)).returncode == 60
    moved.claim(tiny_recipe(model=quiet, engine={"workers": 1, "zero_stage": 3}))
    after = dict(finish(RunFolder(moved.path)))
    assert sorted(after) == list(range(STEPS))
    assert after[16] == pytest.approx(undisturbed[16], rel=1e-5), "the first step after the move"
    assert [after[step] for step in after] == pytest.approx([undisturbed[step] for step in after], rel=1e-3)


def test_ctrl_c_once_saves_and_the_same_command_goes_on(make_run, references):
    run, recipe = make_run()
    words = command("train", recipe, "--run", run.path, *LOCAL)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(steps_of(run.events_path)) < 4 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 10, errors
    assert "finishing the step and saving" in errors
    done = max(steps_of(run.events_path)) + 1
    assert done < STEPS
    assert [event["step"] for event in read_events(run.events_path, "checkpoint_saved")][-1] == done
    assert f"resuming at step {done:,}" in ptm(*words[3:]).stdout
    assert ledger(run.path) == references()
    assert len(list(read_events(run.events_path, "step"))) == STEPS, "no step was done twice"


def test_ctrl_c_twice_stops_at_once_and_leaves_nobody_behind(make_run):
    run, recipe = make_run(stages=[{"name": "main", "steps": {"mlm": 100_000}}], checkpoint={"every_steps": 100_000})
    words = command("train", recipe, "--run", run.path, *LOCAL)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(steps_of(run.events_path)) < 2 and process.poll() is None:
        time.sleep(0.01)
    rank_pids = [rank["pid"] for rank in next(read_events(run.events_path, "attempt_started"))["ranks"]]
    for pid in rank_pids:
        os.kill(pid, signal.SIGSTOP)  # A step that takes for ever.
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 11, errors
    assert "goes on from step 0" in errors
    deadline = time.monotonic() + 20
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(process.pid)


def test_a_killed_driver_leaves_no_worker_behind(make_run, references):
    run, recipe = make_run()
    words = command("train", recipe, "--run", run.path, *LOCAL)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(steps_of(run.events_path)) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.kill()  # The driver alone, not its group.
    process.wait()
    deadline = time.monotonic() + 10
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(process.pid)
    assert ptm(*words[3:]).returncode == 0
    assert ledger(run.path) == references()


@pytest.mark.slow
def test_kills_under_ray(make_run, references):
    """A worker at a step, then the driver at a random time: nobody is left behind, and the losses are those of the local launcher."""
    run, recipe = make_run()
    words = command("train", recipe, "--run", run.path)
    killed = ptm(*words[3:], **plan("step.begin", 1, 13))
    assert killed.returncode == 60, killed.stderr
    assert max(steps_of(run.events_path)) == 12
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(steps_of(run.events_path)) < 16 and process.poll() is None:
        time.sleep(0.01)
    workers = [rank["pid"] for rank in list(read_events(run.events_path, "attempt_started"))[-1]["ranks"]]
    assert process.poll() is None
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while (left := [pid for pid in workers if _is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    again = ptm(*words[3:])
    assert again.returncode == 0, again.stderr
    assert ledger(run.path) == references()


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
