"""The process of one run of a sweep: python -m ptm_dist.driver.sweep_run RECIPE RUN CACHE LAUNCHER. It ends with the sweep."""

from __future__ import annotations

import sys
from pathlib import Path

from ptm_dist.data.loader import die_with_parent
from ptm_dist.driver.run import Places, Watcher, train_run
from ptm_dist.errors import PtmError, StoppedUnsavedError
from ptm_dist.recipe_io import read_recipe
from ptm_dist.run import RunFolder
from ptm_dist.store import write_json


def error_path(run: RunFolder) -> Path:
    """Where the process leaves why it ended before the run did."""
    return run.path / "logs" / "sweep.error.json"


def log_path(run: RunFolder) -> Path:
    """What the process printed, all attempts."""
    return run.path / "logs" / "sweep.log"


def main(recipe: str, run: str, cache: str, launcher: str) -> int:
    """Train one run to its end and return the exit code of what stopped it."""
    die_with_parent()
    folder = RunFolder(Path(run))
    watcher = Watcher(stage=lambda *_: None, event=lambda _: None, say=lambda line: print(line, flush=True))
    try:
        train_run(read_recipe(Path(recipe)), Places(folder.path, Path(cache), launcher), watcher)
    except (PtmError, KeyboardInterrupt) as error:
        # Ctrl-C before training has begun to listen for it.
        found = error if isinstance(error, PtmError) else StoppedUnsavedError("stopped before the first step")
        print(f"error: {found}", file=sys.stderr, flush=True)
        write_json(error_path(folder), {"exit_code": found.exit_code, "message": str(found)})
        return found.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
