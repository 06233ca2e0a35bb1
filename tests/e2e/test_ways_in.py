"""The other ways to train: a trial, torchrun, a cluster's Python without Ray, and golden losses that guard refactors."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from ptm_dist.data.loader import Reader
from ptm_dist.events import read_events
from ptm_dist.report import fill_masks, load_run
from ptm_dist.store import read_json, write_json
from ptm_dist.train import choices
from ptm_dist.train.attempt import reading_of, schedule_of
from ptm_dist.train.context import WorkerContext
from ptm_dist.train.launch import launch
from ptm_dist.train.module import PretrainingModel
from tests.tiny import STEPS, command, ledger, ptm

PLAN = {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps([{"point": "step.begin", "rank": 1, "step": 13, "action": "kill", "count": 1}])}
GOLDEN = Path(__file__).parent.parent / "golden" / "losses.json"


def test_golden_losses(make_run):
    """Losses of the committed text, recorded once; a change of the arithmetic must explain itself by changing the file."""
    run, _ = make_run(engine={"workers": 1, "zero_stage": 0}, model={"dropout": 0.0, "attention_dropout": 0.0})
    launch(run, run.next_attempt(), 1)
    found = [loss for _, loss in ledger(run.path)]
    if os.environ.get("PTM_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found) + "\n")
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-3)


def test_trial_says_what_a_run_needs_and_leaves_nothing(make_run, tmp_path):
    _, recipe = make_run()
    before = sorted(tmp_path.iterdir())
    result = ptm("train", recipe, "--trial", "--launcher", "local", "--cache", tmp_path / "cache")
    assert result.returncode == 0, result.stderr
    for word in ("parameters", "step", "peak memory", "checkpoint", "restore", "the whole run", "held-out loss now"):
        assert word in result.stdout
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before
    assert not list(Path(tempfile.gettempdir()).glob("ptm-trial-*"))


def test_torchrun_gives_the_same_losses(make_run):
    run, _ = make_run()
    torchrun = Path(sys.executable).with_name("torchrun")
    words = [str(torchrun), "--nproc-per-node", "2", "--standalone", "-m", "ptm_dist.train", str(run.path)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    other, _ = make_run("other")
    launch(other, other.next_attempt(), 2)
    assert ledger(run.path) == ledger(other.path)


def test_training_imports_without_ray_typer_and_rich():
    blocked = "import sys\nfor name in ('ray', 'typer', 'rich'): sys.modules[name] = None\nimport ptm_dist.train.worker"
    subprocess.run([sys.executable, "-c", blocked], check=True, timeout=60)


def test_a_run_can_be_read_from_python(make_run):
    run, _ = make_run(engine={"workers": 1})
    launch(run, run.next_attempt(), 1)
    found = load_run(run.path)
    steps = found.steps()
    assert list(steps.index) == list(range(STEPS))
    assert (steps["tokens"] > 0).all()
    measured = found.evaluations()
    assert list(measured["step"]) == [0, 20, STEPS]
    assert (measured["unigram_entropy"] > 0).all()
    assert sum(p.numel() for p in found.model().parameters()) > 0
    for filled in fill_masks(found):
        assert len(filled.guesses) == 3
        assert 0 < filled.guesses[0][1] <= 1


def test_every_rank_has_a_log_and_the_log_names_the_metrics(make_run):
    run, _ = make_run()
    launch(run, run.next_attempt(), 2)
    assert sorted(path.name for path in run.logs(1).iterdir()) == ["rank-0.log", "rank-1.log"]
    started = next(read_events(run.events_path, "attempt_started"))
    assert started["metrics"].startswith("http://127.0.0.1:")
    assert started["world"] == 2


def test_auto_is_chosen_once_and_kept(make_run):
    """What fits on this machine is more than the 8 rows that each of 2 workers has, so all of them go at once."""
    run, recipe = make_run(batch={"micro": "auto"}, engine={"precision": "auto"})
    killed = ptm("train", recipe, "--run", run.path, "--launcher", "local", **PLAN)
    assert killed.returncode == 60, killed.stderr
    assert "micro: auto is 8: " in killed.stdout
    assert "precision: auto is fp32: there is no GPU" in killed.stdout
    assert read_json(run.choices_path)["micro"][0] == 8
    write_json(run.choices_path, {"micro": [2, "a machine with less memory"], "precision": ["fp32", "there is no GPU"]})
    again = ptm("train", recipe, "--run", run.path, "--launcher", "local")
    assert again.returncode == 0, again.stderr
    assert "micro: auto is 2: a machine with less memory" in again.stdout
    plain, _ = make_run("plain")
    launch(plain, plain.next_attempt(), 2)
    assert [loss for _, loss in ledger(run.path)] == pytest.approx([loss for _, loss in ledger(plain.path)], rel=2e-2)


def test_what_fits_follows_from_memory(make_run, monkeypatch):
    run, _ = make_run()
    recipe, data = run.recipe(), run.data()
    alone = WorkerContext(0, 1, 0, 1, torch.device("cpu"))
    schedule, reader = schedule_of(recipe, data), Reader(reading_of(recipe, data, 0, 1))
    most, why = choices.largest_micro(recipe, alone, schedule, reader)
    assert most == 16, "the whole batch"
    row_bytes = float(why.split()[0]) * 2**20
    # Two layers of width 32 keep, for each of 32 tokens, some tens of vectors of 32 floats.
    assert 20 * 2 * 32 * 32 * 4 < row_bytes < 100 * 2 * 32 * 32 * 4
    for rows, fits in ((5, 4), (3, 2), (0.1, 1)):
        states = choices.state_bytes(sum(p.numel() for p in PretrainingModel(recipe, data.vocabulary).parameters()), 1, 1)
        free = int((states + rows * 1.5 * row_bytes) / 0.8)
        monkeypatch.setattr(choices, "free_bytes", lambda _, free=free: free)
        assert choices.largest_micro(recipe, alone, schedule, reader)[0] == fits


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_prepares_its_data_stops_when_asked(tmp_path, number):
    words = command(
        "train", Path(__file__).parents[2] / "configs" / "quickstart.yaml", "--run", tmp_path / "run", "--cache", tmp_path / "data"
    )
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        for line in process.stdout:
            if line.startswith("prepare documents"):
                break
        process.send_signal(number)
        process.send_signal(number if number == signal.SIGTERM else 0)  # Slurm asks more than once.
        _, told = process.communicate(timeout=120)
    assert process.returncode == 11, told
    assert told == "exit 11: stopped; what was finished is kept, and the same command goes on from there\n"
