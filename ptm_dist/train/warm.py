"""What the forkserver imports before it starts ranks: the heavy modules, once for all of them.

Slurm and others send SIGTERM to every process of a job. The driver alone answers it; a forkserver that ended would take its ranks along.
"""

from __future__ import annotations

import importlib
import os
import signal

# Modules ask for GPUs as they are imported. Once CUDA itself was asked, forked processes cannot use it; NVML can tell, too.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
importlib.import_module("ptm_dist.train.worker")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
