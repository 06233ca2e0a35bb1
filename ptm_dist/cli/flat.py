"""The flat verbs that take a run wherever it is: a directory, an s3:// address, or the id of a job on a cluster."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
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
        paths = []
        for target in targets or []:
            run, is_job = _run_of(target, cluster)
            if is_job and not as_json:
                out.print(jobs.status_of_job(target, cluster), markup=False)
            if not is_job or _can_be_seen(run):
                paths.append(copies.enter_context(_seen(run)))
        if paths or not targets:
            watch.status(paths or None, once, as_json, watch_exit)


def history(target: Target, since: watch.Since = None, as_json: watch.JsonOption = False, cluster: jobs.ClusterOption = None) -> None:
    """Print a line an attempt: when, with whom, which steps, why it ended, what was lost, compute hours; and their sum."""
    run, _ = _run_of(target, cluster)
    with _seen(run) as path:
        watch.history(path, since, as_json, called=run)


def report(
    target: Target,
    html: watch.HtmlOption = None,
    watched: Annotated[bool, typer.Option("--watch", help="Serve the page on this machine while the run goes on, until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where --watch listens; 0 takes a free port.")] = 0,
    cluster: jobs.ClusterOption = None,
) -> None:
    """Print the figures of a run and where everything is, and write its page of plots: by default report.html in the run, or NAME.html."""
    from ptm_dist.clusters.copied import is_remote

    run, _ = _run_of(target, cluster)
    if watched and is_remote(run):
        raise ConfigError(f"--watch: {run} is in an object store, where nothing says when it grows. Leave it out to write the page once.")
    with _seen(run) as path:
        if watched:
            watch.serve_report(path, port)
        else:
            beside = Path(f"{path.name}.html") if is_remote(run) else path / "report.html"
            watch.report(path, html or beside, called=run)


def compare(
    targets: Annotated[list[str], typer.Argument(help="Run directories, s3:// runs or job ids.", metavar="RUN_OR_JOB...")],
    at: Annotated[watch.Axis, typer.Option("--at", help="What is to be equal: the last point that all runs have reached.")] = "steps",
    html: watch.HtmlOption = None,
    cluster: jobs.ClusterOption = None,
) -> None:
    """Print the figures of runs at equal steps, tokens, seconds of training or FLOPs."""
    with ExitStack() as copies:
        watch.compare([copies.enter_context(_seen(_run_of(target, cluster)[0])) for target in targets], at, html)


def _run_of(target: str, cluster: Path | None) -> tuple[str, bool]:
    """Return where the run lies that is meant, and whether it was named by a job.

    Raises:
        ConfigError: nothing here has this name.

    """
    from ptm_dist.run import RunFolder

    if "://" in target or RunFolder(Path(target)).exists:
        return target, False
    found = jobs.job_of(target, cluster)
    if found is None:
        raise ConfigError(f"{target}: {NO_SUCH}")
    return found.run, True


def _seen(run: str) -> AbstractContextManager[Path]:
    """Give the folder of a run as it is seen here.

    Raises:
        ConfigError: it cannot be seen.

    """
    from ptm_dist.clusters.copied import seen_here

    if not _can_be_seen(run):
        raise ConfigError(
            f"{run}: this directory of the job's run is not seen from here. Ask on a machine that has it, or name a copy of it (s3://...)."
        )
    return seen_here(run)


def _can_be_seen(run: str) -> bool:
    from ptm_dist.clusters.copied import is_remote
    from ptm_dist.run import RunFolder

    return is_remote(run) or RunFolder(Path(run)).exists


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
