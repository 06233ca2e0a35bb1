"""The flat verbs that take a run wherever it is: a directory, an s3:// address, or the id of a job on a cluster."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ptm_dist.cli import jobs, watch
from ptm_dist.cli.words import out
from ptm_dist.errors import ConfigError

Target = Annotated[str, typer.Argument(help="A run directory, an s3:// run or a job id.", metavar="RUN_OR_JOB")]
Targets = Annotated[
    list[str] | None,
    typer.Argument(help="Run directories, s3:// runs or job ids; all in runs/ by default.", metavar="[RUN_OR_JOB]..."),
]
NO_SUCH = "there is no run and no job of this name. ptm status lists the runs here, ptm job ls the jobs that were submitted from here."


def status(
    targets: Targets = None,
    once: Annotated[bool, typer.Option("--once", help="Print all figures of a run once, without waiting for more.")] = False,
    as_json: watch.JsonOption = False,
    watch_exit: Annotated[
        bool, typer.Option("--watch-exit", help="Wait until the run has ended, and exit with the code of its cause.")
    ] = False,
    cluster: jobs.ClusterOption = None,
) -> None:
    """Say where runs and jobs stand; of one run on a terminal, live until it ends or Ctrl-C."""
    with ExitStack() as copies:
        paths = [path for target in targets or [] if (path := _seen(target, cluster, copies, quiet=as_json))]
        if paths or not targets:
            watch.status(paths or None, once, as_json, watch_exit)


def _seen(target: str, cluster: Path | None, copies: ExitStack, quiet: bool) -> Path | None:
    """Return the folder of a run as it is seen here, None where it is not; of a job say first what its cluster says."""
    from ptm_dist.clusters.copied import seen_here
    from ptm_dist.run import RunFolder

    if "://" in target:
        return copies.enter_context(seen_here(target))
    if RunFolder(Path(target)).exists:
        return Path(target)
    found = jobs.job_of(target, cluster)
    if found is None:
        raise ConfigError(f"{target}: {NO_SUCH}")
    if not quiet:
        out.print(jobs.status_of_job(target, cluster), markup=False)
    return Path(found.run) if RunFolder(Path(found.run)).exists else None


def logs(
    target: Target,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="What the driver of a job prints, until it has ended.")] = False,
    rank: Annotated[int | None, typer.Option(help="What this worker printed; by default that of rank 0, or of a job's driver.")] = None,
    attempt: Annotated[int, typer.Option(help="Attempt; 0 is the last.")] = 0,
    cluster: jobs.ClusterOption = None,
) -> None:
    """Print what a worker, or the driver of a submitted job, printed."""
    from ptm_dist.clusters.copied import seen_here
    from ptm_dist.run import RunFolder

    if follow or (rank is None and not attempt and "://" not in target and not RunFolder(Path(target)).exists):
        jobs.logs(target, follow, cluster)
        return
    found = jobs.job_of(target, cluster) if "://" not in target and not RunFolder(Path(target)).exists else None
    with seen_here(found.run if found else target) as path:
        folder = RunFolder(path)
        folder.recipe()
        log = folder.rank_log(attempt or folder.next_attempt_number - 1, rank or 0)
        if not log.exists():
            have = ", ".join(sorted(str(path.relative_to(folder.path)) for path in folder.path.glob("logs/attempt-*/rank-*.log"))[:20])
            raise ConfigError(f"{log}: there is no such log; there are: {have or 'none'}.")
        sys.stdout.write(log.read_text(encoding="utf8", errors="replace"))


def stop(
    target: Target,
    now: Annotated[bool, typer.Option("--now", help="End a job at once, without saving.")] = False,
    cluster: jobs.ClusterOption = None,
) -> None:
    """Ask a run or a job to finish its step, save and stop."""
    from ptm_dist.run import RunFolder

    folder = RunFolder(Path(target))
    if folder.exists and not now and folder.is_owned("driver"):
        folder.ask_to_stop("user")
        out.print(f"{target}: asked to finish the step, save and stop", markup=False)
        return
    if jobs.job_of(target, cluster) is not None:
        jobs.stop(target, now, cluster)
        return
    if folder.exists and not now:
        raise ConfigError(f"{target} is not running.")
    raise ConfigError(f"{target}: {NO_SUCH}")
