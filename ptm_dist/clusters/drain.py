"""What a pod does before it goes: `python -m ptm_dist.clusters.drain RUN --seconds N [--head]`, called by Kubernetes (preStop).

The head's pod sends the driver SIGTERM, once, and waits until it has saved and ended. A pod of workers gives Ray notice that its node
goes, so that the driver saves and places the workers elsewhere, and waits until their attempt has ended.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ptm_dist.events import read_events
from ptm_dist.kept import is_running
from ptm_dist.store import read_json

LOOK_SECONDS: Final = 0.5


def drain_head(run: Path, seconds: float) -> bool:
    """Ask the driver of a run that runs here to save and stop; return whether it has ended in time, or was not there."""
    drivers = [note["driver"] for note in map(read_json, run.glob("logs/driver-*.json")) if _is_here(note)]
    for driver in drivers:
        with suppress(ProcessLookupError):
            os.kill(driver["pid"], signal.SIGTERM)
    return _wait(lambda: any(is_running(driver) for driver in drivers), seconds)


def drain_node(run: Path, seconds: float, notice: Callable[[float], None]) -> bool:
    """Give notice that this node goes; return whether the attempt that was running has ended in time, or none was."""
    notice(seconds)
    attempt = _running_attempt(run)
    return _wait(lambda: attempt is not None and _running_attempt(run) == attempt, seconds)


def give_notice(seconds: float) -> None:
    """Tell Ray that the node on which this runs is about to go; RAY_ADDRESS says which Ray."""
    import psutil
    import ray

    ray.init(log_to_driver=False)
    # By address: where several nodes share a host, Ray would take its head for the node that is meant.
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    for node in ray.nodes():
        if node["Alive"] and node["NodeManagerAddress"] in own:
            words = [f"--node-id={node['NodeID']}", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=the pod is being deleted"]
            limit = f"--deadline-remaining-seconds={seconds:.0f}"
            subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "drain-node", *words, limit], check=False)


def _is_here(note: dict[str, Any]) -> bool:
    return note["exit_code"] is None and note["host"] == platform.node() and is_running(note["driver"])


def _running_attempt(run: Path) -> int | None:
    placed = [event["attempt"] for event in read_events(run / "supervision.jsonl", "attempt_placed")]
    ended = {event["attempt"] for event in read_events(run / "supervision.jsonl", "attempt_ended")}
    return placed[-1] if placed and placed[-1] not in ended else None


def _wait(goes_on: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while goes_on():
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def main() -> None:
    """Drain this pod; never fail, since Kubernetes would only end the pod sooner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--head", action="store_true")
    words = parser.parse_args()
    in_time = drain_head(words.run, words.seconds) if words.head else drain_node(words.run, words.seconds, give_notice)
    print(f"drain: {'done' if in_time else f'not done after {words.seconds:.0f} s'}", flush=True)


if __name__ == "__main__":
    main()
