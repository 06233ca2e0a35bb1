"""Waiting for a run that another process does."""

import time

from ptm_dist.events import steps_of
from ptm_dist.run import RunFolder

LONGEST_SECONDS = 300


def until_step(run, step):
    """Wait until a run has done a step."""
    path, deadline = RunFolder(run).events_path, time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        if path.exists() and max(steps_of(path), default=-1) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"{run}: step {step} was not reached in {LONGEST_SECONDS} s")
