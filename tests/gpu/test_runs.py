"""Runs on one GPU: killed and resumed bit for bit at every stage and precision, and near what a CPU comes to."""

from __future__ import annotations

import pytest

from ptm_dist.events import read_events, steps_of
from tests.e2e.test_resume import LOCAL, finish, plan
from tests.tiny import STEPS, ledger, ptm

ALONE = {"workers": 1, "timeout_seconds": 120}
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
QUIET = {"dropout": 0.0, "attention_dropout": 0.0}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["adamw", "lamb"])
def test_40_steps_are_17_a_kill_and_23(make_run, stage, precision, kind):
    changes = {"engine": ALONE | {"zero_stage": stage, "precision": precision}, "optimizer": {"kind": kind}}
    undisturbed, _ = make_run("undisturbed", **changes)
    run, recipe = make_run(**changes)
    assert ptm("train", recipe, "--run", run.path, *LOCAL, **plan("step.begin", 0, 17)).returncode == 60
    assert max(steps_of(run.events_path)) == 16
    assert finish(run) == finish(undisturbed)
    assert len(ledger(run.path)) == STEPS


def test_packed_rows_repeat_bit_for_bit(make_run):
    """Rows without attention dropout lie packed on a GPU; `strict` holds for their kernel too."""
    changes = {"engine": ALONE | {"precision": "bf16"}, "model": QUIET}
    runs = [make_run(name, **changes)[0] for name in ("first", "second")]
    assert finish(runs[0]) == finish(runs[1])


def test_a_cpu_comes_to_the_same(make_run):
    changes = {"engine": ALONE | {"precision": "fp32"}, "model": QUIET}
    (there, file), (here, again) = make_run("cpu", **changes), make_run("gpu", **changes)
    for run, recipe, environment in ((there, file, NO_GPU), (here, again, {})):
        done = ptm("train", recipe, "--run", run.path, *LOCAL, **environment)
        assert done.returncode == 0, done.stderr
    found, wanted = dict(ledger(here.path)), dict(ledger(there.path))
    assert [found[step] for step in range(STEPS)] == pytest.approx([wanted[step] for step in range(STEPS)], rel=1e-3)


@pytest.mark.parametrize("stage", [0, 2])
def test_a_checkpoint_moves_between_gpu_and_cpu(make_run, stage):
    changes = {"engine": ALONE | {"precision": "fp32", "zero_stage": stage}, "model": QUIET}
    whole, _ = make_run("whole", **changes)
    run, recipe = make_run(**changes)
    assert ptm("train", recipe, "--run", run.path, *LOCAL, **plan("step.begin", 0, 17)).returncode == 60
    again = ptm("train", recipe, "--run", run.path, *LOCAL, **NO_GPU)
    assert again.returncode == 0, again.stderr
    assert [loss for _, loss in ledger(run.path)] == pytest.approx([loss for _, loss in finish(whole)], rel=1e-3)


def test_what_is_left_to_the_machine(make_run):
    """bf16, a micro-batch that fits, and what the GPU can do at best, in the log; `fast` promises rows and masks."""
    run, recipe = make_run(engine=ALONE | {"precision": "auto", "determinism": "fast"}, batch={"micro": "auto"})
    done = ptm("train", recipe, "--run", run.path, *LOCAL)
    assert done.returncode == 0, done.stderr
    chosen = {event["key"]: event["value"] for event in read_events(run.events_path, "chosen")}
    assert chosen["precision"].startswith("bf16: ")
    assert chosen["micro"].startswith("16: ")
    (started,) = read_events(run.events_path, "attempt_started")
    assert started["repeats"] == "rows and masks"
    assert started["ranks"][0]["gpu"]
    assert started["peak_flops"] > 1e14


def test_ray_gives_a_worker_its_gpu(make_run):
    run, recipe = make_run(engine=ALONE | {"precision": "bf16"}, model=QUIET)
    done = ptm("train", recipe, "--run", run.path)
    assert done.returncode == 0, done.stderr
    here, _ = make_run("here", engine=ALONE | {"precision": "bf16"}, model=QUIET)
    assert ledger(run.path) == finish(here)
    (started,) = read_events(run.events_path, "attempt_started")
    assert started["ranks"][0]["gpu"]
