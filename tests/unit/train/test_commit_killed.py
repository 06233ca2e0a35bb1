"""Checkpoints: killed anywhere, the old one or the new one is whole."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from commit_ranks import BEFORE_COMMIT, POINTS, LostError, latest_step, names, on_all_ranks, require_no_half_checkpoint, save

from ptm_dist.train.commit import Alone, CheckpointStore, list_quarantined

KILLED = """
import sys
from pathlib import Path
from ptm_dist.train.commit import Alone, CheckpointStore
def write(directory):
    paths = [directory / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(bytes(5000))
    return paths
store = CheckpointStore(Path(sys.argv[1]), Alone())
for step in map(int, sys.argv[2:]):
    store.save(step, write, {"step": step})
"""


def run_killed(root, *steps, **environment):
    return subprocess.Popen([sys.executable, "-c", KILLED, str(root), *map(str, steps)], env=os.environ | environment)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_old_one_is_chosen_before_the_rename_and_the_new_one_after(tmp_path, point):
    plan = [{"point": f"ckpt.{point}", "step": 24, "action": "kill"}]
    process = run_killed(tmp_path, 8, 16, 24, PTM_FAULTS=json.dumps(plan), PTM_TESTING="1")
    assert process.wait(timeout=30) == -signal.SIGKILL
    require_no_half_checkpoint(tmp_path)
    store = CheckpointStore(tmp_path, Alone())
    store.clean()
    assert store.latest().step == (16 if point in BEFORE_COMMIT else 24)
    assert not names(tmp_path, ".")
    assert save(store, 32)
    assert store.steps()[-1] == 32
    assert len(store.steps()) == 2


def test_killed_at_random_times_there_is_always_a_whole_one(tmp_path):
    seen = []
    for trial in range(12):
        process = run_killed(tmp_path, *range(trial * 10_000 + 1, trial * 10_000 + 9_000))
        deadline = time.monotonic() + 20
        while (max(CheckpointStore(tmp_path, Alone()).steps(), default=0) <= trial * 10_000) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(random.Random(trial).random() * 0.02)
        process.kill()
        process.wait(timeout=30)
        require_no_half_checkpoint(tmp_path)
        store = CheckpointStore(tmp_path, Alone())
        store.clean()
        seen.append(store.latest().step)
    assert seen == sorted(seen)
    assert not list_quarantined(tmp_path)


@pytest.mark.parametrize("dies_at", range(4))
def test_a_rank_that_dies_between_any_two_agreements_leaves_the_old_one_or_the_new_one(tmp_path, dies_at):
    on_all_ranks(2, lambda peers: save(CheckpointStore(tmp_path, peers), 8))
    results = on_all_ranks(2, lambda peers: save(CheckpointStore(tmp_path, peers), 16), dies_at)
    if dies_at < 3:  # A save has three agreements: the plan, the files, the commit.
        assert isinstance(results[0], LostError)
    require_no_half_checkpoint(tmp_path)
    # Once every file is proved on every rank, rank 0 commits alone.
    assert latest_step(tmp_path) == (16 if dies_at >= 2 else 8)
