"""Why an attempt ended: more than its exit code says."""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from ptm_dist.driver.policy import MEANT, Cause
from ptm_dist.errors import CAUSES, PeerLostError, PtmError, StoppedError
from ptm_dist.events import read_events
from ptm_dist.run import RunFolder
from ptm_dist.train.committed import list_checkpoints

OOM_COUNTERS: Final = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""Where the kernel counts processes that it ended for want of memory, in control groups of both versions."""


def cause_of_end(run: RunFolder, attempt: int, error: PtmError | None, out_of_memory: bool) -> Cause:
    """Return the cause of an attempt that ended with `error`; `out_of_memory`: the kernel has ended a process here meanwhile."""
    if error is None:
        return "finished"
    if isinstance(error, StoppedError):
        asked = [event["reason"] for event in read_events(run.events_path, "stopping") if event["attempt"] == attempt]
        return cast(Cause, asked[-1]) if asked and asked[-1] in MEANT else "stopped"
    if isinstance(error, PeerLostError):
        if out_of_memory:
            return "oom"
        return "hung" if run.stacks(attempt) else "lost_worker"
    return cast(Cause, CAUSES[error.exit_code])


def oom_kills() -> int:
    """Return how many processes of this container the kernel has ended for want of memory; 0 where it does not say."""
    for name in OOM_COUNTERS:
        if (path := Path(name)).exists():
            counts = dict(line.split(maxsplit=1) for line in path.read_text(encoding="ascii").splitlines() if " " in line)
            return int(counts.get("oom_kill", 0))
    return 0


def newest_step(run: RunFolder) -> int:
    """Return the step of the newest checkpoint, 0 if there is none."""
    return max((info.step for info in list_checkpoints(run.checkpoints)), default=0)


def steps_done(run: RunFolder, attempt: int, start: int) -> int:
    """Return the updates done when an attempt that began at `start` had ended."""
    return max((event["step"] + 1 for event in read_events(run.events_path, "step") if event["attempt"] == attempt), default=start)
