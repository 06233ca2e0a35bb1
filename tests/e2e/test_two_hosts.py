"""A run on two hosts, through Ray's Jobs API: submitted, listed, followed, stopped, resumed, through the loss of a host and of the head."""

import json
import os
import subprocess
import sys
import time

import pytest

from ptm_dist.events import read_events
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.run import RunFolder
from ptm_dist.train.launch import launch
from tests.clusters.hosts import WIRE, Hosts, can_be_made
from tests.clusters.waiting import until_step
from tests.tiny import ledger, tiny_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not can_be_made(), reason="needs root and `ip netns` of iproute2"),
]
LONG, SHORT = 2500, 700
"""Steps: as many as are left to do while a host is lost, missed and back; and as many as are not over before the head is killed."""


def recipe(steps):
    return tiny_recipe(
        model={"dropout": 0.0, "attention_dropout": 0.0},  # It is drawn for each rank, so it would differ.
        stages=[{"name": "main", "steps": {"mlm": steps}}],
        checkpoint={"every_steps": 50},
        evaluate={"every_steps": 1000},
    )


@pytest.fixture
def reference(tiny_data, tmp_path_factory):
    def losses(steps):
        run = RunFolder(tmp_path_factory.mktemp("reference"))
        run.claim(recipe(steps))
        run.set_data(tiny_data)
        launch(run, run.next_attempt(), 2)
        return ledger(run.path)

    return losses


@pytest.fixture
def hosts(tmp_path):
    made = Hosts(tmp_path)
    for host in ("a", "b"):
        made.start(host)
    yield made
    made.close()


@pytest.fixture
def ptm(hosts, tmp_path):
    """Run ptm on the head, from a directory with the recipe and the cluster's file."""
    plain = {
        "kind": "ray",
        "name": "two-hosts",
        "address": hosts.dashboard,
        "token_file": str(hosts.token_file),
        "python": sys.executable,
        "runs": str(tmp_path / "runs"),
        "cache": str(tmp_path / "data"),
        "environment": {"GLOO_SOCKET_IFNAME": WIRE, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60"},
        "workers": {"least": 1},
        "supervise": {"restarts": 3, "wait_seconds": 0.1, "longest_wait_seconds": 0.1, "grow_seconds": 5.0},
    }
    (tmp_path / "cluster.yaml").write_text(json.dumps(plain))
    for steps in (LONG, SHORT):
        (tmp_path / f"{steps}.yaml").write_text(dump_recipe(recipe(steps)))

    def call(*words, code=0):
        done = subprocess.run(
            hosts.words("a", sys.executable, "-m", "ptm_dist", *map(str, words)),
            env=hosts.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return call


def causes(run):
    return [(event["cause"], event["workers"]) for event in read_events(RunFolder(run).supervision_path, "attempt_ended")]


def until(holds, seconds=300):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert holds()


def require_equal(run, reference):
    mine = ledger(run)
    assert [step for step, _ in mine] == [step for step, _ in reference], "no step is missing, none is done out of turn"
    assert max(abs(loss - other) for (_, loss), (_, other) in zip(mine, reference, strict=True)) < 1e-3


def test_a_host_is_lost_and_comes_back_and_the_run_is_stopped_and_resumed(hosts, ptm, reference, tmp_path):
    run = tmp_path / "runs" / "first"
    told = ptm("job", "submit", f"{LONG}.yaml", "--cluster", "cluster.yaml", "--run", "first")
    assert "submitted: first-a1" in told
    until_step(run, 60)
    nodes = {rank["rank"]: rank["pid"] for rank in next(read_events(RunFolder(run).events_path, "attempt_started"))["ranks"]}
    assert len(nodes) == 2
    hosts.kill("b")
    until(lambda: len(list(read_events(RunFolder(run).events_path, "attempt_started"))) == 2)
    assert "running" in ptm("job", "ls")
    hosts.start("b")
    until(lambda: len(list(read_events(RunFolder(run).events_path, "attempt_started"))) == 3)
    done = max(event["step"] for event in read_events(RunFolder(run).events_path, "step"))
    until_step(run, done + 20)
    assert "exit 10" in ptm("stop", "first-a1")
    assert "first-a2" in ptm("job", "resume", "first")
    followed = ptm("logs", "-f", "first-a2")
    assert f"step {LONG:,} of {LONG:,}" in followed
    assert "finished" in ptm("status", "first-a2")
    assert causes(run) == [("lost_worker", 2), ("resized", 1), ("stopped", 2), ("finished", 2)]
    require_equal(run, reference(LONG))
    for host in ("a", "b"):
        hosts.kill(host)
    assert f"step {LONG:,} of {LONG:,}" in ptm("logs", "first-a2"), "what was printed outlives the cluster"


def test_the_head_is_lost_and_the_same_run_goes_on_in_a_new_cluster(hosts, ptm, reference, tmp_path):
    run = tmp_path / "runs" / "second"
    ptm("job", "submit", f"{SHORT}.yaml", "--cluster", "cluster.yaml", "--run", "second")
    until_step(run, 130)
    for host in ("a", "b"):
        hosts.kill(host)
    for host in ("a", "b"):
        hosts.start(host)
    assert "second-a2" in ptm("job", "resume", "second")
    assert f"step {SHORT:,} of {SHORT:,}" in ptm("logs", "-f", "second-a2")
    resumed = list(read_events(RunFolder(run).events_path, "attempt_started"))[-1]["step"]
    assert resumed >= 100, "it goes on from the newest checkpoint"
    require_equal(run, reference(SHORT))


@pytest.mark.parametrize(("path", "codes"), [("/api/jobs/", {401}), ("/api/version", {401})])
def test_nobody_gets_in_without_the_token(hosts, path, codes):
    script = "import sys, requests; print(requests.get(sys.argv[1], timeout=5).status_code)"
    done = subprocess.run(
        hosts.words("a", sys.executable, "-c", script, hosts.dashboard + path), capture_output=True, text=True, check=True, env=os.environ
    )
    assert int(done.stdout) in codes
