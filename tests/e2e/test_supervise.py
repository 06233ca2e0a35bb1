"""One command survives what happens to its workers: restarted, hung, poisoned, taken over; the losses are those of an undisturbed run."""

import json
import os
import signal
import subprocess
import time

import pytest

from ptm_dist.events import read_events, steps_of
from ptm_dist.train.committed import list_checkpoints
from ptm_dist.train.launch import launch
from tests.tiny import command, ledger, ptm

LOCAL = ("--launcher", "local")


@pytest.fixture(scope="module")
def reference(tiny_data, tmp_path_factory):
    from ptm_dist.run import RunFolder
    from tests.tiny import tiny_recipe

    run = RunFolder(tmp_path_factory.mktemp("reference"))
    run.claim(tiny_recipe())
    run.set_data(tiny_data)
    launch(run, run.next_attempt(), 2)
    return ledger(run.path)


@pytest.fixture
def cluster_file(tmp_path):
    def make(**supervise):
        path = tmp_path / "cluster.yaml"
        settings = {"wait_seconds": 0.1, "longest_wait_seconds": 0.1} | supervise
        path.write_text(json.dumps({"kind": "local", "supervise": settings}))
        return path

    return make


def faults(tmp_path, *planned):
    """Plan faults that happen once each over all attempts."""
    log = tmp_path / "faults.log"
    log.touch()
    return {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps(planned), "PTM_FAULTS_LOG": str(log)}


def supervision(run, *kinds):
    return list(read_events(run.supervision_path, *kinds))


def test_killed_workers_are_followed_by_another_attempt_and_the_losses_are_equal(make_run, reference, cluster_file, tmp_path):
    run, recipe = make_run()
    plan = [{"point": "step.begin", "action": "kill", "rank": rank, "step": step} for rank, step in ((0, 13), (1, 30))]
    done = ptm("train", recipe, "--run", run.path, "--cluster", cluster_file(restarts=2), *LOCAL, **faults(tmp_path, *plan))
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "faults.log").read_text().splitlines()) == 2, "both workers were killed"
    assert ledger(run.path) == reference
    ends = supervision(run, "attempt_ended")
    assert [(end["cause"], end["exit_code"]) for end in ends] == [("lost_worker", 60), ("lost_worker", 60), ("finished", 0)]
    assert [(end["step"], end["kept_step"], end["lost_steps"]) for end in ends] == [(13, 8, 5), (30, 24, 6), (40, 40, 0)]
    assert [event["step"] for event in supervision(run, "attempt_placed")] == [0, 8, 24]
    # Each attempt left a checkpoint, so each failure had the whole budget before it.
    assert [event["restarts_left"] for event in supervision(run, "restarting")] == [1, 1]
    assert "going on from the last checkpoint" in done.stdout
    assert json.loads(run.targets_path.read_text()) == [], "nothing is served any more"


def test_a_hung_worker_leaves_stacks_and_is_followed_by_another_attempt(make_run, reference, cluster_file, tmp_path):
    run, recipe = make_run(engine={"timeout_seconds": 6})
    plan = {"point": "step.begin", "action": "stop", "rank": 1, "step": 19}
    done = ptm("train", recipe, "--run", run.path, "--cluster", cluster_file(restarts=1), *LOCAL, **faults(tmp_path, plan))
    assert done.returncode == 0, done.stderr
    assert ledger(run.path) == reference
    first, second = supervision(run, "attempt_ended")
    assert (first["cause"], first["exit_code"], second["cause"]) == ("hung", 60, "finished")
    assert [path.name for path in run.stacks(1)] == ["rank-0.stacks"], "the rank that lived; the other was stopped by the test"
    assert "all_reduce" in run.stacks_path(1, 0).read_text(), "and where it waited for its peer"
    assert not list(run.logs(2).glob("*.stacks"))


@pytest.mark.slow
def test_the_same_failure_at_the_same_step_is_not_met_with_restarts_for_ever(make_run, cluster_file):
    run, recipe = make_run()
    poison = json.dumps([{"point": "step.begin", "action": "kill", "rank": 1, "step": 21}])
    words = ("train", recipe, "--run", run.path, "--cluster", cluster_file(restarts=50), *LOCAL)
    ended = ptm(*words, PTM_TESTING="1", PTM_FAULTS=poison)
    assert ended.returncode == 60
    assert "given up: 4 attempts ended at step 21" in ended.stderr
    assert [end["step"] for end in supervision(run, "attempt_ended")] == [21] * 4
    assert [event["step"] for event in supervision(run, "attempt_placed")] == [0, 16, 8, 16]
    assert [event["step"] for event in supervision(run, "stepped_back")] == [8]
    assert supervision(run)[-1]["event"] == "gave_up"


@pytest.mark.slow
def test_a_driver_that_was_followed_by_another_host_writes_nothing_more(make_run, cluster_file):
    run, recipe = make_run(stages=[{"name": "main", "steps": {"mlm": 100_000}}], checkpoint={"every_steps": 20})
    words = command("train", recipe, "--run", run.path, "--cluster", cluster_file(restarts=3), *LOCAL)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(steps_of(run.events_path)) < 3 and process.poll() is None:
        time.sleep(0.01)
    ranks = [rank["pid"] for rank in next(read_events(run.events_path, "attempt_started"))["ranks"]]
    for pid in (process.pid, *ranks):
        os.kill(pid, signal.SIGSTOP)
    known = [info.step for info in list_checkpoints(run.checkpoints)]
    (run.lease_path / "000002.json").write_text(json.dumps({"host": "elsewhere", "pid": 7, "seconds": 60, "beat": 1}))
    for pid in (process.pid, *ranks):
        os.kill(pid, signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 21, errors
    assert "process 7 on elsewhere has taken it over" in errors
    assert [info.step for info in list_checkpoints(run.checkpoints)] == known, "no checkpoint was committed after that"
    assert not supervision(run, "restarting")
