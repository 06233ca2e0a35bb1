"""A real Prometheus scrapes a real run: it finds it, its rates are those of the log, and a stopped rank becomes a message that names it."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException

import pytest

from ptm_dist.events import read_events
from ptm_dist.page.run import data_of
from ptm_dist.train.launch import launch
from ptm_dist.watched import Watched
from tests.monitoring.servers import alertmanager, ask, needs_servers, prometheus, wait_for, webhook
from tests.tiny import command, ledger

SLOW = {"point": "step.forward", "rank": 1, "action": "delay", "count": 1_000_000}
TOKENS = "ptm_train_tokens_total"


def targets_of(run):
    """Return {role: address} of what the run serves, None as long as it serves nothing."""
    found = json.loads(run.targets_path.read_text()) if run.targets_path.exists() else []
    return {target["labels"]["role"]: target["targets"][0] for target in found}


def tokens_between(run, begin, end):
    return sum(event["tokens"] for event in read_events(run.events_path, "step") if begin < event["time"] <= end)


def check_rates(run, address, begin, end):
    """Between two scrapes nothing is extrapolated: rate and increase have to be those of the log, but for a step or two where it begins."""
    seconds = end - begin
    window = f"{round(seconds * 1000)}ms"
    expected = tokens_between(run, begin, end)
    [(_, (_, rate))] = ask(address, f"rate({TOKENS}[{window}])", end)
    [(_, (_, increase))] = ask(address, f"increase({TOKENS}[{window}])", end)
    assert float(rate) == pytest.approx(expected / seconds, rel=0.02)
    assert float(increase) == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_servers
def test_a_slow_rank_and_a_stopped_one_are_told_by_name_and_rates_are_those_of_the_log(make_run, tmp_path):
    run, recipe = make_run(
        stages=[{"name": "main", "steps": {"mlm": 1_000_000}}],
        checkpoint={"every_steps": 1_000_000}, evaluate={"every_steps": 1_000_000}, engine={"timeout_seconds": 200},
    )  # fmt: skip
    process = subprocess.Popen(
        command("train", recipe, "--run", run.path, "--launcher", "local"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps([SLOW])},
    )
    try:
        found = wait_for(lambda: len(targets_of(run)) == 2 and targets_of(run))
        with (
            webhook() as (hook, messages),
            alertmanager(tmp_path, hook) as alerts,
            prometheus(tmp_path, run.targets_path, found["driver"], alerts) as address,
        ):
            watch(run, address, messages)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 10, "stopped as asked, with a checkpoint"
    finally:
        if process.poll() is None:
            process.kill()  # Its workers end with it.
            process.wait()


def watch(run, address, messages):
    def samples():
        found = ask(address, f"{TOKENS}[10m]")
        return [(float(at), float(value)) for at, value in found[0][1]] if found else []

    def has_seen_enough():
        seen = [sample for sample in samples() if sample[1]]
        steps = [event["time"] for event in read_events(run.events_path, "step")]
        return len(seen) >= 8 and sum(seen[0][0] < time <= seen[-1][0] for time in steps) >= 150

    def told(status, name="PtmRankStopped"):
        return next((m for m in messages if m["labels"]["alertname"] == name and m["status"] == status), None)

    wait_for(has_seen_enough)
    for job in ("ptm", "by-driver"):
        wait_for(lambda job=job: sorted(labels["role"] for labels, _ in ask(address, f'up{{job="{job}"}} == 1')) == ["driver", "worker"])
    [(labels, _)] = wait_for(lambda: ask(address, "ptm_run_step"))
    assert "attempt" not in labels, "what the driver tells goes on over attempts"
    ranks = next(read_events(run.events_path, "attempt_started"))["ranks"]
    assert {labels["rank"] for labels, _ in wait_for(lambda: ask(address, "ptm_rank_up == 1"))} == {"0", "1"}
    assert told("firing") is None
    late = wait_for(lambda: told("firing", "PtmStraggler"))
    assert (late["labels"]["rank"], late["labels"]["pid"]) == ("1", str(ranks[1]["pid"]))
    assert late["annotations"]["summary"] == f"{labels['run']}: rank 1 on {socket.gethostname()} is slow"
    assert data_of(Watched.open(run.path))["ranks"]["slowest"] == "rank 1"

    os.kill(ranks[1]["pid"], signal.SIGSTOP)
    message = wait_for(lambda: told("firing"))
    where = {"run": labels["run"], "attempt": "1", "rank": "1", "node": socket.gethostname()}
    assert message["labels"] == where | {"alertname": "PtmRankStopped", "severity": "critical"}
    assert message["annotations"]["summary"] == f"{labels['run']}: rank 1 on {socket.gethostname()} does not run"
    seen = [sample for sample in samples() if sample[1]]
    check_rates(run, address, seen[0][0], seen[-1][0])

    os.kill(ranks[1]["pid"], signal.SIGCONT)
    done = sum(1 for _ in read_events(run.events_path, "step"))
    assert wait_for(lambda: told("resolved"))
    wait_for(lambda: sum(1 for _ in read_events(run.events_path, "step")) > done + 5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_clients_that_scrape_change_no_loss(make_run):
    quiet, _ = make_run("quiet")
    launch(quiet, quiet.next_attempt(), 2)
    run, recipe = make_run()
    process = subprocess.Popen(
        command("train", recipe, "--run", run.path, "--launcher", "local"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    answered = [0] * 50

    def scrape(number):
        while process.poll() is None:
            for address in targets_of(run).values():
                with suppress(OSError, HTTPException), urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                    answered[number] += b"ptm_" in answer.read()
            time.sleep(0.05)

    clients = [threading.Thread(target=scrape, args=(number,)) for number in range(len(answered))]
    for client in clients:
        client.start()
    try:
        assert process.wait(400) == 0
    finally:
        process.kill()
        for client in clients:
            client.join()
    assert min(answered) >= 1
    assert ledger(run.path) == ledger(quiet.path)
