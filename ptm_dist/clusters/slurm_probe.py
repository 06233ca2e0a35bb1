"""A look at the nodes of a Slurm job themselves: a step of a few seconds on as many nodes as a job has."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ptm_dist.clusters.commands import answer
from ptm_dist.doctor import Finding

if TYPE_CHECKING:
    from ptm_dist.clusters.slurm import Slurm

MARK: Final = "ptm-probe: "
LEAST_SHARED_BYTES: Final = 256 << 20
MOST_SKEW_SECONDS: Final = 2.0
WAIT_SECONDS: Final = 30
"""How long free nodes are waited for."""
PACKAGES: Final = ("ptm_dist", "ray", "torch")
# Runs with the Python that `setup` provides, so it imports nothing of ptm_dist.
PROGRAM: Final = """
import importlib.metadata, json, os, platform, shutil, subprocess, sys, time
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
def written(folder):
    try:
        os.makedirs(folder, exist_ok=True)
        open(os.path.join(folder, f".ptm-check-{sys.argv[1]}-{platform.node()}"), "w").close()
        return ""
    except OSError as error:
        return error.strerror or str(error)
def gpus():
    if shutil.which("nvidia-smi") is None:
        return 0
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.count("GPU ")
told = {"node": platform.node(), "python": platform.python_version(), "time": time.time(), "gpus": gpus()}
told["packages"] = {name: version(name) for name in ("ptm_dist", "ray", "torch")}
told["shared_bytes"] = shutil.disk_usage("/dev/shm").total if os.path.exists("/dev/shm") else 0
told["folders"] = {folder: written(folder) for folder in sys.argv[2:]}
print("ptm-probe: " + json.dumps(told), flush=True)
"""


def node_findings(cluster: Slurm) -> Iterator[Finding]:
    """Look at versions, shared memory, GPUs and clocks of nodes, and whether what they write is seen here."""
    stamp, folders = str(time.time_ns()), [str(Path(folder).absolute()) for folder in (cluster.runs, cluster.cache)]
    inside = "\n".join(["set -e", *cluster.setup, 'exec python - "$@"'])
    before = time.time()
    fine, told = answer([*_step(cluster), "bash", "-c", inside, "probe", stamp, *folders], PROGRAM)
    after = time.time()
    found = [json.loads(line.removeprefix(MARK)) for line in told.splitlines() if line.startswith(MARK)] if fine else []
    if not found:
        busy = "Unable to allocate" in told or "immediate" in told
        yield Finding(
            busy, f"nodes: none was free for {WAIT_SECONDS} s, so none was looked at" if busy else f"nodes: {told}. Look at `setup`."
        )
        return
    for node in sorted(found, key=lambda node: node["node"]):
        problems = list(_problems(cluster, node, (before, after), stamp))
        shown = f"Python {node['python']}, ray {node['packages']['ray']}, {node['shared_bytes'] >> 20:,} MiB of shared memory"
        yield Finding(not problems, f"node {node['node']}: {'; '.join(problems) or shown}")
    for folder in folders:
        for path in Path(folder).glob(f".ptm-check-{stamp}-*"):
            path.unlink(missing_ok=True)


def _step(cluster: Slurm) -> list[str]:
    words = [
        "srun",
        f"--immediate={WAIT_SECONDS}",
        "--quiet",
        f"--nodes={cluster.nodes}",
        f"--ntasks={cluster.nodes}",
        "--time=5",
        "--mem=1G",
    ]
    words += [f"--partition={cluster.partition}"] if cluster.partition else []
    words += [f"--account={cluster.account}"] if cluster.account else []
    return words + ([f"--gpus-per-node={cluster.gpus_per_node}"] if cluster.gpus_per_node else [])


def _problems(cluster: Slurm, node: dict[str, Any], during: tuple[float, float], stamp: str) -> Iterator[str]:
    here = {name: importlib.metadata.version(name) for name in PACKAGES} | {"Python": platform.python_version()}
    there = node["packages"] | {"Python": node["python"]}
    for name, version in here.items():
        if not there[name]:
            yield f"{name} is missing; let `setup` provide it"
        elif there[name] != version:
            yield f"{name} {there[name]}, but {version} here; install the same"
    if node["shared_bytes"] < LEAST_SHARED_BYTES:
        yield f"{node['shared_bytes'] >> 20} MiB of shared memory; enlarge /dev/shm to 256 at least"
    if node["gpus"] < cluster.gpus_per_node:
        yield f"{node['gpus']} GPUs, but gpus_per_node is {cluster.gpus_per_node}"
    ahead = max(during[0] - node["time"], node["time"] - during[1])
    if ahead > MOST_SKEW_SECONDS:
        yield f"its clock is {ahead:.0f} s off; synchronise it (chrony, ntpd)"
    for folder, error in node["folders"].items():
        if error:
            yield f"{folder} cannot be written ({error})"
        elif not (Path(folder) / f".ptm-check-{stamp}-{node['node']}").exists():
            yield f"what it writes to {folder} is not seen here; choose a folder on shared storage"
