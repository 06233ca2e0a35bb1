"""A real Slurm of one node runs, requeues and ends jobs; what is asserted is the order of steps, never a time."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ptm_dist.clusters.base import Job
from ptm_dist.clusters.slurm import Slurm
from ptm_dist.events import read_events
from ptm_dist.run import RunFolder
from tests.tiny import command, ledger, tiny_recipe

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
MISSING = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
PYTHON = Path(sys.executable).parent
STEPS = 80
SLOW = {"batch": {"rows": 64}, "stages": [{"name": "main", "steps": {"mlm": STEPS}}], "engine": {"timeout_seconds": 300}}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        bool(MISSING), reason=f"Slurm is not installed ({', '.join(MISSING)}): apt-get install slurmctld slurmd slurm-client munge"
    ),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    script = Path(__file__).with_name("slurm.sh")
    tell = 'echo "$SLURM_CONF" > ready; exec cat'
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", script, folder, "bash", "-c", tell], cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    wait_for(lambda: (folder / "ready").exists() or process.poll() is not None)
    assert process.poll() is None, (folder / "log").read_text()
    os.environ["SLURM_CONF"] = (folder / "ready").read_text().strip()
    yield folder
    del os.environ["SLURM_CONF"]
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_data):
    """Return the ledger of the same recipe, trained in one go without Slurm."""
    run = RunFolder(tmp_path_factory.mktemp("undisturbed") / "run")
    run.claim(tiny_recipe(**SLOW))
    run.set_data(tiny_data)
    subprocess.run(command("train", run.recipe_path, "--run", run.path, "--launcher", "local"), check=True, capture_output=True)
    return ledger(run.path)


def wait_for(condition, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def cluster_of(tmp_path, **changes):
    fields = {
        "runs": str(tmp_path),
        "cache": str(tmp_path / "cache"),
        "cpus_per_task": 2,
        "memory": "2G",
        "time": "30",
        "signal_seconds": 180,
        "setup": (f"export PATH={PYTHON}:$PATH",),
    }
    return Slurm(**(fields | changes))


def submitted(cluster, make_run, name):
    run, _ = make_run(name, **SLOW)
    return run, cluster.submit(Job(run.recipe(), str(run.path)))


def last_step(run):
    return max((event["step"] for event in read_events(run.events_path, "step")), default=0)


@contextmanager
def stopped(run):
    """Let the workers of the attempt that runs stand still."""
    (*_, started) = read_events(run.events_path, "attempt_started")
    pids = [rank["pid"] for rank in started["ranks"]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def minutes_done(number):
    shown = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True).stdout
    hours, minutes = re.search(r"RunTime=(\d+):(\d+)", shown).groups()
    return int(hours) * 60 + int(minutes)


def start_at_once(number):
    """A job that was put back into the queue waits for two minutes; who owns it may say otherwise, though not within the same second."""
    time.sleep(3)
    subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], check=False, capture_output=True)


def ended(cluster, number):
    for job in subprocess.run(
        ["squeue", "--noheader", "--states=PENDING", "--format=%i"], capture_output=True, text=True, check=True
    ).stdout.split():
        start_at_once(job)
    return cluster.state(number).phase not in ("pending", "running")


def attempts(run):
    return len(list(read_events(run.events_path, "attempt_started")))


def test_a_job_runs_to_its_end_and_its_log_can_be_followed(slurm, make_run, tmp_path, undisturbed):
    cluster = cluster_of(tmp_path)
    run, number = submitted(cluster, make_run, "plain")
    lines = list(cluster.logs(number, follow=True))
    state = cluster.state(number)
    assert (state.phase, state.native, state.exit_code) == ("finished", "COMPLETED", 0)
    assert any("attempt 1: 2 workers from step 0" in line for line in lines)
    assert ledger(run.path) == undisturbed
    assert [job.id for job in cluster.jobs()] == [number]
    assert cluster.state("plain-a1").phase == "finished"


def test_a_job_that_is_requeued_in_the_middle_resumes(slurm, make_run, tmp_path, undisturbed):
    cluster = cluster_of(tmp_path)
    run, number = submitted(cluster, make_run, "requeued")
    wait_for(lambda: last_step(run) >= 12)
    subprocess.run(["scontrol", "requeue", number], check=True)
    wait_for(lambda: ended(cluster, number))
    assert cluster.state(number).phase == "finished", cluster.state(number)
    assert attempts(run) >= 2
    assert ledger(run.path) == undisturbed


@pytest.mark.parametrize("requeue", [True, False])
def test_a_job_that_meets_its_limit_saves_and_goes_on(requeue, slurm, make_run, tmp_path, undisturbed):
    cluster = cluster_of(tmp_path, requeue=requeue)
    run, number = submitted(cluster, make_run, "limited")
    wait_for(lambda: last_step(run) >= 3)
    # The limit comes near at once; Slurm looks twice a minute, so the workers stand still until it has.
    subprocess.run(["scontrol", "update", f"JobId={number}", f"TimeLimit={minutes_done(number) + 3}"], check=True)
    log = run.path / "logs" / "driver-limited-a1.log"
    with stopped(run):
        wait_for(lambda: "slurm: signal USR1" in log.read_text())
    if requeue:
        wait_for(lambda: cluster.state(number).phase == "pending")
        wait_for(lambda: subprocess.run(["scontrol", "update", f"JobId={number}", "TimeLimit=30"], check=False).returncode == 0)
    wait_for(lambda: ended(cluster, number))
    assert cluster.state(number).phase == "finished", cluster.state(number)
    starts = [event["step"] for event in read_events(run.events_path, "attempt_started")]
    done = [event["step"] for event in read_events(run.events_path, "step")]
    assert done == list(range(STEPS)), "a step was lost or done twice although the job saved before it ended"
    assert starts[0] == 0
    assert starts[1] > 0
    assert ledger(run.path) == undisturbed
    assert log.read_text().count("slurm: signal USR1") == 1


def test_a_job_that_its_user_stops_saves_and_does_not_come_back(slurm, make_run, tmp_path):
    cluster = cluster_of(tmp_path)
    run, number = submitted(cluster, make_run, "stopped")
    wait_for(lambda: last_step(run) >= 3)
    cluster.stop(number, now=False)
    wait_for(lambda: cluster.state(number).phase not in ("pending", "running"))
    state = cluster.state(number)
    assert (state.phase, state.exit_code) == ("stopped", 10)
    saved = [event["step"] for event in read_events(run.events_path, "checkpoint_saved")]
    assert saved[-1] == last_step(run) + 1
    # The next submission goes on where this one stopped; it is ended at once.
    again = cluster.submit(Job(run.recipe(), str(run.path), submission=2))
    wait_for(lambda: attempts(run) == 2)
    cluster.stop(again, now=True)
    wait_for(lambda: cluster.state(again).phase not in ("pending", "running"))
    assert cluster.state(again).phase == "stopped"
    assert list(read_events(run.events_path, "attempt_started"))[1]["step"] == saved[-1]


def test_check_passes_here_and_says_what_to_do_about_a_wrong_partition(slurm, tmp_path):
    findings = list(cluster_of(tmp_path).check())
    assert [finding.text for finding in findings if not finding.fine] == []
    assert findings[-1].text.startswith(f"node {os.uname().nodename}: Python 3")
    assert not list(tmp_path.glob("**/.ptm-check-*"))
    wrong = [finding.text for finding in cluster_of(tmp_path, partition="gpu", time="9-00:00:00").check() if not finding.fine]
    assert "Set partition to one of: main" in wrong[0]
    longer = [finding.text for finding in cluster_of(tmp_path, time="9-00:00:00").check() if not finding.fine]
    assert "lower time, which is 9-00:00:00" in longer[0]
    without = [finding.text for finding in cluster_of(tmp_path, setup=("export PATH=/usr/bin",)).check() if not finding.fine]
    assert len(without) == 1
    assert "Look at `setup`" in without[0] or "let `setup` provide it" in without[0]
