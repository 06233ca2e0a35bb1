"""The machine itself: a job is a process of its own session, which goes on when the terminal is closed."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from ptm_dist.clusters.base import Cluster, Job, JobState, Sent, cluster_json, phase_of
from ptm_dist.clusters.upload import json_text
from ptm_dist.doctor import Finding, examine
from ptm_dist.errors import ConfigError
from ptm_dist.kept import end_now, is_running, kept_note, kept_path, kept_words
from ptm_dist.recipe_io import recipe_to_json
from ptm_dist.store import explain_disk_errors, write_atomic

LOOK_SECONDS: Final = 0.3
START_SECONDS: Final = 30.0
"""How long a process is waited for until it has noted itself."""


class Local(Cluster):
    """The machine that ptm is called on."""

    default_name: ClassVar[str] = "local"

    kind: Literal["local"] = "local"

    def plan(self, job: Job) -> list[Sent]:
        """Return the files that are written and the command that is started."""
        texts = {name: json_text(value) for name, value in self._files(job).items()}
        variables = "".join(f"{name}={value}\n" for name, value in self._variables().items())
        return [
            *(Sent(os.path.relpath(name), text) for name, text in texts.items()),
            Sent("entrypoint", shlex.join(self._words(job))),
            Sent("environment", variables),
        ]

    def submit(self, job: Job) -> str:
        """Start the driver and return when it is known which process it is."""
        if "://" in job.run:
            raise ConfigError(f"--run {job.run}: a run on this machine needs a folder of this machine.")
        log = kept_path(job.run, job.id)
        if log.exists() or log.with_suffix(".json").exists():
            raise ConfigError(f"{log}: a submission of this name was there before. ptm job resume {job.run} takes the next number.")
        for name, value in self._files(job).items():
            write_atomic(Path(name), json_text(value).encode())
        environment, nowhere = os.environ | self._variables(), subprocess.DEVNULL
        with explain_disk_errors(job.run):
            # The keeper prints, too, what it keeps: for those whose log is elsewhere.
            keeper = subprocess.Popen(
                self._words(job), start_new_session=True, env=environment, stdin=nowhere, stdout=nowhere, stderr=nowhere
            )
        self._await_note(job, keeper)
        return job.id

    def jobs(self) -> list[JobState]:
        """Return the submissions of all runs in `runs:`, newest first."""
        notes = sorted(Path(self.runs).glob("*/logs/driver-*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [_state_of(path.stem.removeprefix("driver-"), path.parents[1]) for path in notes]

    def state(self, job_id: str) -> JobState:
        """Return where a submission stands."""
        return _state_of(job_id, self._run_of(job_id))

    def logs(self, job_id: str, follow: bool) -> Iterator[str]:
        """Yield the lines of the driver's log."""
        run = self._run_of(job_id)
        yield from _lines(kept_path(run, job_id), lambda: follow and _state_of(job_id, run).phase == "running")

    def stop(self, job_id: str, now: bool) -> None:
        """Send the driver what Ctrl-C sends, once; with `now` twice."""
        run = self._run_of(job_id)
        state, note = _state_of(job_id, run), kept_note(run, job_id)
        if note is None or state.phase != "running":
            raise ConfigError(f"{job_id} is not running: {state.phase}.")
        if note["host"] != platform.node():
            raise ConfigError(f"{job_id} runs on {note['host']}; stop it there, or with ptm stop {run}.")
        if now:
            end_now(note["driver"])
            return
        with suppress(ProcessLookupError):
            os.kill(note["driver"]["pid"], signal.SIGTERM)

    def render(self) -> Mapping[str, str]:
        """Return nothing: this machine needs no files."""
        return {}

    def check(self) -> Iterator[Finding]:
        """Look at what `ptm doctor` looks at, and at the folders of runs and data."""
        yield from examine()
        for name, folder in (("runs", self.runs), ("cache", self.cache)):
            yield _writable(name, Path(folder))

    def entrypoint(self, job: Job, recipe: str, cluster: str) -> list[str]:
        """Return the words that run a job with this Python, whatever PATH is."""
        here = self.model_copy(update={"cache": os.path.abspath(self.cache)})
        words = super(Local, here).entrypoint(job, recipe, cluster)
        return [sys.executable, "-m", "ptm_dist", *words[1:]]

    def _files(self, job: Job) -> dict[str, dict[str, Any]]:
        folder = kept_path(job.run, job.id).with_suffix("")
        return {str(folder / "recipe.json"): recipe_to_json(job.recipe), str(folder / "cluster.json"): cluster_json(self)}

    def _words(self, job: Job) -> list[str]:
        recipe, cluster = self._files(job)
        return kept_words(sys.executable, job.run, job.id, self.entrypoint(job, recipe, cluster))

    def _variables(self) -> dict[str, str]:
        return {"PYTHONUNBUFFERED": "1", "RAY_USAGE_STATS_ENABLED": "0"} | self.environment

    def _run_of(self, job_id: str) -> Path:
        """Return the run of a submission: below `runs:`, or where its record says."""
        below = Path(self.runs) / job_id.rpartition("-a")[0]
        if kept_path(below, job_id, "json").exists():
            return below
        from ptm_dist.clusters.jobs import record_of

        record = record_of(job_id)
        if record is None or not kept_path(record.run, job_id, "json").exists():
            raise ConfigError(f"{job_id}: no submission of this name is known here. ptm job ls shows them.")
        return Path(record.run)

    def _await_note(self, job: Job, keeper: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while kept_note(job.run, job.id) is None:
            if keeper.poll() is not None or time.monotonic() > deadline:
                raise ConfigError(f"{job.id} did not start; try it in the foreground: {shlex.join(self._words(job)[4:])}")
            time.sleep(0.05)


def _state_of(job_id: str, run: Path) -> JobState:
    note = kept_note(run, job_id)
    if note is None:
        raise ConfigError(f"{job_id}: no submission of this name is known in {run}. ptm job ls shows them.")
    code = note["exit_code"]
    if code is not None:
        return JobState(job_id, phase_of(code), "ended", exit_code=code)
    if note["host"] != platform.node():
        return JobState(job_id, "unknown", f"started on {note['host']}", f"only {note['host']} knows whether it still runs")
    if is_running(note["driver"]):
        return JobState(job_id, "running", f"process {note['driver']['pid']}")
    if is_running(note["keeper"]):
        return JobState(job_id, "running", "ending")
    return JobState(job_id, "failed", "ended without an exit code", "it was killed, or the machine was restarted; ptm job resume goes on")


def _lines(path: Path, goes_on: Any) -> Iterator[str]:
    """Yield the lines of a file that grows, as long as it goes on."""
    with path.open("rb") as file:
        rest = b""
        while True:
            more = goes_on()  # Before reading: what is written until it has ended is read then.
            *lines, rest = (rest + file.read()).split(b"\n")
            yield from (line.decode("utf8", errors="replace") for line in lines)
            if not more:
                break
            time.sleep(LOOK_SECONDS)
        if rest:
            yield rest.decode("utf8", errors="replace")


def _writable(name: str, folder: Path) -> Finding:
    probe = folder / f".ptm-check-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"ok")
        fine = probe.read_bytes() == b"ok"
        probe.unlink()
    except OSError as error:
        return Finding(False, f"{name}: {folder} cannot be written ({error.strerror}); choose another folder or change its permissions")
    return Finding(fine, f"{name}: {folder} can be written")
