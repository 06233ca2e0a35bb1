"""The Ray cluster that work runs on."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any, NoReturn

from ptm_dist.recipe import Recipe


def start_ray(recipe: Recipe) -> None:
    """Connect to the Ray cluster that RAY_ADDRESS names, or start one on this machine that ends with this process."""
    import ray

    # Ray asks its makers' servers about usage unless told otherwise; nothing here asks the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    else:
        wanted = recipe.engine.workers * recipe.engine.threads
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, wanted),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=256 << 20,
        )
    if threading.current_thread() is threading.main_thread():
        # Ray's own answer to SIGTERM is to abort; while data are prepared it is to mean what Ctrl-C means.
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, _: Any) -> NoReturn:
    """Stop once, however often whoever wants this machine back asks."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
