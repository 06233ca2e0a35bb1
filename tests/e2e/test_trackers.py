"""Trackers follow real runs: what TensorBoard reads of a run that was killed and went on is its event log."""

import importlib.util

import numpy as np
import pytest

from ptm_dist.events import read_events
from tests.e2e.test_resume import LOCAL, plan
from tests.tiny import STEPS, ledger, ptm


@pytest.mark.slow
def test_tensorboard_reads_each_step_of_a_killed_and_resumed_run_once(make_run):
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the package tensorboard reads the files"
    )
    run, recipe = make_run(metrics={"trackers": [{"kind": "tensorboard", "every_steps": 1}]})
    words = ("train", recipe, "--run", run.path, *LOCAL)
    killed = ptm(*words, **plan("step.begin", 0, 21))
    assert killed.returncode == 60, killed.stderr
    again = ptm(*words)
    assert again.returncode == 0, again.stderr
    found = reading.EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    told = [(event.step - 1, event.value) for event in found.Scalars("loss/mlm")]
    assert told == [(step, np.float32(loss)) for step, loss in ledger(run.path)]
    assert len(told) == STEPS
    assert [event.step for event in found.Scalars("held_out/mlm/masked_lm/loss")] == [0, 20, 40]
    assert [event.step for event in found.Scalars("checkpoint/bytes")] == [8, 16, 24, 32, 40]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_tracker_whose_package_is_missing_says_what_to_install(make_run):
    run, recipe = make_run(metrics={"trackers": [{"kind": "wandb"}]})
    refused = ptm("train", recipe, "--run", run.path, *LOCAL)
    assert refused.returncode == 20, refused.stderr
    assert 'pip install "ptm_dist[trackers]"' in refused.stderr
    assert not list(read_events(run.events_path, "step"))
