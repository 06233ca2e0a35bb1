"""Verbs under the noun job, and what the flat verbs do with a job: submit, list, resume; status, logs, stop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ptm_dist.cli.words import TextOption, Words, out, recipe_of
from ptm_dist.errors import ConfigError

if TYPE_CHECKING:
    from ptm_dist.clusters.base import Cluster, Job, JobState, Sent
    from ptm_dist.clusters.jobs import Found

job_app = typer.Typer(no_args_is_help=True, help="Submit runs to a cluster, list and resume them.")

ClusterOption = Annotated[
    Path | None, typer.Option("--cluster", help="File of the cluster. Default: where it was submitted.", show_default=False)
]
ClusterFile = Annotated[Path, typer.Option("--cluster", help="File of the cluster, as in configs/cluster.")]
Target = Annotated[str, typer.Argument(help="A run directory, an s3:// run or a job id.", metavar="RUN_OR_JOB")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")]
LOOK_SECONDS: Final = 1.0
WIDEST: Final = 40
"""Letters of a name up to which the column after it is aligned."""


@job_app.command("submit", epilog="Example: ptm job submit configs/quickstart.yaml --cluster configs/cluster/local.yaml")
def submit(
    words: Words,
    cluster: ClusterFile,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Run directory as the cluster sees it, or a name below its runs:.", show_default="NAME-DIGEST"),
    ] = None,
    text: TextOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Send a recipe to a cluster, which trains it or goes on where its run stopped; the terminal may be closed."""
    from ptm_dist.clusters.files import load_cluster
    from ptm_dist.clusters.jobs import next_job, run_of

    place = load_cluster(cluster)
    recipe = recipe_of(words, text)
    where = run_of(place, recipe, run)
    _send(place, _numbered(lambda ask: next_job(place, recipe, where, ask), dry_run), dry_run)


@job_app.command("ls", epilog="Example: ptm job ls --cluster configs/cluster/local.yaml")
def ls(cluster: ClusterOption = None) -> None:
    """List what was submitted, newest first."""
    from ptm_dist.cli.table import show_columns
    from ptm_dist.clusters.jobs import states

    rows, problems = states(_opened(cluster))
    lines = []
    for state, record in rows:
        age = f"{(time.time() - record.time) / 60:,.0f} min ago" if record else ""
        code = "" if state.exit_code is None else str(state.exit_code)
        lines.append((record.id if record else state.id, state.phase, code, state.native, age, record.run if record else ""))
    if lines:
        show_columns(out, ("job", "phase", "exit", "there", "submitted", "run"), lines, numbers=("exit",), whole=("job",))
    elif not problems:
        out.print("nothing was submitted from here. Start: ptm job submit configs/quickstart.yaml --cluster configs/cluster/local.yaml")
    for problem in problems:
        out.print(f"not asked: {problem}", markup=False)


@job_app.command("resume", epilog="Example: ptm job resume runs/quickstart-1a2b3c4d")
def resume(target: Target, cluster: ClusterOption = None, dry_run: DryRunOption = False) -> None:
    """Submit the same run again; it goes on from its last checkpoint."""
    from ptm_dist.clusters.jobs import resumed

    found = _found(target, cluster)
    phase = None if dry_run else _phase(found)
    if phase in ("pending", "running"):
        raise ConfigError(f"{found.id} is {phase}; stop it first (ptm stop {found.id}), or wait for it.")
    _send(found.cluster, _numbered(lambda ask: resumed(found, ask), dry_run), dry_run)


def job_of(target: str, cluster: Path | None = None) -> Found | None:
    """Return the submission that a run or an id names; None if there is none, so that a verb can look at the run directory alone."""
    from ptm_dist.clusters.jobs import find

    return find(target, _opened(cluster))


def status_of_job(target: str, cluster: Path | None = None) -> str:
    """Return a line that says where a job stands.

    Raises:
        ConfigError: there is no such job, or its cluster cannot be asked.

    """
    found = _found(target, cluster)
    return f"job {found.id} on {found.cluster.name} ({found.cluster.kind}): {_told(found.cluster.state(found.native))}; run {found.run}"


def logs(target: str, follow: bool, cluster: Path | None = None) -> None:
    """Print what the driver of a job printed; with `follow` until it has ended.

    Raises:
        ConfigError: there is no such job, or nothing of it is left.

    """
    from ptm_dist.clusters.copied import is_remote
    from ptm_dist.clusters.jobs import kept_lines, unknown

    found, begun = job_of(target, cluster), False
    if found is None:
        if not is_remote(target):
            raise unknown(target)
        for line in kept_lines(target):
            _print(line)
        return
    try:
        for line in found.cluster.logs(found.native, follow):
            begun = True
            _print(line)
    except ConfigError:
        if begun:
            raise
        # The cluster is gone; its run directory, or a copy of it, is not.
        for line in kept_lines(found.run, found.id):
            _print(line)


def stop(target: str, now: bool, cluster: Path | None = None, wait: bool = True) -> None:
    """Ask a job to finish its step, save and stop, wait until it has, and say at which step.

    Raises:
        ConfigError: there is no such job, or it is not running.

    """
    found = _found(target, cluster)
    found.cluster.stop(found.native, now)
    out.print(f"{found.id}: {'ends at once, without saving' if now else 'asked to finish the step, save and stop'}", markup=False)
    while wait:
        state = found.cluster.state(found.native)
        if state.phase not in ("pending", "running"):
            out.print(f"{found.id}: {_told(state)}{_saved(found)}", markup=False)
            return
        time.sleep(LOOK_SECONDS)


def _phase(found: Found) -> str | None:
    """Return the phase of a submission, None where the cluster, set up anew perhaps, does not know it."""
    try:
        return found.cluster.state(found.native).phase
    except ConfigError:
        return None


def _numbered(numbered: Callable[[bool], Job], dry_run: bool) -> Job:
    """Return the next submission; one that is only shown needs no cluster that answers."""
    try:
        return numbered(True)
    except ConfigError as error:
        if not dry_run:
            raise
        out.print(f"the number is a guess, since the cluster was not asked: {error}", markup=False)
        return numbered(False)


def _send(cluster: Cluster, job: Job, dry_run: bool) -> None:
    from ptm_dist.clusters.jobs import submit as send

    out.print(f"job {job.id} to {cluster.name} ({cluster.kind}), run {job.run}", markup=False)
    _show(cluster.plan(job), whole=dry_run)
    if dry_run:
        out.print("nothing was sent")
        return
    native = send(cluster, job)
    known = "" if native == job.id else f", {native} there"
    out.print(f"submitted: {job.id}{known}. To go on:", markup=False)
    for verb in ("status", "logs -f", "stop"):
        out.print(f"  ptm {verb} {job.id}", markup=False)


def _is_file(part: Sent) -> bool:
    return part.size is not None or part.name.endswith(".json")


def _show(sent: list[Sent], whole: bool) -> None:
    """Print every file with its size, what all come to, and of commands and variables the text; of scripts, too, where nothing is sent."""
    from ptm_dist.clusters.upload import human

    width = min(max(len(part.name) for part in sent), WIDEST)
    for part in sent:
        lines = part.text.rstrip("\n").splitlines()
        if not _is_file(part) and (len(lines) <= 1 or part.name in ("environment", "left out")):
            out.print(f"  {part.name.ljust(width)}  " + f"\n{' ' * (width + 4)}".join(lines), markup=False)
            continue
        out.print(f"  {part.name.ljust(width)}  {part.bytes:>12,} bytes", markup=False)
        if whole and not _is_file(part):
            for line in lines:
                out.print(f"    {line}", markup=False)
    files = [part.bytes for part in sent if _is_file(part)]
    out.print(f"  {len(files)} files, {human(sum(files))}", markup=False)


def _found(target: str, cluster: Path | None) -> Found:
    from ptm_dist.clusters.jobs import unknown

    found = job_of(target, cluster)
    if found is None:
        raise unknown(target)
    return found


def _opened(cluster: Path | None) -> Cluster | None:
    from ptm_dist.clusters.files import load_cluster

    return load_cluster(cluster) if cluster else None


def _told(state: JobState) -> str:
    from ptm_dist.kept import meaning_of

    code = f", exit {state.exit_code}: {meaning_of(state.exit_code)}" if state.exit_code is not None else ""
    message = state.message.rstrip(".")
    return f"{state.phase} ({state.native}{code}){f': {message}' if message else ''}"


def _saved(found: Found) -> str:
    from ptm_dist.events import read_events
    from ptm_dist.run import RunFolder

    if "://" in found.run or not (path := RunFolder(Path(found.run)).events_path).exists():
        return ""
    last = max((event["step"] for event in read_events(path, "checkpoint_saved")), default=None)
    return "" if last is None else f"; its newest checkpoint is of step {last:,}"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
