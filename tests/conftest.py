"""Fixtures for all tests."""

from __future__ import annotations

import logging
import os

# Tests run side by side, one a core; threads of one would only wait for those of another. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings


@pytest.fixture(scope="session")
def ray_head():
    """A Ray of two cores on this machine, shared by all tests that need one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 << 20,
    )
    yield
    ray.shutdown()


# Examples run on machines of any speed, beside other tests: a slow one is no failure.
settings.register_profile("ptm", deadline=None)
settings.load_profile("ptm")
