"""Two Ray nodes under one run: one dies, one is drained, one comes back; no step is missing, and the rows are those of a quiet run."""

import json
import os
import subprocess
import sys
import time

import pytest

from ptm_dist.events import read_events, steps_of
from ptm_dist.train.launch import launch
from tests.tiny import command, ledger, tiny_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STEPS = 400
LONG = {
    "model": {"dropout": 0.0, "attention_dropout": 0.0},  # It is drawn for each rank, so it would differ.
    "stages": [{"name": "main", "steps": {"mlm": STEPS}}],
    "checkpoint": {"every_steps": 50},
    "evaluate": {"every_steps": 1000},
}
PATIENCE = 400


@pytest.fixture(scope="module")
def reference(tiny_data, tmp_path_factory):
    from ptm_dist.run import RunFolder

    run = RunFolder(tmp_path_factory.mktemp("reference"))
    run.claim(tiny_recipe(**LONG))
    run.set_data(tiny_data)
    launch(run, run.next_attempt(), 2)
    return ledger(run.path)


@pytest.fixture
def nodes(tmp_path):
    """A head without cores and two nodes of one core; made in a process of its own, since this one may have a Ray already."""
    script = """
import json, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
made = {}
def add(name, faults=""):
    told = {"PTM_TESTING": "1", "PTM_FAULTS": faults} if faults else {}
    made[name] = cluster.add_node(num_cpus=1, object_store_memory=80 << 20, node_name=name, env_vars=told)
    return made[name].node_id
print(json.dumps({"address": cluster.address, "one": add("one"), "two": add("two")}), flush=True)
for line in sys.stdin:
    verb, name, *faults = line.split()
    if verb == "kill":
        cluster.remove_node(made[name], allow_graceful=False)
    print(json.dumps(add(name, *faults) if verb == "add" else None), flush=True)
cluster.shutdown()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    told = json.loads(process.stdout.readline())

    def ask(*words):
        process.stdin.write(" ".join(words) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield told, ask
    process.stdin.close()
    process.wait(timeout=60)


def start(run, recipe, told, tmp_path, **supervise):
    settings = {"restarts": 3, "wait_seconds": 0.1, "longest_wait_seconds": 0.1, "grow_seconds": 6.0} | supervise
    cluster = tmp_path / "cluster.json"
    cluster.write_text(json.dumps({"kind": "local", "workers": {"least": 1}, "supervise": settings}))
    log = (tmp_path / "driver.log").open("w")
    environment = os.environ | {"RAY_ADDRESS": told["address"], "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30"}
    words = command("train", recipe, "--run", run.path, "--cluster", cluster)
    return subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)


def await_step(run, process, step):
    deadline = time.monotonic() + PATIENCE
    while max(steps_of(run.events_path), default=-1) < step and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    assert max(steps_of(run.events_path), default=-1) >= step


def ended(run):
    return [(event["cause"], event["workers"]) for event in read_events(run.supervision_path, "attempt_ended")]


def require_equal(run, reference):
    """The same steps over the same rows; sums over other numbers of workers are added in another order."""
    mine = ledger(run.path)
    assert [step for step, _ in mine] == [step for step, _ in reference]
    assert max(abs(loss - other) for (_, loss), (_, other) in zip(mine, reference, strict=True)) < 1e-3
    assert mine[:20] == reference[:20]


def test_a_lost_node_is_done_without_and_taken_back_when_it_returns(make_run, reference, nodes, tmp_path):
    told, ask = nodes
    run, recipe = make_run(**LONG)
    process = start(run, recipe, told, tmp_path)
    await_step(run, process, 60)
    ask("kill", "two")
    deadline = time.monotonic() + PATIENCE
    while len(list(read_events(run.events_path, "attempt_started"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    ask("add", "three")
    assert process.wait(timeout=PATIENCE) == 0, (tmp_path / "driver.log").read_text()
    assert ended(run) == [("lost_worker", 2), ("resized", 1), ("finished", 2)]
    require_equal(run, reference)


def test_a_node_that_is_given_notice_is_left_with_everything_saved(make_run, reference, nodes, tmp_path):
    told, _ = nodes
    run, recipe = make_run(**LONG)
    process = start(run, recipe, told, tmp_path)
    await_step(run, process, 60)
    notice = ["ray", "drain-node", "--address", told["address"], "--node-id", told["two"], "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    notice += ["--reason-message", "going", "--deadline-remaining-seconds", "3600"]
    subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *notice[1:]], check=True, capture_output=True)
    assert process.wait(timeout=PATIENCE) == 0, (tmp_path / "driver.log").read_text()
    assert ended(run) == [("preempted", 2), ("finished", 1)]
    (first, _) = read_events(run.supervision_path, "attempt_ended")
    assert first["lost_steps"] == 0
    assert [event["reason"] for event in read_events(run.events_path, "stopping")] == ["preempted"]
    require_equal(run, reference)


def test_a_node_that_fails_the_check_is_left_out(make_run, nodes, tmp_path):
    told, ask = nodes
    broken = ask("add", "broken", json.dumps([{"point": "check.multiply", "action": "kill"}], separators=(",", ":")))
    run, recipe = make_run()
    process = start(run, recipe, told, tmp_path, check_seconds=4.0)
    assert process.wait(timeout=PATIENCE) == 0, (tmp_path / "driver.log").read_text()
    (checked,) = read_events(run.supervision_path, "nodes_checked")
    found = {node["id"]: node for node in checked["nodes"]}
    assert found.keys() == {told["one"], told["two"], broken}
    assert "broken" in checked["left_out"]
    assert found[broken]["reason"].startswith("the check failed there: ")
    for node in (told["one"], told["two"]):  # Where little else runs both are fine; how fast a busy core is, nobody knows.
        assert found[node]["matmul_seconds"] > 0
        assert found[node]["allreduce_seconds"] > 0
    places = {path.read_text().strip() for path in run.logs(1).glob("rank-*.node")}
    assert places
    assert places <= {told["one"], told["two"]}
