"""What was submitted from here: one small file a submission in .ptm/jobs, by which a run or a job is found again."""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from ptm_dist.clusters.base import Cluster, Job, JobState, cluster_json
from ptm_dist.clusters.copied import is_remote, seen_here
from ptm_dist.clusters.files import cluster_from_json
from ptm_dist.errors import ConfigError, PtmError
from ptm_dist.kept import kept_path
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.run import RunFolder, default_path
from ptm_dist.store import read_json, write_json

RECORDS: Final = Path(".ptm") / "jobs"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEPT: Final = re.compile(r"driver-.+-a([0-9]+)\.log")
_ID: Final = re.compile(r"(.+)-a([1-9][0-9]*)")


@dataclass(frozen=True)
class Record:
    """A submission: its id, what the cluster calls it, the run, when (seconds since 1970), and recipe and cluster as plain data."""

    id: str
    native: str
    run: str
    time: float
    cluster: dict[str, Any]
    recipe: dict[str, Any]

    def open(self) -> Cluster:
        """Return the cluster that it was submitted to."""
        return cluster_from_json(self.cluster, str(RECORDS / f"{self.id}.json"))


@dataclass(frozen=True)
class Found:
    """A submission and where it runs; `native` is what the cluster calls it."""

    id: str
    native: str
    run: str
    cluster: Cluster
    record: Record | None = None


def submit(cluster: Cluster, job: Job) -> str:
    """Submit a job and keep a record of it.

    Raises:
        ConfigError: the cluster refuses.

    """
    native = cluster.submit(job)
    record = Record(job.id, native, job.run, time.time(), cluster_json(cluster), recipe_to_json(job.recipe))
    write_json(RECORDS / f"{job.id}.json", asdict(record))
    return native


def records() -> list[Record]:
    """Return the records here, newest first."""
    found = [_read(path) for path in RECORDS.glob("*.json")]
    return sorted(found, key=lambda record: record.time, reverse=True)


def record_of(job_id: str) -> Record | None:
    """Return the record of a submission, if there is one here."""
    path = RECORDS / f"{job_id}.json"
    return _read(path) if _ID.fullmatch(job_id) and "/" not in job_id and path.exists() else None


def _read(path: Path) -> Record:
    plain = read_json(path)
    try:
        return Record(**{field.name: plain[field.name] for field in fields(Record)})
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: this is no record of a submission. Remove it; its job is found with --cluster FILE.") from error


def run_of(cluster: Cluster, recipe: Recipe, wanted: str | None) -> str:
    """Return the path of a run as the cluster sees it; a bare name lies in the cluster's `runs:`.

    Raises:
        ConfigError: it has no name that a submission could have.

    """
    run = wanted.rstrip("/") if wanted else str(default_path(recipe, Path()))
    if is_remote(run) or is_remote(cluster.runs):
        raise ConfigError(f"--run {wanted or cluster.runs}: a run is written to a folder that every node sees, not to an object store.")
    if "/" not in run and not (cluster.kind == "local" and wanted and Path(run).exists()):
        run = f"{cluster.runs.rstrip('/')}/{run}"
    if cluster.kind == "local":
        run = os.path.abspath(run)
    elif not run.startswith("/"):
        raise ConfigError(f"--run {wanted or run}: write the whole path as the nodes of the cluster see it, or a bare name, below runs:.")
    name = run.rpartition("/")[2]
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ConfigError(f"--run {run}: a run has a name of at most 64 letters, digits, dots, dashes and underscores; {name!r} is none.")
    return run


def next_job(cluster: Cluster, recipe: Recipe, run: str, ask: bool = True) -> Job:
    """Return the next submission of a run: one more than the cluster (if it is to be asked), the records here and the run itself know.

    Raises:
        ConfigError: the cluster does not answer.

    """
    name = Job(recipe, run).id.removesuffix("-a1")
    ids = [state.id for state in cluster.jobs()] if ask else []
    ids += [path.stem for path in RECORDS.glob("*.json")]
    ids += [path.name.removeprefix("driver-").partition(".")[0] for path in kept_path(run, "").parent.glob(f"driver-{name}-a*")]
    numbers = [int(match[2]) for match in map(_ID.fullmatch, ids) if match and match[1] == name]
    return Job(recipe, run, 1 + max(numbers, default=0))


def resumed(found: Found, ask: bool = True) -> Job:
    """Return the next submission of the run that a submission was of; the run's own recipe counts, if it can be seen from here.

    Raises:
        ConfigError: its recipe is not known here.

    """
    folder = RunFolder(Path(found.run))
    if folder.exists:
        return next_job(found.cluster, folder.recipe(), found.run, ask)
    if found.record is None:
        raise ConfigError(
            f"{found.id}: there is no record of it in {RECORDS} and its run cannot be seen from here, so its recipe is not known. "
            "Submit it again: ptm job submit RECIPE --cluster FILE --run RUN"
        )
    return next_job(found.cluster, recipe_from_json(found.record.recipe), found.run, ask)


def find(target: str, cluster: Cluster | None = None) -> Found | None:
    """Return the submission that a job id names, or the newest one of a run, by its path or its bare name; None if nobody knows one.

    Raises:
        ConfigError: the cluster cannot be asked.

    """
    known = records()
    same = [record for record in known if target in (record.id, record.native) or _same_run(record.run, target)]
    same = same or [record for record in known if record.run.rpartition("/")[2] == target]
    if cluster is not None:
        same = [record for record in same if _place(record.cluster) == _place(cluster_json(cluster))]
    if same:
        return Found(same[0].id, same[0].native, same[0].run, cluster or same[0].open(), same[0])
    return _on_cluster(target, cluster) if cluster is not None else None


def unknown(target: str) -> ConfigError:
    """Return the error for what is neither a run with a submission nor a job id."""
    names = [name for record in records() for name in (record.id, record.run)]
    near = difflib.get_close_matches(target, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "ptm job ls shows what was submitted from here."
    return ConfigError(f"{target}: no submission of it is recorded in {RECORDS}; {hint} Name another cluster with --cluster FILE.")


def kept_lines(run: str, job_id: str = "") -> Iterator[str]:
    """Yield what the driver of a submission, by default the newest, printed: from the run directory or its copy, it outlives the cluster.

    Raises:
        ConfigError: nothing is kept there, or it cannot be seen from here.

    """
    with seen_here(run) as folder:
        found = {int(match[1]): path for path in folder.glob("logs/driver-*.log") if (match := _KEPT.fullmatch(path.name))}
        path = kept_path(folder, job_id) if job_id else found.get(max(found, default=0))
        if path is None or not path.is_file():
            raise ConfigError(f"{run}: no log of {job_id or 'a submission'} is kept in its logs/, as far as can be seen from here.")
        with path.open("rb") as file:
            for line in file:
                yield line.decode("utf8", errors="replace").rstrip("\n")


def states(cluster: Cluster | None) -> tuple[list[tuple[JobState, Record | None]], list[str]]:
    """Return every submission that `cluster`, or else each cluster in the records, knows, newest first; and what went wrong on the way."""
    known = records()
    if cluster is None:
        places = list({_place(record.cluster): record for record in reversed(known)}.values())
        asked = [_asked(record.cluster, record.open) for record in places]
    else:
        asked = [_asked(cluster_json(cluster), lambda: cluster)]
    rows, problems = list[tuple[JobState, Record | None]](), [problem for *_, problem in asked if problem]
    for plain, there, problem in asked:
        own = {record.native: record for record in known if _place(record.cluster) == _place(plain)}
        gone = [
            JobState(name, "unknown", "not reached" if problem else "gone") for name in own if name not in {state.id for state in there}
        ]
        rows += [(state, own.get(state.id)) for state in [*there, *gone]]
    return sorted(rows, key=lambda row: -(row[1].time if row[1] else 0.0)), problems


def _asked(plain: dict[str, Any], opened: Any) -> tuple[dict[str, Any], Sequence[JobState], str]:
    try:
        return plain, opened().jobs(), ""
    except PtmError as error:
        return plain, [], str(error)


def _place(plain: dict[str, Any]) -> tuple[Any, ...]:
    """Return what makes two cluster files name the same place, whatever else has changed in them."""
    return tuple(plain.get(key) for key in ("kind", "name", "address", "context", "namespace"))


def _on_cluster(target: str, cluster: Cluster) -> Found | None:
    name = target.rstrip("/").rpartition("/")[2]
    ids = [state.id for state in cluster.jobs()]
    if target in ids:
        return Found(target, target, f"{cluster.runs.rstrip('/')}/{target.rpartition('-a')[0]}", cluster)
    of_run = [match for match in map(_ID.fullmatch, ids) if match and match[1] == name]
    newest = max(of_run, key=lambda match: int(match[2]), default=None)
    run = target if "/" in target else f"{cluster.runs.rstrip('/')}/{name}"
    return Found(newest[0], newest[0], run, cluster) if newest else None


def _same_run(run: str, target: str) -> bool:
    if "://" in run or "://" in target:
        return run == target.rstrip("/")
    return run == os.path.abspath(target)
