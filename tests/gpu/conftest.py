"""Tests of one GPU. Where there is none, nothing here is collected; `make test-gpu` says so."""

import torch

from tests.e2e.conftest import make_run, tiny_data  # noqa: F401  Fixtures.
from tests.systems.conftest import cache, texts  # noqa: F401

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
