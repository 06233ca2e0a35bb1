"""Looks at a Ray cluster before anything is submitted: from here, and from within by a small job on every node."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ptm_dist.clusters import probe
from ptm_dist.clusters.ray_client import client_of, explained, submitted
from ptm_dist.doctor import LEAST_FREE_BYTES, Finding
from ptm_dist.errors import ConfigError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from ptm_dist.clusters.ray import Ray

PROBE_SECONDS: Final = 180.0
LARGEST_SKEW_SECONDS: Final = 2.0
LEAST_SHARED_BYTES: Final = 256 << 20


def check(cluster: Ray) -> Iterator[Finding]:
    """Yield what was found; what cannot be looked at because something before it failed is left out."""
    try:
        client = client_of(cluster.address, cluster.token_file)
        found = _versions(client)
    except ConfigError as error:
        yield Finding(False, str(error))
        return
    yield Finding(True, f"{cluster.address} answers")
    yield from of_address(cluster.address, cluster.token_file, _asks_for_token(cluster.address))
    yield from found
    try:
        nodes = _probed(cluster, client)
    except ConfigError as error:
        yield Finding(False, str(error))
        return
    yield from of_nodes(nodes, [cluster.runs, cluster.cache])
    yield from of_room(nodes, cluster.workers.least or 1)


def of_address(address: str, token_file: str | None, asks: bool) -> Iterator[Finding]:
    """Yield what is to be said of who may reach the cluster."""
    if not asks:
        yield Finding(
            False,
            "the cluster asks nobody for a token: whoever reaches it can run anything. Start Ray with RAY_AUTH_MODE=token on every node",
        )
    elif token_file:
        yield Finding(True, f"the cluster asks for a token, and takes that of {token_file}")
    from ptm_dist.clusters.ray import is_loopback

    if token_file and urlsplit(address).scheme == "http" and not is_loopback(address):
        yield Finding(False, "the token travels unencrypted: use https, or a tunnel (ssh -L 8265:127.0.0.1:8265 HEAD) and 127.0.0.1")


def of_nodes(nodes: Sequence[dict[str, Any]], folders: Sequence[str]) -> Iterator[Finding]:
    """Yield a line for each thing that a node may lack."""
    ours = {"ray": importlib.metadata.version("ray"), "ptm_dist": importlib.metadata.version("ptm_dist")}
    for node in nodes:
        name = f"node {node.get('host') or node['node'][:8]}"
        if "error" in node:
            yield Finding(False, f"{name}: could not be looked at ({node['error']}); is it overloaded, or about to leave?")
            continue
        yield Finding(
            node["python"].rpartition(".")[0] == platform.python_version().rpartition(".")[0],
            f"{name}: Python {node['python']} (here {platform.python_version()}; the same minor version is needed)",
        )
        for package, version in ours.items():
            found = node["packages"][package] or "missing"
            yield Finding(found == version, f"{name}: {package} {found}" + ("" if found == version else f"; install {version}, as here"))
        yield Finding(
            node["shared_bytes"] >= LEAST_SHARED_BYTES,
            f"{name}: {node['shared_bytes'] / 2**20:,.0f} MiB of shared memory (256 are needed; containers: --shm-size)",
        )
        skew, unsure = node["skew_seconds"], node["unsure_seconds"]
        yield Finding(
            abs(skew) <= LARGEST_SKEW_SECONDS + unsure,
            f"{name}: clock {skew:+.2f} s from the head's (at most {LARGEST_SKEW_SECONDS:.0f}; run chrony or ntpd)",
        )
        for folder in folders:
            yield _of_folder(name, folder, node, [other["node"] for other in nodes if "error" not in other])


def of_room(nodes: Sequence[dict[str, Any]], least: int) -> Iterator[Finding]:
    """Yield whether the least number of workers has a CPU each, and a GPU each where there are any."""
    cpus, gpus = (sum(node["resources"].get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    yield Finding(cpus >= least, f"{cpus:g} CPUs on {len(nodes)} nodes, for at least {least} workers")
    if gpus:
        yield Finding(gpus >= least, f"{gpus:g} GPUs, for at least {least} workers")


def _of_folder(name: str, folder: str, node: dict[str, Any], others: Sequence[str]) -> Finding:
    found = node["folders"][folder]
    if found["error"]:
        return Finding(False, f"{name}: {folder} cannot be written ({found['error']}); mount shared storage there, writable for Ray's user")
    missing = sorted(set(others) - set(node["seen"][folder]))
    if missing:
        return Finding(
            False, f"{name}: {folder} does not show what {len(missing)} other nodes wrote there: it is not one shared storage. Mount one"
        )
    free = found["free_bytes"]
    return Finding(free >= LEAST_FREE_BYTES, f"{name}: {folder} is written and read, {free / 2**30:,.1f} GiB free (2 are a sensible least)")


def _versions(client: JobSubmissionClient) -> list[Finding]:
    here, there = importlib.metadata.version("ray"), client._server_ray_version
    return [Finding(here == there, f"Ray {there} (here {here})" + ("" if here == there else f"; install ray=={there} here"))]


def _asks_for_token(address: str) -> bool:
    import requests

    # A request that carries no token, whatever this process knows.
    return requests.get(f"{address.rstrip('/')}/api/jobs/", timeout=30).status_code in (401, 403)


def _probed(cluster: Ray, client: JobSubmissionClient) -> list[dict[str, Any]]:
    stamp = uuid.uuid4().hex[:12]
    with tempfile.TemporaryDirectory(prefix="ptm-check-") as folder, explained(cluster.address, cluster.token_file):
        path = Path(folder) / "ptm_probe.py"
        path.write_bytes(Path(probe.__file__).read_bytes())
        os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
        words = [cluster.python, path.name, stamp, cluster.runs, cluster.cache]
        job = submitted(
            client,
            entrypoint=shlex.join(words),
            runtime_env={"working_dir": folder, "env_vars": cluster.environment},
            metadata={"ptm_checks": stamp},
        )
    deadline = time.monotonic() + PROBE_SECONDS
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(job)
            raise ConfigError(f"a job that looks at the nodes did not end in {PROBE_SECONDS:.0f} s (it is {status}); is a node overloaded?")
        time.sleep(0.5)
    log = client.get_job_logs(job)
    told = next((line for line in log.splitlines() if line.startswith(probe.MARK)), None)
    if told is None:
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "it printed nothing")
        raise ConfigError(f"a job that looks at the nodes failed: {last}. Is python: of the cluster file right?")
    return json.loads(told.removeprefix(probe.MARK))
