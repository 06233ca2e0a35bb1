"""torchrun -m ptm_dist.train RUN: train a run directory whose data are prepared, without Ray."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ptm_dist.errors import PtmError
from ptm_dist.run import RunFolder
from ptm_dist.train.context import COLLECTIVES, join
from ptm_dist.train.worker import work


def main() -> None:
    """Be the rank that torchrun's environment describes; exit with the cause's code."""
    if len(sys.argv) != 2:
        sys.exit("usage: torchrun --nproc-per-node N -m ptm_dist.train RUN   (make RUN with: ptm data prepare RECIPE --run RUN)")
    run = RunFolder(Path(sys.argv[1]))
    try:
        context = join(0, COLLECTIVES * run.recipe().engine.timeout_seconds)
        number = context.gather(run.next_attempt() if context.rank == 0 else 0)[0]
        work(run.path, number, context.rank)
    except PtmError as error:
        print(f"exit {error.exit_code}: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)


if __name__ == "__main__":
    main()
