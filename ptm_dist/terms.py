"""On what terms a run runs: restarts, workers, metrics, messages. They belong to the place where it runs, never to its recipe."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ptm_dist.recipe_parts import Count, Section

Seconds = Annotated[float, Field(gt=0)]


class Supervise(Section):
    """What happens when an attempt ends before the run does."""

    restarts: Annotated[int, Field(ge=0)] = 0
    """Attempts that may fail one after the other; a new checkpoint makes all of them available again."""
    wait_seconds: Seconds = 5.0
    """Before the first restart; doubled for each further failure in a row, with some chance in it."""
    longest_wait_seconds: Seconds = 300.0
    capacity_seconds: Seconds = 600.0
    """How long the least number of workers is waited for before the run gives up with exit code 60."""
    grow_seconds: Seconds = 60.0
    """How long more workers must have been available before a run that has fewer stops, saves and takes them."""
    check_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Before each attempt, so much time is spent on matrix products and an all-reduce to find nodes that are slow or wrong; 0: none."""


class Workers(Section):
    """How many workers an attempt may have. The recipe says how many it wants."""

    least: Count | None = None
    """The fewest that are worth starting; None: as many as the recipe wants."""


class MetricsBinding(Section):
    """Where workers and driver serve their metrics, in place of what the recipe says."""

    host: str = "127.0.0.1"
    """Interface to listen on; 0.0.0.0 in a cluster whose network is its own."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """First port of a node; 0 takes free ones, which monitoring/targets.json of the run lists."""


class Notify(Section):
    """Who is told that a run started, restarted, finished or gave up."""

    kind: Literal["json", "slack", "feishu", "dingtalk"]
    """The form of the message."""
    url_file: str
    """A file that holds the address, which is a secret: it is never written anywhere else."""


class Terms(Section):
    """The terms of a run."""

    supervise: Supervise = Supervise()
    workers: Workers = Workers()
    metrics: MetricsBinding | None = None
    """None: as the recipe says."""
    notify: tuple[Notify, ...] = ()

    @model_validator(mode="after")
    def _waits(self) -> Self:
        if self.supervise.longest_wait_seconds < self.supervise.wait_seconds:
            raise ValueError("supervise.longest_wait_seconds is less than supervise.wait_seconds")
        return self
