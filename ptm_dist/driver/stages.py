"""Runs a stage of preparation as idempotent Ray tasks: killed anywhere and started again, it redoes only what was unfinished.

A stage is a directory CACHE/NAME-DIGEST12. A task writes its files, each atomically, then its marker tasks/NAME.json with the
size and hash of each file. DONE.json comes last. The directory must be on a file system that every node sees.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError

from ptm_dist.errors import PeerLostError, PtmError, error_of
from ptm_dist.store import digest, explain_disk_errors, read_json, sha256_file, write_json

DONE: Final = "DONE.json"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Stage:
    """What a stage computes: equal digests mean equal bytes."""

    name: str
    version: int
    """Raise it whenever the code of the stage gives other bytes."""
    settings: dict[str, Any]
    inputs: tuple[str, ...] = ()
    """Digests of the stages it reads."""
    libraries: tuple[str, ...] = ()
    """Versions of the libraries that define its bytes, and of no others."""

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all of the above."""
        return digest([self.name, self.version, self.settings, self.inputs, self.libraries])

    def directory(self, cache: Path) -> Path:
        """Return where its files lie."""
        return cache / f"{self.name}-{self.digest[:12]}"


@dataclass(frozen=True)
class Output:
    """What a task returns: the files it wrote, relative to the stage's directory, and results as plain data."""

    files: Sequence[str]
    results: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A pure function of (stage directory, *arguments) -> Output. Its name is unique in the stage."""

    name: str
    function: Callable[..., Output]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Finished:
    """A finished stage: where its files are, and the results of each task, sorted by name."""

    directory: Path
    digest: str
    results: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Where the tokenizer and the data sets {task: {split: directory}} are, and what was counted on the way."""

    tokenizer: Path
    datasets: dict[str, dict[str, Path]]
    summary: dict[str, Any]


Finish = Callable[[Path, dict[str, Any]], Sequence[str]]
"""Completes a stage from the results of all tasks, such as by a manifest, and returns the files it wrote."""


def run_stage(stage: Stage, plan: Callable[[], Sequence[Task]], cache: Path, progress: Progress, finish: Finish | None = None) -> Finished:
    """Run the tasks that `plan` lists and that are not done yet; `plan` is not called when the whole stage is done.

    Raises:
        PtmError: what a task raised, with its own message.
        PeerLostError: a task was killed again and again.

    """
    directory = stage.directory(cache)
    with explain_disk_errors(directory):
        (directory / "tasks").mkdir(parents=True, exist_ok=True)
    with _one_driver(directory):
        done = _markers_of_done(directory)
        if done is None:
            done = _run_tasks(stage.name, directory, plan(), progress)
            results = {name: marker["results"] for name, marker in sorted(done.items())}
            files = finish(directory, results) if finish else []
            write_json(directory / DONE, {"stage": stage.name, "digest": stage.digest, "tasks": done, "files": _sizes(directory, files)})
        else:
            progress(stage.name, len(done), len(done))
    return Finished(directory, stage.digest, {name: marker["results"] for name, marker in sorted(done.items())})


@contextmanager
def _one_driver(directory: Path) -> Iterator[None]:
    """Let a second driver on the same cache wait. The kernel releases the lock of a killed one."""
    with explain_disk_errors(directory), (directory / ".lock").open("w") as file:
        # Without locks (some network file systems) both work: twice the effort, the same bytes.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _markers_of_done(directory: Path) -> dict[str, Any] | None:
    if not (directory / DONE).exists():
        return None
    done = read_json(directory / DONE)
    complete = all(_present(directory, marker["files"]) for marker in (done, *done["tasks"].values()))
    return done["tasks"] if complete else None


def _run_tasks(name: str, directory: Path, tasks: Sequence[Task], progress: Progress) -> dict[str, Any]:
    _remove_temporaries(directory)
    markers = {task.name: _marker(directory, task.name) for task in tasks}
    waiting = [task for task in tasks if markers[task.name] is None]
    progress(name, len(tasks) - len(waiting), len(tasks))
    for number, (task, marker) in enumerate(_in_flight(directory, waiting), len(tasks) - len(waiting) + 1):
        markers[task] = marker
        progress(name, number, len(tasks))
    return markers


def _remove_temporaries(directory: Path) -> None:
    for temporary in directory.rglob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def _marker(directory: Path, task: str) -> dict[str, Any] | None:
    path = directory / "tasks" / f"{task}.json"
    if not path.exists():
        return None
    marker = read_json(path)
    return marker if _present(directory, marker["files"]) else None


def _present(directory: Path, files: dict[str, Any]) -> bool:
    return all((path := directory / name).exists() and path.stat().st_size == entry["bytes"] for name, entry in files.items())


def _sizes(directory: Path, files: Sequence[str]) -> dict[str, Any]:
    return {name: {"bytes": (directory / name).stat().st_size, "sha256": sha256_file(directory / name)} for name in files}


def _in_flight(directory: Path, tasks: Sequence[Task]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (task, marker) as tasks end, with two a core under way so that none waits for the driver."""
    remote = ray.remote(num_cpus=1)(_run_task)
    most = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    ahead = iter(tasks)
    under_way: dict[Any, str] = {}
    try:
        while True:
            while len(under_way) < most and (task := next(ahead, None)):
                under_way[remote.remote(directory, task)] = task.name
            if not under_way:
                return
            ready, _ = ray.wait(list(under_way))
            yield under_way.pop(ready[0]), _fetch(ready[0])
    finally:
        for reference in under_way:
            # The whole process: one that is only interrupted may be left with half a module imported, and serves the next task.
            ray.cancel(reference, force=True)


def _run_task(directory: Path, task: Task) -> dict[str, Any]:
    """Run one task in a worker. An error comes back as data, because Ray would wrap it in a class of its own."""
    try:
        with explain_disk_errors(directory):
            output = task.function(directory, *task.arguments)
            marker = {"files": _sizes(directory, output.files), "results": output.results}
        write_json(directory / "tasks" / f"{task.name}.json", marker)
    except PtmError as error:
        return {"exit_code": error.exit_code, "message": str(error)}
    return marker


def _fetch(reference: Any) -> dict[str, Any]:
    try:
        outcome: Any = ray.get(reference)
    except RayTaskError:
        raise  # a defect: the traceback of the worker says where
    except RayError as error:
        raise PeerLostError(
            f"a task of the preparation was killed ({type(error).__name__}; out of memory?). The same command goes on from here."
        ) from error
    if "exit_code" in outcome:
        raise error_of(outcome["exit_code"], outcome["message"])
    return outcome
