"""What a Slurm job needs, looked at one by one from a login node."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ptm_dist.clusters.commands import answer
from ptm_dist.clusters.slurm_probe import node_findings
from ptm_dist.clusters.slurm_script import script_of
from ptm_dist.doctor import Finding

if TYPE_CHECKING:
    from ptm_dist.clusters.slurm import Slurm


def findings(cluster: Slurm) -> Iterator[Finding]:
    """Look for the clients, ask for the partition and its limit, and let sbatch check a job without submitting it."""
    for client in ("sbatch", "srun", "scontrol", "scancel", "sinfo"):
        fine, told = answer([client, "--version"])
        yield Finding(fine, f"{client}: {told}" if fine else told)
        if not fine:
            return
    fine, told = answer(["scontrol", "ping"])
    up = fine and " is UP" in told
    yield Finding(up, told if up else f"{told}. Is this a login node of the cluster?")
    if not up:
        return
    yield from _partition(cluster)
    fine, told = answer(["sbatch", "--test-only"], script_of(cluster, None))
    advice = "" if fine else ". Change partition, account, nodes, gpus_per_node, cpus_per_task, memory or time"
    yield Finding(fine, "sbatch would take the job" if fine else told + advice)
    yield _writable("runs", Path(cluster.runs))
    yield _writable("cache", Path(cluster.cache))
    if fine:
        yield from node_findings(cluster)


def _partition(cluster: Slurm) -> Iterator[Finding]:
    fine, told = answer(["sinfo", "--noheader", "--format=%P|%l|%D|%G"])
    rows = [line.split("|") for line in told.splitlines() if line.count("|") == 3] if fine else []
    named = [row for row in rows if (row[0].rstrip("*") == cluster.partition if cluster.partition else row[0].endswith("*"))]
    if not named:
        known = ", ".join(dict.fromkeys(row[0].rstrip("*") for row in rows)) or "none"
        yield Finding(False, f"partition {cluster.partition or 'by default'}: there is none. Set partition to one of: {known}")
        return
    name, limit = f"partition {named[0][0].rstrip('*')}", named[0][1]
    enough = limit == "infinite" or minutes_of(cluster.time) <= minutes_of(limit)
    yield Finding(enough, f"{name}: time limit {limit}" + ("" if enough else f"; lower time, which is {cluster.time}"))
    nodes = sum(int(row[2]) for row in named)
    yield Finding(nodes >= cluster.nodes, f"{name}: {nodes} nodes" + ("" if nodes >= cluster.nodes else f"; lower nodes: {cluster.nodes}"))
    if cluster.gpus_per_node:
        there = any("gpu" in row[3] for row in named)
        yield Finding(there, f"{name}: {'has GPUs' if there else 'no node has GPUs; set gpus_per_node: 0, or take another partition'}")


def minutes_of(text: str) -> float:
    """Return the minutes of a time limit as Slurm writes it."""
    days, dash, rest = text.rpartition("-")
    parts = [float(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0.0, 0.0)[:3]
    else:
        hours, minutes, seconds = 0.0, *(*parts, 0.0)[:2]
    return float(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _writable(field: str, path: Path) -> Finding:
    probe = path / f".probe-{time.time_ns()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding(False, f"{field}: {path.absolute()} cannot be written ({error.strerror}). Choose a folder on shared storage.")
    return Finding(True, f"{field}: {path.absolute()} can be written from here; all nodes must see it under this path")
