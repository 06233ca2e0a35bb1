import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ptm_dist.cli.jobs import job_app, logs, status_of_job, stop
from ptm_dist.clusters.base import Job, JobState
from ptm_dist.clusters.local import Local
from ptm_dist.errors import ConfigError
from ptm_dist.kept import end_now, exit_code_in, is_running, kept_note, kept_path, note_of, started_at
from ptm_dist.recipe_io import dump_recipe, load_recipe
from tests.clusters.waiting import until_step
from tests.tiny import ledger, ptm, tiny_recipe

KEEPER = [sys.executable, "-m", "ptm_dist.kept"]
POLITE = """
import signal, sys, time
asked = []
def stop(number, _):
    asked.append(number)
    print("asked", len(asked), flush=True)
    if len(asked) == 2:
        sys.exit(11)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(float(sys.argv[1]))
print("saved", flush=True)
sys.exit(10)
"""
"""A driver that saves for so many seconds when it is asked to stop, and ends at once when it is asked again."""


class Scripted(Local):
    """The kind local with another driver."""

    words: tuple[str, ...]

    def entrypoint(self, job, recipe, cluster):
        return [sys.executable, "-c", *self.words]


@pytest.fixture
def submitted(tmp_path):
    """Submit a script as the driver of a run; end what is left of it."""
    made = []

    def submit(*words):
        cluster = Scripted(runs=str(tmp_path / "runs"), words=words)
        job = Job(tiny_recipe(), str(tmp_path / "runs" / "one"))
        made.append(job)
        assert cluster.submit(job) == "one-a1"
        return cluster, kept_path(job.run, job.id)

    yield submit
    for job in made:
        for process in (kept_note(job.run, job.id) or {}).values():
            if isinstance(process, dict):
                end_now(process)


def ended(cluster, seconds=30.0) -> JobState:
    deadline = time.monotonic() + seconds
    while (state := cluster.state("one-a1")).phase == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    return state


def wait_for(log, text):
    deadline = time.monotonic() + 30
    while text not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert text in log.read_text()


@pytest.mark.parametrize(("code", "phase"), [(0, "finished"), (10, "stopped"), (11, "stopped"), (1, "failed"), (60, "failed")])
def test_the_exit_code_of_the_driver_decides_the_phase(submitted, code, phase):
    cluster, log = submitted(f"print('hello'); raise SystemExit({code})")
    state = ended(cluster)
    assert (state.phase, state.exit_code) == (phase, code)
    assert log.read_text().startswith(f"hello\ndriver ended with exit code {code} (")
    assert exit_code_in(log.read_text()) == code
    assert cluster.jobs() == [state]


def test_a_driver_that_was_killed_has_failed_with_the_signal(submitted):
    cluster, log = submitted("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    state = ended(cluster)
    assert (state.phase, state.exit_code) == ("failed", 137)
    assert log.read_text() == "driver ended with exit code 137 (killed by signal 9)\n"


def test_a_job_goes_on_when_the_process_that_submitted_it_has_ended(tmp_path):
    driver, run = "import os, time; time.sleep(0.5); print(os.getsid(0))", str(tmp_path / "one")
    code = (
        "from tests.clusters.test_local import Scripted, Job, tiny_recipe; "
        f"Scripted(runs={str(tmp_path)!r}, words=({driver!r},)).submit(Job(tiny_recipe(), {run!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])
    cluster = Local(runs=str(tmp_path))
    assert ended(cluster).exit_code == 0
    assert int(next(iter(cluster.logs("one-a1", follow=False)))) != os.getsid(0)


def test_stop_asks_once_and_the_driver_saves(submitted):
    cluster, log = submitted(POLITE, "0.3")
    wait_for(log, "ready")
    assert cluster.state("one-a1").phase == "running"
    cluster.stop("one-a1", now=False)
    state = ended(cluster)
    assert (state.phase, state.exit_code) == ("stopped", 10)
    assert log.read_text().splitlines()[:3] == ["ready", "asked 1", "saved"]
    with pytest.raises(ConfigError, match="one-a1 is not running: stopped"):
        cluster.stop("one-a1", now=False)


def test_stop_now_asks_twice_and_the_driver_does_not_save(submitted):
    cluster, log = submitted(POLITE, "60")
    wait_for(log, "ready")
    cluster.stop("one-a1", now=True)
    assert ended(cluster).exit_code == 11
    assert log.read_text().splitlines()[:3] == ["ready", "asked 1", "asked 2"]


def test_a_driver_that_does_not_listen_yet_ends_as_stopped(submitted):
    cluster, log = submitted("import time; print('ready', flush=True); time.sleep(60)")
    wait_for(log, "ready")
    cluster.stop("one-a1", now=False)
    assert ended(cluster).exit_code == 11


def test_a_signal_to_the_whole_job_counts_once(submitted):
    cluster, log = submitted(POLITE, "0.1")
    wait_for(log, "ready")
    note = kept_note(log.parents[1], "one-a1")
    os.killpg(note["keeper"]["pid"], signal.SIGINT)
    assert ended(cluster).exit_code == 10


def test_a_file_ends_a_driver_that_no_signal_of_ours_reaches(submitted):
    cluster, log = submitted(POLITE, "60")
    wait_for(log, "ready")
    log.with_suffix(".now").touch()
    assert ended(cluster).exit_code == 11


def test_logs_are_followed_until_the_job_has_ended(submitted):
    cluster, _ = submitted("import time\nfor number in range(5): print(number, flush=True); time.sleep(0.2)")
    assert list(cluster.logs("one-a1", follow=True)) == [*"01234", "driver ended with exit code 0 (done)"]


def test_errors_of_the_driver_are_kept_too(submitted):
    cluster, log = submitted("import sys; sys.stderr.write('error: so it is\\n'); sys.exit(20)")
    ended(cluster)
    assert "error: so it is" in log.read_text()


def test_a_name_is_submitted_once(submitted, tmp_path):
    cluster, _ = submitted("pass")
    with pytest.raises(ConfigError, match="a submission of this name was there before"):
        cluster.submit(Job(tiny_recipe(), str(tmp_path / "runs" / "one")))


def noted(tmp_path, **changes):
    log = kept_path(tmp_path / "one", "one-a1")
    log.parent.mkdir(parents=True, exist_ok=True)
    ended_before = {"pid": 2**22 + 5, "started": "long ago"}
    note = {"host": platform.node(), "driver": ended_before, "keeper": ended_before, "exit_code": None}
    log.with_suffix(".json").write_text(json.dumps(note | changes))
    return Local(runs=str(tmp_path)).state("one-a1")


def test_another_process_with_the_same_number_is_not_taken_for_the_driver(tmp_path):
    us = note_of(os.getpid())
    assert is_running(us)
    assert noted(tmp_path, driver=us).phase == "running"
    reused = us | {"started": us["started"] + "1"}
    state = noted(tmp_path, driver=reused)
    assert (state.phase, state.native) == ("failed", "ended without an exit code")
    with pytest.raises(ConfigError, match="is not running"):
        Local(runs=str(tmp_path)).stop("one-a1", now=True)


def test_a_process_that_ended_and_was_not_asked_for_does_not_run():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    note = note_of(process.pid)
    deadline = time.monotonic() + 30
    while is_running(note) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started_at(process.pid) is None
    process.wait()


def test_a_job_of_another_machine_is_not_judged_from_here(tmp_path):
    assert noted(tmp_path, host="elsewhere").phase == "unknown"
    assert noted(tmp_path, host="elsewhere", exit_code=0).phase == "finished"


def test_unknown_jobs_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for job_id in ("one-a1", "x", "../../etc-a1"):
        with pytest.raises(ConfigError, match="no submission of this name is known here"):
            Local(runs=str(tmp_path)).state(job_id)


def test_the_plan_lists_the_files_the_command_and_the_variables(tmp_path):
    cluster = Local(runs=str(tmp_path), environment={"OMP_NUM_THREADS": "1"})
    run = str(tmp_path / "a run; touch X")
    sent = {part.name.rpartition("/")[2]: part for part in cluster.plan(Job(tiny_recipe(), run, 3))}
    assert list(sent) == ["recipe.json", "cluster.json", "entrypoint", "environment"]
    assert f"--run '{run}' --cache {os.getcwd()}/data --cluster" in sent["entrypoint"].text
    assert "OMP_NUM_THREADS=1\n" in sent["environment"].text
    assert sent["recipe.json"].bytes == len(sent["recipe.json"].text)
    (tmp_path / "recipe.json").write_text(sent["recipe.json"].text)
    assert load_recipe([tmp_path / "recipe.json"]) == tiny_recipe()
    assert not (tmp_path / "a run; touch X").exists()


def test_check_looks_at_the_folders(tmp_path):
    (tmp_path / "file").touch()
    found = list(Local(runs=str(tmp_path / "runs"), cache=str(tmp_path / "file" / "data")).check())
    assert f"runs: {tmp_path}/runs can be written" in [finding.text for finding in found if finding.fine]
    assert any(finding.text.startswith(f"cache: {tmp_path}/file/data cannot be written") for finding in found if not finding.fine)
    assert Local().render() == {}
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_log_that_cannot_be_written_costs_neither_output_nor_exit_code(tmp_path):
    (tmp_path / "file").touch()
    words = [*KEEPER, str(tmp_path / "file" / "logs" / "x.log"), sys.executable, "-c", "print('hello'); raise SystemExit(30)"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 30
    assert "hello" in told.stdout
    assert "is not kept there" in told.stderr


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory to submit from; what is left of the jobs of its runs is ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield tmp_path
    for path in tmp_path.glob("runs/*/logs/driver-*.json"):
        end_now(json.loads(path.read_text())["driver"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_is_submitted_listed_followed_stopped_and_resumed_to_the_same_end(here, capsys):
    recipe = tiny_recipe(stages=[{"name": "main", "steps": {"mlm": 120}}])
    (here / "recipe.yaml").write_text(dump_recipe(recipe))
    (here / "local.yaml").write_text("kind: local\nname: here\n")
    reference = ptm("train", here / "recipe.yaml", "--run", here / "reference", "--cache", here / "data")
    assert reference.returncode == 0, reference.stderr

    told = CliRunner().invoke(job_app, ["submit", "recipe.yaml", "--run", "one", "--cluster", "local.yaml"], catch_exceptions=False).stdout
    assert "submitted: one-a1" in told
    until_step(here / "runs" / "one", 20)
    assert "one-a1  running" in CliRunner().invoke(job_app, ["ls"], catch_exceptions=False).stdout
    assert status_of_job("runs/one").startswith("job one-a1 on here (local): running (process ")
    stop("one-a1", now=False)
    assert "exit 10: stopped on request" in capsys.readouterr().out
    logs("runs/one", follow=True)
    shown = capsys.readouterr().out
    assert shown == kept_path("runs/one", "one-a1").read_text()
    assert "stopped at step" in shown
    assert Local().state("one-a1").exit_code == 10

    told = CliRunner().invoke(job_app, ["resume", "runs/one"], catch_exceptions=False).stdout
    assert "submitted: one-a2" in told
    logs("one-a2", follow=True)
    assert "resuming at step" in capsys.readouterr().out
    assert [state.phase for state in Local().jobs()] == ["finished", "stopped"]
    assert len(ledger(here / "runs" / "one")) == 120
    assert ledger(here / "runs" / "one") == ledger(here / "reference")
