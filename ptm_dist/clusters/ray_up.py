"""The file from which `ray up` starts a cluster on machines that are there, over SSH."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from ptm_dist.recipe_parts import Section
from ptm_dist.recipe_yaml import dump

TOKEN: Final = "~/.ray/auth_token"
"""Where Ray looks for its token unless told otherwise."""
HEADER: Final = """\
# Made by ptm cluster render; change the cluster file instead.
# ray up cluster.yaml     starts Ray on these machines, which belong to this cluster alone; one that ran there before is ended
# ray attach cluster.yaml -p {port}   opens the tunnel by which ptm job submit reaches it
"""


class Machines(Section):
    """Machines on which a cluster is started, reached by SSH without a password."""

    head: str
    """Name or address of the machine that the others meet at."""
    workers: tuple[str, ...] = ()
    user: str = "ptm"
    """Who logs in there."""
    image: str = ""
    """Container to run in; empty: on the machine itself."""
    setup: tuple[str, ...] = ()
    """Commands that install what is needed, on every machine."""


def up_file(name: str, address: str, token_file: str | None, machines: Machines) -> str:
    """Return the YAML for `ray up`: token authentication on, the dashboard on loopback of the head only."""
    port = urlsplit(address).port or 8265
    variables = "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0"
    count = len(machines.workers)
    plain: dict[str, Any] = {
        "cluster_name": name,
        "max_workers": count,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "provider": {"type": "local", "head_ip": machines.head, "worker_ips": list(machines.workers)},
        "auth": {"ssh_user": machines.user},
        "file_mounts": {TOKEN: token_file or TOKEN},
        "setup_commands": [f"chmod 600 {TOKEN}", *machines.setup],
        "head_start_ray_commands": [
            "ray stop",
            f"{variables}; ray start --head --port=6379 --dashboard-host=127.0.0.1 --dashboard-port={port} "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": ["ray stop", f"{variables}; ray start --address=$RAY_HEAD_IP:6379"],
    }
    if machines.image:
        options = ["--shm-size=16g", "--ulimit nofile=65536:65536"]
        plain["docker"] = {"image": machines.image, "container_name": name, "pull_before_run": False, "run_options": options}
    return HEADER.format(port=port) + dump(plain)
