"""Where Prometheus finds what a run serves: a file in the run, and the same beside all runs, where one pattern finds those of all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ptm_dist.errors import StorageError
from ptm_dist.run import RunFolder
from ptm_dist.store import write_json


@dataclass(frozen=True)
class Target:
    """One endpoint."""

    address: str
    """Host and port."""
    node: str
    role: str
    """worker or driver."""


def write_targets(run: RunFolder, attempt: int, targets: Sequence[Target]) -> None:
    """List the endpoints of a run, in the form of Prometheus' file_sd; none when it has ended.

    Prometheus takes a star in the last part of a path only, so `runs/monitoring/*.json` has to be there beside `RUN/monitoring`.
    """
    common = {"run": run.path.name, "attempt": str(attempt)}
    listed = [{"targets": [one.address], "labels": common | {"node": one.node, "role": one.role}} for one in targets if one.address]
    write_json(run.targets_path, listed)
    with suppress(StorageError):  # The folder of all runs may belong to somebody else.
        write_json(run.path.resolve().parent / "monitoring" / f"{run.path.name}.json", listed)
