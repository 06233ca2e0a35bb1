"""Runs inside a Ray cluster and prints what each node is like, as one line of JSON; sent as a file of its own, so it imports only Ray."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
from typing import Any

MARK = "ptm-probe: "
"""Begins the line that holds the result."""
SECONDS = 60.0


class Node:
    """Looks at the node that it was placed on."""

    def look(self, folders: list[str], stamp: str, name: str) -> dict[str, Any]:
        """Return versions, room and what could be written; leave a file in each folder that other nodes should see."""
        shared = "/dev/shm"  # noqa: S108 - that is its name on Linux
        return {
            "host": platform.node(),
            "python": platform.python_version(),
            "packages": {package: _version(package) for package in ("ray", "ptm_dist", "torch", "deepspeed")},
            "shared_bytes": shutil.disk_usage(shared).total if os.path.exists(shared) else 0,
            "folders": {folder: _written(folder, stamp, name) for folder in folders},
        }

    def clock(self) -> float:
        """Return the time of this node."""
        return time.time()

    def seen(self, folders: list[str], stamp: str) -> dict[str, list[str]]:
        """Return the nodes whose files are seen here, by folder."""
        return {folder: _seen(folder, stamp) for folder in folders}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _written(folder: str, stamp: str, name: str) -> dict[str, Any]:
    path = os.path.join(folder, f".ptm-check-{stamp}-{name}")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, "w") as file:
            file.write(stamp)
        with open(path) as file:
            fine = file.read() == stamp
        return {"error": "" if fine else "what was written is not what is read", "free_bytes": shutil.disk_usage(folder).free}
    except OSError as error:
        return {"error": error.strerror or str(error), "free_bytes": 0}


def _seen(folder: str, stamp: str) -> list[str]:
    begin = f".ptm-check-{stamp}-"
    try:
        return sorted(name.removeprefix(begin) for name in os.listdir(folder) if name.startswith(begin))
    except OSError:
        return []


def _clear(folders: list[str], stamp: str) -> None:
    for folder in folders:
        for name in _seen(folder, stamp):
            try:
                os.remove(os.path.join(folder, f".ptm-check-{stamp}-{name}"))
            except OSError:
                continue


def _skew(node: Any, get: Any) -> tuple[float, float]:
    """Return how far a node's clock is ahead of the driver's, and how exactly that is known: half of the shortest way there and back."""
    found = []
    for _ in range(5):
        before = time.time()
        there = get(node.clock.remote(), timeout=SECONDS)
        after = time.time()
        found.append(((after - before) / 2, there - (before + after) / 2))
    unsure, skew = min(found)
    return skew, unsure


def probe(folders: list[str], stamp: str) -> list[dict[str, Any]]:
    """Return what each node that is alive is like."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(log_to_driver=False)
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    remote: Any = ray.remote(num_cpus=0)(Node)
    placed = {name: remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)).remote() for name in nodes}
    found = []
    for name, actor in placed.items():
        told: dict[str, Any] = {"node": name, "resources": nodes[name].get("Resources", {})}
        try:
            told |= ray.get(actor.look.remote(folders, stamp, name), timeout=SECONDS)
            told["skew_seconds"], told["unsure_seconds"] = _skew(actor, ray.get)
        except Exception as error:
            told["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        found.append(told)
    for told in found:
        if "error" not in told:
            told["seen"] = ray.get(placed[told["node"]].seen.remote(folders, stamp), timeout=SECONDS)
    _clear(folders, stamp)
    return found


if __name__ == "__main__":
    print(MARK + json.dumps(probe(sys.argv[2:], sys.argv[1])), flush=True)
