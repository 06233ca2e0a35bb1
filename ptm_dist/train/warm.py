"""What the forkserver imports before it starts ranks: the heavy modules, once for all of them.

Slurm and others send SIGTERM to every process of a job. The driver alone answers it; a forkserver that ended would take its ranks along.
"""

from __future__ import annotations

import importlib
import signal

importlib.import_module("ptm_dist.train.worker")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
