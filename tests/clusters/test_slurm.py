"""The batch script of Slurm: its text, and what bash makes of it. tests/e2e/test_slurm.py hands it to a real Slurm."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.clusters.base import Job, cluster_json
from ptm_dist.clusters.jobs import RECORDS, Record
from ptm_dist.clusters.slurm import Slurm
from ptm_dist.clusters.slurm_check import minutes_of
from ptm_dist.clusters.slurm_queue import Chain, chain_of
from ptm_dist.errors import ConfigError
from ptm_dist.store import write_json
from tests.tiny import tiny_recipe


def script_of(tmp_path, submission=1, **fields):
    fields = {"runs": str(tmp_path), "cache": str(tmp_path / "cache")} | fields
    return Slurm(**fields).plan(Job(tiny_recipe(), str(tmp_path / "tiny"), submission))[-1].text


def directives(script):
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


def test_every_field_reaches_the_script(tmp_path):
    told = directives(
        script_of(
            tmp_path,
            partition="long",
            account="me",
            nodes=3,
            gpus_per_node=4,
            cpus_per_task=16,
            memory="64G",
            time="2-00:00:00",
            signal="USR2",
            signal_seconds=120,
            options=("--qos=high",),
        )
    )
    assert told == [
        "--job-name=tiny-a1",
        "--partition=long",
        "--account=me",
        "--nodes=3",
        "--ntasks-per-node=1",
        "--cpus-per-task=16",
        "--mem=64G",
        "--gpus-per-node=4",
        "--time=2-00:00:00",
        "--signal=B:USR2@120",
        "--requeue",
        "--open-mode=append",
        f"--output={tmp_path}/tiny/logs/driver-tiny-a1.log",
        "--export=HOME,USER,LOGNAME,LANG",
        "--qos=high",
    ]


def test_the_signal_comes_as_early_as_the_run_has_needed_to_save(tmp_path):
    events = tmp_path / "tiny" / "events.jsonl"
    events.parent.mkdir()
    told = [{"event": "step", "seconds": 2.5}, {"event": "step", "seconds": 7.0}, {"event": "checkpoint_saved", "seconds": 40.0}]
    events.write_text("".join(json.dumps(event | {"attempt": 1, "time": 0.0, "step": 1}) + "\n" for event in told))
    assert "--signal=B:USR1@124" in directives(script_of(tmp_path))  # 30 + 2 x (7 + 40)
    assert "--signal=B:USR1@60" in directives(script_of(tmp_path, signal_seconds=60))


def test_one_node_needs_no_ray_and_more_nodes_have_one_of_their_own(tmp_path):
    one, many = script_of(tmp_path), script_of(tmp_path, nodes=2)
    assert "--launcher local" in one
    assert "ray start" not in one
    assert "--launcher ray" in many
    assert many.count("ray start --block") == 2
    assert "ray stop" not in many
    assert '--temp-dir="$temporary"' in many
    assert "RAY_AUTH_MODE=token" in many


@given(job=st.integers(1, 10_000_000), other=st.integers(1, 59))
def test_jobs_whose_numbers_are_near_never_share_a_port(job, other):
    """The script computes blocks in bash as here: (last - first + 1) / size of them, chosen by the number of the job."""
    fields = Slurm()
    blocks = (fields.last_port - fields.first_port + 1) // fields.ports_of_job
    first, second = (fields.first_port + number % blocks * fields.ports_of_job for number in (job, job + other))
    assert abs(first - second) >= fields.ports_of_job
    assert fields.first_port <= first
    assert first + fields.ports_of_job - 1 <= fields.last_port


@pytest.mark.parametrize(
    "fields", [{}, {"nodes": 2, "gpus_per_node": 8}, {"requeue": False}, {"setup": ("module load cuda",), "signal": "TERM"}]
)
def test_shellcheck_has_nothing_to_say(fields, tmp_path):
    script = tmp_path / "script.sh"
    for text in (script_of(tmp_path, **fields), Slurm(**fields).render()["slurm/train.sbatch"]):
        script.write_text(text)
        done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False, env=environment())
        assert done.returncode == 0, done.stdout


def environment(**more):
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | more


def test_no_secret_of_the_environment_is_written_and_none_is_taken_along(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-7c1f")
    cluster = Slurm(runs=str(tmp_path))
    sent = cluster.plan(Job(tiny_recipe(), str(tmp_path / "tiny")))
    assert all("planted-7c1f" not in part.text for part in [*sent])
    assert all("planted-7c1f" not in text for text in cluster.render().values())
    assert "--export=HOME,USER,LOGNAME,LANG" in sent[-1].text


def test_variables_are_quoted_for_the_shell(tmp_path):
    nasty = "a b'; touch X; echo $(id) \"`"
    script = script_of(tmp_path, environment={"NOTE": nasty})
    line = next(line for line in script.splitlines() if line.startswith("export NOTE="))
    told = subprocess.run(["bash", "-c", f'{line}\nprintf %s "$NOTE"'], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert told == nasty
    assert not (tmp_path / "X").exists()


def test_a_path_that_sbatch_would_not_understand_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="Choose another run directory"):
        Slurm().plan(Job(tiny_recipe(), str(tmp_path / "a b")))


@pytest.mark.parametrize(
    ("fields", "recipe", "told"),
    [
        ({"gpus_per_node": 1}, {}, "2 workers, but the job has 1 GPUs"),
        ({"cpus_per_task": 1}, {}, "2 workers of 1 threads, but the job has 1 CPU cores"),
        ({"cpus_per_task": 4, "nodes": 2}, {"engine": {"threads": 5}}, "5 threads, but the job has 8"),
    ],
)
def test_a_job_with_too_little_room_is_refused(fields, recipe, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        Slurm(**fields).plan(Job(tiny_recipe(**recipe), str(tmp_path / "tiny")))


@pytest.mark.parametrize(
    ("text", "minutes"), [("30", 30), ("90:30", 90.5), ("2:00:00", 120), ("1-0", 1440), ("1-12:30", 2190), ("7-00:00:00", 10080)]
)
def test_time_limits_are_read_as_slurm_reads_them(text, minutes):
    assert minutes_of(text) == minutes


def test_a_submission_that_nobody_knows_is_an_error_that_says_where_to_look(tmp_path):
    with pytest.raises(ConfigError, match="ptm job ls"):
        chain_of(tmp_path, "tiny-a7")
    with pytest.raises(ConfigError, match="it left no exit code"):
        Chain(("12",), tmp_path).state("12")
    (tmp_path / "exit_code").write_text("10\n")
    assert Chain(("12",), tmp_path).state("12").phase == "stopped"


def test_a_run_outside_of_runs_is_found_by_the_record_of_its_submission(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cluster = Slurm(runs=str(tmp_path / "runs"))
    record = Record("far-a2", "41", str(tmp_path / "elsewhere" / "far"), 0.0, cluster_json(cluster), {})
    write_json(RECORDS / "far-a2.json", asdict(record))
    folder = tmp_path / "elsewhere" / "far" / "logs" / "submission-2"
    folder.mkdir(parents=True)
    (folder / "jobs").write_text("41\n42\n")
    assert chain_of(Path(cluster.runs), "41") == chain_of(Path(cluster.runs), "far-a2") == Chain(("41", "42"), folder)


# What the script does is tried with bash itself; scontrol, sbatch and scancel only write down that they were called.
CLIENT = '#!/bin/bash\necho "$(basename "$0") $*" >> "$CALLS"\necho 77\n'
CONTROL = CLIENT + 'echo " JobState=$STATE "\n'
DRIVER = """#!/bin/bash
trap 'echo TERM >> "$SIGNALS"; [ "$SAVES" = no ] || exit 10' TERM
echo started >> "$SIGNALS"
for _ in $(seq 100); do sleep 0.05; done
exit "$CODE"
"""


def ran(tmp_path, script, send=(), **variables):
    """Run a batch script with a driver that only waits, send signals to it, and return its exit code, what was called and what came."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"scontrol": CONTROL, "sbatch": CLIENT, "scancel": CLIENT, "ptm": DRIVER}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    calls, signals, path = tmp_path / "calls", tmp_path / "signals", tmp_path / "job.sh"
    calls.touch()
    signals.touch()
    path.write_text(script)
    more = {"CALLS": str(calls), "SIGNALS": str(signals), "SLURM_JOB_ID": "5", "CODE": "0", "SAVES": "yes", "STATE": "RUNNING"} | variables
    process = subprocess.Popen(["bash", path], env=os.environ | more | {"PATH": f"{tools}:{os.environ['PATH']}"}, cwd=tmp_path)
    for number in send:
        while "started" not in signals.read_text():
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(number)
    code = process.wait(60)
    return code, [line for line in calls.read_text().splitlines() if "show job" not in line], signals.read_text().split()


@pytest.mark.parametrize("code", [0, 20, 60, 70])
def test_the_exit_code_of_the_driver_is_that_of_the_job(code, tmp_path):
    assert ran(tmp_path, script_of(tmp_path), CODE=str(code)) == (code, [], ["started"])
    assert (tmp_path / "tiny/logs/submission-1/exit_code").read_text() == f"{code}\n"


def test_a_signal_makes_the_driver_save_once_and_the_job_is_requeued(tmp_path):
    sent = (signal.SIGUSR1, signal.SIGTERM)
    code, calls, came = ran(tmp_path, script_of(tmp_path), sent[:1])
    assert (code, calls, came) == (10, ["scontrol requeue 5"], ["started", "TERM"])


def test_a_second_signal_does_not_end_the_driver_while_it_saves(tmp_path):
    code, calls, came = ran(tmp_path, script_of(tmp_path), (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1), SAVES="no", CODE="10")
    assert (code, calls, came) == (10, ["scontrol requeue 5"], ["started", "TERM"])


def test_a_job_that_its_user_stopped_is_not_requeued(tmp_path):
    folder = tmp_path / "tiny/logs/submission-1"
    folder.mkdir(parents=True)
    (folder / "stop").touch()
    assert ran(tmp_path, script_of(tmp_path), (signal.SIGTERM,))[:2] == (10, [])


@pytest.mark.parametrize(("requeue", "calls"), [(True, []), (False, ["sbatch --parsable --dependency=singleton {}/job.sh", "scancel 77"])])
def test_a_job_that_was_cancelled_saves_and_does_not_come_back(requeue, calls, tmp_path):
    done = ran(tmp_path, script_of(tmp_path, requeue=requeue), (signal.SIGTERM,), STATE="COMPLETING")
    assert done == (10, [call.format(tmp_path) for call in calls], ["started", "TERM"])


@pytest.mark.parametrize(("send", "code", "calls"), [((signal.SIGUSR1,), 10, []), ((), 0, ["scancel 77"]), ((), 50, ["scancel 77"])])
def test_without_requeue_a_follower_waits_and_is_cancelled_when_nothing_is_left_to_do(send, code, calls, tmp_path):
    done, called, _ = ran(tmp_path, script_of(tmp_path, requeue=False), send, CODE=str(code))
    assert done == code
    assert called == [f"sbatch --parsable --dependency=singleton {tmp_path}/job.sh", *calls]
    assert (tmp_path / "tiny/logs/submission-1/jobs").read_text().split() == ["5", "77"]


def test_followers_come_to_an_end(tmp_path):
    folder = tmp_path / "tiny/logs/submission-1"
    folder.mkdir(parents=True)
    (folder / "jobs").write_text("1\n2\n5\n")
    assert ran(tmp_path, script_of(tmp_path, requeue=False, most_jobs=3))[1] == []
