"""What every kind of cluster has: a typed file that says how to reach it, and the same few verbs."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, field_validator

from ptm_dist.doctor import Finding
from ptm_dist.recipe import Recipe
from ptm_dist.terms import Supervise, Terms

Phase = Literal["pending", "running", "finished", "stopped", "failed", "unknown"]

_SECRET_NAME: Final = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|APIKEY|(API|ACCESS|PRIVATE|SECRET)_KEY)(_ID)?$", re.I)


@dataclass(frozen=True)
class Job:
    """What is submitted: a run in a directory that every node of the cluster sees under this path, and which submission of it this is."""

    recipe: Recipe
    run: str
    submission: int = 1

    @property
    def id(self) -> str:
        """The name of this submission, new for each: <run>-a<submission>."""
        return f"{self.run.rstrip('/').rpartition('/')[2]}-a{self.submission}"


@dataclass(frozen=True)
class Sent:
    """One thing that a submission sends: a file or a command, with its text."""

    name: str
    text: str
    size: int | None = None
    """Bytes of a file whose text is not given here."""

    @property
    def bytes(self) -> int:
        """How much it is."""
        return len(self.text.encode()) if self.size is None else self.size


@dataclass(frozen=True)
class JobState:
    """Where a submission stands; `native` is what the cluster itself calls it."""

    id: str
    phase: Phase
    native: str
    message: str = ""
    exit_code: int | None = None


def phase_of(exit_code: int) -> Phase:
    """Return how a submission ended whose driver had this exit code."""
    return "finished" if exit_code == 0 else "stopped" if exit_code in (10, 11) else "failed"


class Cluster(Terms):
    """A place to run. A frozen model: its fields are the YAML of configs/cluster, its methods do the work."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
    default_name: ClassVar[str]

    kind: Any
    """Each class has its own word here."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")] = "ptm"
    """Names what is made in the cluster."""
    runs: str = "runs"
    """Where run directories live, on storage that every node sees under this path."""
    cache: str = "data"
    """Where prepared data live, likewise."""
    environment: dict[str, str] = {}
    """Variables of driver and workers. No secrets: they can be read by whoever may see the job."""
    supervise: Supervise = Supervise(restarts=10)

    @field_validator("environment")
    @classmethod
    def _without_secrets(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if _SECRET_NAME.search(name):
                raise ValueError(
                    f"{name}: whoever may see the job can read this. Put the secret into a file that only you can read on "
                    "every node, and name that file here"
                )
        return environment

    @abc.abstractmethod
    def plan(self, job: Job) -> list[Sent]:
        """Return all that `submit` would send, and how; nothing is sent."""

    @abc.abstractmethod
    def submit(self, job: Job) -> str:
        """Submit a job and return the id by which the cluster knows it.

        Raises:
            ConfigError: the cluster cannot be reached or refuses.

        """

    @abc.abstractmethod
    def jobs(self) -> list[JobState]:
        """Return the submissions that the cluster knows, newest first."""

    @abc.abstractmethod
    def state(self, job_id: str) -> JobState:
        """Return where a submission stands.

        Raises:
            ConfigError: the cluster does not know it.

        """

    @abc.abstractmethod
    def logs(self, job_id: str, follow: bool) -> Iterator[str]:
        """Yield what the driver printed, line by line; with `follow` until the job has ended."""

    @abc.abstractmethod
    def stop(self, job_id: str, now: bool) -> None:
        """Ask a job to finish its step, save and stop; with `now` end it at once, without saving."""

    @abc.abstractmethod
    def render(self) -> Mapping[str, str]:
        """Return the files that set this cluster up, by path below launch/."""

    @abc.abstractmethod
    def check(self) -> Iterator[Finding]:
        """Look at everything a job needs; each finding passes or says what to do."""

    def entrypoint(self, job: Job, recipe: str, cluster: str) -> list[str]:
        """Return the words that run a job inside the cluster; `recipe` and `cluster` are the paths of its files there."""
        return ["ptm", "train", recipe, "--run", job.run, "--cache", self.cache, "--cluster", cluster]


def cluster_json(cluster: Cluster) -> dict[str, Any]:
    """Return plain data, from which the same cluster can be read."""
    return cluster.model_dump(mode="json")
