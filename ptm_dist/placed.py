"""What the driver decided about an attempt, for its workers to read: a file beside their logs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ptm_dist.run import RunFolder
from ptm_dist.store import read_json, write_json
from ptm_dist.terms import MetricsBinding


@dataclass(frozen=True)
class Placed:
    """One attempt as its driver sees it before it starts."""

    attempt: int
    lease: int
    """The number of the lease under which its workers may write."""
    workers: int
    launcher: str
    metrics_host: str | None = None
    """None: as the recipe says."""
    metrics_port: int = 0
    flops_per_token: float = 0.0
    """Arithmetic of training, over all tasks in the mean; 0 if it is not known."""
    driver_metrics: str = ""
    """Host and port where the driver serves its own."""
    host: str = ""
    """The machine of the driver."""
    left_out: Sequence[str] = ()
    """Ids of nodes that no worker may run on."""
    placed_at: float = field(default_factory=time.time)

    def write(self, run: RunFolder) -> None:
        """Put it where workers find it."""
        write_json(_path(run, self.attempt), asdict(self))

    @property
    def metrics(self) -> MetricsBinding | None:
        """Where metrics are served, if not as the recipe says."""
        return None if self.metrics_host is None else MetricsBinding(host=self.metrics_host, port=self.metrics_port)


def read_placed(run: RunFolder, attempt: int) -> Placed | None:
    """Return what the driver decided; None where there is no driver, as under torchrun."""
    path = _path(run, attempt)
    return Placed(**read_json(path)) if path.exists() else None


def _path(run: RunFolder, attempt: int) -> Path:
    return run.logs(attempt) / "attempt.json"
