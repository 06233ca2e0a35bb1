"""Slurm: a batch job that saves before its time is over and goes on in the next one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from ptm_dist.clusters.base import Cluster, Job, JobState, Sent, cluster_json
from ptm_dist.clusters.commands import call
from ptm_dist.clusters.slurm_check import findings
from ptm_dist.clusters.slurm_queue import GOES_ON, asked, chain_of, chains
from ptm_dist.clusters.slurm_script import folder_of, script_of
from ptm_dist.doctor import Finding
from ptm_dist.errors import ConfigError
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_to_json
from ptm_dist.recipe_parts import Count
from ptm_dist.store import explain_disk_errors

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:,+@/=-]*$")]
Port = Annotated[int, Field(ge=1024, le=65535)]

PLAIN_PATH: Final = r"[A-Za-z0-9_./+=@,~-]+"


class Slurm(Cluster):
    """A partition of a Slurm cluster. Submit on a login node; runs and cache lie on storage that all nodes share."""

    default_name: ClassVar[str] = "slurm"

    kind: Literal["slurm"] = "slurm"
    partition: Word | None = None
    """None: the default partition."""
    account: Word | None = None
    nodes: Count = 1
    """On one node the workers are started without Ray; on more, one Ray is started for the allocation."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    cpus_per_task: Count = 4
    """CPU cores of a node."""
    memory: Annotated[str, Field(pattern=r"^\d+[KMGT]?$")] = "16G"
    """Of a node; 0 takes all that it has."""
    time: Annotated[str, Field(pattern=r"^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$")] = "1-00:00:00"
    """The limit after which Slurm ends the job: minutes, hours:minutes:seconds or days-hours:minutes:seconds."""
    signal: Literal["USR1", "USR2", "TERM", "HUP"] = "USR1"
    """What Slurm sends to the batch script before the limit; another one where the site, or a library, uses USR1 itself."""
    signal_seconds: Count | None = None
    """How long before the limit. Slurm sends it up to a minute early or late. None: what the run has needed to save, or 300."""
    requeue: bool = True
    """The job puts itself back into the queue after it has saved. false, where that is forbidden: a second job of the same name waits
    for the end of the first (--dependency=singleton) and goes on."""
    most_jobs: Count = 100
    """With requeue: false, how many jobs may follow one another."""
    options: tuple[Annotated[str, Field(pattern=r"^--[a-z][a-z0-9-]*(=\S+)?$")], ...] = ()
    """Further options of sbatch, for example --qos=long."""
    setup: tuple[str, ...] = ()
    """Lines of shell that make ptm available on a node: module load, source VENV/bin/activate."""
    temporary: Annotated[str, Field(pattern=r"^/[A-Za-z0-9_./-]{0,60}$")] = "/tmp"  # noqa: S108 - short, on each node; a folder of the job's own is made in it
    """Where a node keeps what lasts as long as the job; Ray needs a short path."""
    first_port: Port = 20000
    last_port: Port = 31999
    """Ray of a job listens within this range: on a block of ports_of_job, chosen by the number of the job."""
    ports_of_job: Annotated[int, Field(ge=50)] = 200

    def plan(self, job: Job) -> list[Sent]:
        """Return the files that are written beside the run's logs, and the script that sbatch reads."""
        self._require_room(job.recipe)
        folder = folder_of(job)
        if not re.fullmatch(PLAIN_PATH, str(folder)):
            raise ConfigError(f"{job.run}: Slurm takes letters, digits and _./+=@,~- in the path of a run. Choose another run directory.")
        return [
            Sent(str(folder / "recipe.json"), json.dumps(recipe_to_json(job.recipe), indent=1)),
            Sent(str(folder / "cluster.json"), json.dumps(cluster_json(self), indent=1)),
            Sent("sbatch --parsable", script_of(self, job)),
        ]

    def submit(self, job: Job) -> str:
        """Write the files, hand the script to sbatch and return the number of the job."""
        *files, script = self.plan(job)
        folder = folder_of(job)
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for sent in files:
                Path(sent.name).write_text(sent.text, encoding="utf8")
        number = call(script.name.split(), script.text).strip().partition(";")[0]
        with explain_disk_errors(folder), (folder / "jobs").open("a") as file:
            file.write(f"{number}\n")
        return number

    def jobs(self) -> list[JobState]:
        """Return the submissions of all runs in `runs`, newest first."""
        return [chain.told() for chain in chains(Path(self.runs))]

    def state(self, job_id: str) -> JobState:
        """Return where a submission stands, given its name or the number of one of its jobs."""
        return chain_of(Path(self.runs), job_id).state(job_id)

    def logs(self, job_id: str, follow: bool) -> Iterator[str]:
        """Yield what batch script and driver printed, of all jobs of the submission."""
        chain = chain_of(Path(self.runs), job_id)
        if chain.folder is None:
            raise ConfigError(
                f"job {job_id}: no run in {self.runs} has its log. Is `runs` of the cluster file the folder that it was sent to?"
            )
        yield from chain.lines(lambda: follow and chain_of(Path(self.runs), job_id).state(job_id).phase in GOES_ON)

    def stop(self, job_id: str, now: bool) -> None:
        """Send SIGTERM to the batch script, which asks the driver to save; what only waits is cancelled."""
        chain = chain_of(Path(self.runs), job_id)
        if chain.folder is not None:
            with explain_disk_errors(chain.folder):
                (chain.folder / "stop").touch()  # What was stopped by its user does not go back into the queue.
        for number in reversed(chain.numbers):
            state = asked(number)
            if state and state.phase in GOES_ON:
                gently = ["--signal=TERM", "--batch"] if state.phase == "running" and not now else []
                call(["scancel", *gently, number])

    def render(self) -> Mapping[str, str]:
        """Return the script for those who call sbatch themselves."""
        return {"slurm/train.sbatch": script_of(self, None)}

    def check(self) -> Iterator[Finding]:
        """Look at clients, partition, limits and folders; sbatch itself checks a job without submitting it."""
        return findings(self)

    def _require_room(self, recipe: Recipe) -> None:
        engine, devices, cores = recipe.engine, self.nodes * self.gpus_per_node, self.nodes * self.cpus_per_task
        if devices and engine.workers > devices:
            raise ConfigError(f"engine.workers: {engine.workers} workers, but the job has {devices} GPUs. Raise nodes or gpus_per_node.")
        if engine.workers * engine.threads > cores:
            raise ConfigError(
                f"engine.workers: {engine.workers} workers of {engine.threads} threads, but the job has {cores} CPU cores. "
                "Raise nodes or cpus_per_task of the cluster."
            )
