"""A sweep for real: what fails is listed and tried again, what is finished is not, and Ctrl-C leaves every run ready to go on."""

import json
import os
import signal
import subprocess
import time
from itertools import pairwise

import pytest

from ptm_dist.events import read_events, steps_of
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.run import RunFolder
from tests.tiny import command, tiny_recipe

RATE = "optimizer.learning_rate"


def sweep(tmp_path, *words, **environment):
    return subprocess.run(
        command("sweep", tmp_path / "tiny.yaml", *words, "--runs", tmp_path / "sweep", "--cache", tmp_path / "cache"),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
        env=os.environ | environment,
        cwd=tmp_path,
    )


def write_recipe(tmp_path, steps):
    changes = {"stages": [{"name": "main", "steps": {"mlm": steps}}], "engine": {"workers": 1}, "checkpoint": {"every_steps": 4}}
    (tmp_path / "tiny.yaml").write_text(dump_recipe(tiny_recipe(**changes)))


def table(tmp_path):
    return json.loads((tmp_path / "sweep" / "sweep.json").read_text())["runs"]


def attempts(tmp_path):
    return {row["name"]: RunFolder(tmp_path / "sweep" / row["name"]).next_attempt_number - 1 for row in table(tmp_path)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_grid_of_four_on_ray_of_which_one_fails_and_is_tried_again(tmp_path):
    write_recipe(tmp_path, 8)
    grid = ("seed=7,8", f"{RATE}=1e-3,3e-3")
    listed = sweep(tmp_path, *grid, "--dry-run")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("new, 8 steps") == 4
    assert not (tmp_path / "sweep").exists(), "a dry run does nothing"

    faults = json.dumps([{"point": "step.begin", "rank": 0, "step": 5, "action": "kill", "count": 1}])
    first = sweep(tmp_path, *grid, "--parallel", "1", PTM_TESTING="1", PTM_FAULTS=faults, PTM_FAULTS_LOG=str(tmp_path / "faults"))
    assert first.returncode == 60, first.stdout + first.stderr
    assert "1 of 4 runs failed (tiny-seed-7-learning_rate-1e-3)" in first.stderr
    assert "The same command tries them again" in first.stderr
    states = {row["name"]: (row["state"], row["step"], row["exit_code"]) for row in table(tmp_path)}
    assert states.pop("tiny-seed-7-learning_rate-1e-3") == ("failed", 5, 60)
    assert set(states.values()) == {("finished", 8, None)}
    assert len(list((tmp_path / "cache").glob("examples-*"))) == 1, "equal data are prepared once"
    assert first.stdout.count("preparing its data") == 1

    second = sweep(tmp_path, *grid)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "4 runs, 3 of them finished" in second.stdout
    assert sorted(attempts(tmp_path).values()) == [1, 1, 1, 2], "what was finished was not touched"
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["finished"] * 4
    losses = [row["held_out"]["mlm"] for row in rows]
    assert all(one <= other for one, other in pairwise(losses))
    for row in rows:
        folder = RunFolder(tmp_path / "sweep" / row["name"])
        assert sorted(steps_of(folder.events_path)) == list(range(8))
        assert list(read_events(folder.events_path, "evaluated"))[-1]["loss"] == row["held_out"]["mlm"]
        assert folder.recipe().name == row["name"]
        assert str(folder.recipe().seed) == row["values"]["seed"]
    assert len(set(losses)) == 4, "they are four different runs"
    names = [
        line.split()[-1].rpartition("/")[2] for line in second.stdout.splitlines() if f"{tmp_path}/sweep/" in line and "finished" in line
    ]
    assert names == [row["name"] for row in rows], "the table is that of the file"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ctrl_c_saves_all_runs_and_the_same_command_ends_them(tmp_path):
    write_recipe(tmp_path, 300)
    words = ("seed=7,8,9", "checkpoint.every_steps=1000", "--launcher", "local", "--parallel", "2")
    place = ("--runs", tmp_path / "sweep", "--cache", tmp_path / "cache")
    process = subprocess.Popen(
        command("sweep", tmp_path / "tiny.yaml", *words, *place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    logs = [RunFolder(tmp_path / "sweep" / f"tiny-seed-{seed}").events_path for seed in (7, 8)]
    while process.poll() is None and not all(len(steps_of(log)) > 2 for log in logs):  # Side by side, or this never ends.
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 10, output + errors
    assert "all runs finish their step and save" in errors
    states = {row["name"]: row["state"] for row in table(tmp_path)}
    assert states == {"tiny-seed-7": "stopped", "tiny-seed-8": "stopped", "tiny-seed-9": "waiting"}
    for log in logs:
        assert [event["step"] for event in read_events(log, "checkpoint_saved")] == [max(steps_of(log)) + 1]

    again = sweep(tmp_path, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {row["state"] for row in table(tmp_path)} == {"finished"}
    for row in table(tmp_path):
        done = [event["step"] for event in read_events(RunFolder(tmp_path / "sweep" / row["name"]).events_path, "step")]
        assert done == list(range(300)), "no step was done twice"
