"""A Ray cluster that is there already, through its Jobs API."""

from __future__ import annotations

import asyncio
import ipaddress
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ptm_dist.clusters.base import Cluster, Job, JobState, Sent, phase_of
from ptm_dist.clusters.grace import grace_seconds
from ptm_dist.clusters.ray_client import client_of, explained, submitted
from ptm_dist.clusters.ray_up import Machines, up_file
from ptm_dist.clusters.upload import CLUSTER, RECIPE, Upload, gather, human, pack
from ptm_dist.doctor import Finding
from ptm_dist.errors import ConfigError
from ptm_dist.kept import exit_code_in, kept_path, kept_words
from ptm_dist.recipe_parts import Count

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails

RUN: Final = "ptm_run"
"""Metadata by which a job is known as one of ours."""
_PHASES: Final = {"PENDING": "pending", "RUNNING": "running", "SUCCEEDED": "finished", "STOPPED": "stopped", "FAILED": "failed"}


class Ray(Cluster):
    """A running Ray cluster."""

    default_name: ClassVar[str] = "ray"

    kind: Literal["ray"] = "ray"
    address: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")] = "http://127.0.0.1:8265"
    """Ray's dashboard, which serves the Jobs API."""
    token_file: str | None = None
    """The file, here and readable by you alone, that holds the cluster's token; needed beyond loopback."""
    python: str = "python"
    """The Python of the cluster that has ptm_dist."""
    upload: tuple[str, ...] = ()
    """Files and folders below the directory in which ptm is started that go along."""
    stop_seconds: Count = 600
    """How long a job that was asked to stop may take to save, as long as nothing of its run has been measured."""
    start_seconds: Count = 600
    """How long Ray Train waits until the workers of an attempt are placed."""
    machines: Machines | None = None
    """Machines for `ray up`, where the cluster is not there yet."""

    @model_validator(mode="after")
    def _reachable_by_others(self) -> Self:
        if not is_loopback(self.address) and self.token_file is None:
            raise ValueError(
                f"token_file: missing; whoever reaches {self.address} could run anything there. Start Ray with RAY_AUTH_MODE=token and "
                "name the file of its token, or reach it by a tunnel to 127.0.0.1"
            )
        for key in ("runs", "cache"):
            if not getattr(self, key).startswith("/"):
                raise ValueError(f"{key}: write the whole path, as every node sees it: a job of Ray runs in a folder that Ray removes")
        return self

    def plan(self, job: Job) -> list[Sent]:
        """Return the files of the upload, the command, its variables and what is left out."""
        upload = gather(job, self, self.upload, Path())
        variables = "".join(f"{name}={value}\n" for name, value in self._variables(job).items())
        left_out = "".join(f"{name}: {why}\n" for name, why in upload.left_out)
        return [
            *(_sent(upload, number) for number in range(len(upload.files))),
            Sent("entrypoint", self._command(job)),
            Sent("environment", variables),
            *([Sent("left out", left_out)] if left_out else []),
        ]

    def submit(self, job: Job) -> str:
        """Upload the files and submit the command through the Jobs API."""
        upload = gather(job, self, self.upload, Path())
        client = client_of(self.address, self.token_file)
        with tempfile.TemporaryDirectory(prefix="ptm-upload-") as folder, explained(self.address, self.token_file):
            package = Path(folder) / "upload.zip"
            pack(upload, package)
            return submitted(
                client,
                entrypoint=self._command(job),
                submission_id=job.id,
                runtime_env={"working_dir": str(package), "env_vars": self._variables(job)},
                metadata={RUN: job.run, "ptm_digest": job.recipe.digest},
            )

    def jobs(self) -> list[JobState]:
        """Return the submissions of ptm that this Ray cluster has had since its start, newest first."""
        client = client_of(self.address, self.token_file)
        with explained(self.address, self.token_file):
            ours = [details for details in client.list_jobs() if RUN in (details.metadata or {})]
        return [_state_of(details, "") for details in sorted(ours, key=lambda details: -(details.start_time or 0))]

    def state(self, job_id: str) -> JobState:
        """Return where a submission stands."""
        client = client_of(self.address, self.token_file)
        with explained(self.address, self.token_file, job_id):
            details = client.get_job_info(job_id)
        log = ""
        if str(details.status) in ("STOPPED", "FAILED"):
            with suppress(Exception):  # The log tells more than Ray knows; the node that holds it may be gone.
                log = client.get_job_logs(job_id)
        return _state_of(details, log)

    def logs(self, job_id: str, follow: bool) -> Iterator[str]:
        """Yield the driver's lines from Ray, or, where Ray does not know the job any more, from the run directory."""
        try:
            state = self.state(job_id)
        except ConfigError:
            kept = kept_path(Path(self.runs) / job_id.rpartition("-a")[0], job_id)
            if not kept.exists():
                raise
            yield from kept.read_text(encoding="utf8", errors="replace").splitlines()
            return
        if not follow:
            yield from self._log(job_id).splitlines()
            return
        shown = 0
        while True:
            for number, line in enumerate(self._tailed(job_id)):
                if number >= shown:
                    shown = number + 1
                    yield line
            state = self.state(job_id)
            if state.phase not in ("pending", "running"):
                return
            time.sleep(1)  # The connection broke, or the job has not begun.

    def stop(self, job_id: str, now: bool) -> None:
        """Ask Ray to stop a job, which signals its driver once; with `now` the driver is told again."""
        client = client_of(self.address, self.token_file)
        with explained(self.address, self.token_file, job_id):
            details = client.get_job_info(job_id)
            if not client.stop_job(job_id):
                raise ConfigError(f"{job_id} is not running: {details.status}.")
            if not now:
                return
            asked = kept_path((details.metadata or {}).get(RUN, ""), job_id, "now")
            if asked.with_suffix(".log").exists():
                asked.touch()
                return
            # The run directory is not to be seen from here, so a small job makes the file.
            words = [self.python, "-m", "ptm_dist.kept", "--now", str(asked)]
            submitted(client, entrypoint=shlex.join(words), metadata={"ptm_stops": job_id})

    def render(self) -> Mapping[str, str]:
        """Return the file that `ray up` starts such a cluster from, if the machines are named."""
        return {} if self.machines is None else {"ray/cluster.yaml": up_file(self.name, self.address, self.token_file, self.machines)}

    def check(self) -> Iterator[Finding]:
        """Look at the cluster from here, and at every node from within, by a small job."""
        from ptm_dist.clusters.ray_check import check

        yield from check(self)

    def entrypoint(self, job: Job, recipe: str, cluster: str) -> list[str]:
        """Return the words that run a job with the cluster's Python, whatever PATH is there."""
        words = super().entrypoint(job, recipe, cluster)
        return [self.python, "-m", "ptm_dist", *words[1:]]

    def _command(self, job: Job) -> str:
        # Ray hands it to a shell; every word of it is quoted.
        return shlex.join(kept_words(self.python, job.run, job.id, self.entrypoint(job, RECIPE, CLUSTER)))

    def _variables(self, job: Job) -> dict[str, str]:
        ours = {
            # Ctrl-C's signal, since Python and Ray end at once at SIGTERM until the driver listens; and more than Ray's 3 seconds to save.
            "RAY_JOB_STOP_SIGNAL": "SIGINT",
            "RAY_JOB_STOP_WAIT_TIME_S": str(grace_seconds(job.run, self.stop_seconds)),
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(self.start_seconds),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
        }
        return ours | self.environment

    def _log(self, job_id: str) -> str:
        client = client_of(self.address, self.token_file)
        with explained(self.address, self.token_file, job_id):
            return client.get_job_logs(job_id)

    def _tailed(self, job_id: str) -> Iterator[str]:
        """Yield lines as Ray sends them, until the job has ended or the connection breaks."""
        pieces, rest = self._pieces(job_id), ""
        for piece in pieces:
            *lines, rest = (rest + piece).split("\n")
            yield from lines
        if rest:
            yield rest

    def _pieces(self, job_id: str) -> Iterator[str]:
        tail: Any = client_of(self.address, self.token_file).tail_job_logs(job_id)
        with asyncio.Runner() as runner:
            while True:
                try:
                    piece = runner.run(anext(tail))
                except (StopAsyncIteration, RuntimeError, OSError):
                    return
                yield piece


def is_loopback(address: str) -> bool:
    """Does an address name this machine itself?"""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sent(upload: Upload, number: int) -> Sent:
    file = upload.files[number]
    if isinstance(file.content, bytes):
        return Sent(file.name, file.content.decode())
    return Sent(file.name, f"{human(file.size)} from {file.content}", file.size)


def _state_of(details: JobDetails, log: str) -> JobState:
    native, code = str(details.status), getattr(details, "driver_exit_code", None)
    code = exit_code_in(log) if code is None else code
    phase: Any = _PHASES.get(native, "unknown") if code is None else phase_of(code)
    told = [line for line in log.splitlines() if line.startswith("error: ")]
    theirs = (details.message or "").partition("\n")[0] if native in ("PENDING", "FAILED") else ""
    message = told[-1].removeprefix("error: ") if told else theirs
    return JobState(details.submission_id or "", phase, native, message, code)
