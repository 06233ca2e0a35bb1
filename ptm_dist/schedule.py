"""What happens at which step: the task, the position in its data, the learning rate. Pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


@dataclass(frozen=True)
class TaskPlan:
    """A task within a stage: `steps` updates of `rows` examples each from the data set named `data`."""

    task: str
    steps: int
    rows: int
    data: str


@dataclass(frozen=True)
class StagePlan:
    """A stretch of steps with a fixed set of tasks, interleaved evenly."""

    name: str
    tasks: tuple[TaskPlan, ...]

    @property
    def steps(self) -> int:
        """Updates in this stage."""
        return sum(plan.steps for plan in self.tasks)

    @cached_property
    def sequence(self) -> np.ndarray:
        """The index of the task of every step, int16 [steps]: a pattern as short as the counts allow, repeated."""
        counts = [plan.steps for plan in self.tasks]
        repeats = math.gcd(*counts)
        return np.tile(_interleaved([count // repeats for count in counts]), repeats)


def _interleaved(counts: list[int]) -> np.ndarray:
    """Spread tasks so evenly that after every step each is less than one step ahead of its share, or behind it.

    Source: Tijdeman 1980, "The chairman assignment problem": of the tasks that lag, the one whose deadline comes first.
    """
    total, parts = sum(counts), max(1, 2 * len(counts) - 2)
    done = [0] * len(counts)
    sequence = np.empty(total, dtype=np.int16)
    for step in range(total):
        lagging = [task for task, count in enumerate(counts) if (count * (step + 1) - total * done[task]) * parts >= total]
        deadlines = [-(((done[task] + 1) * parts - 1) * -total // (parts * counts[task])) for task in lagging]
        sequence[step] = chosen = lagging[deadlines.index(min(deadlines))]
        done[chosen] += 1
    return sequence


@dataclass(frozen=True)
class Moment:
    """One step of a run: which task, in which stage, and how many rows of its data set were consumed before."""

    step: int
    stage: int
    task: str
    data: str
    rows: int
    position: int


@dataclass(frozen=True)
class Growth:
    """Batches that grow: from the share `start` of their rows, in a straight line over the first `steps` of the run."""

    start: float
    steps: int

    def rows(self, full: int, steps: np.ndarray) -> np.ndarray:
        """Return the rows of the batches at `steps`, int64 [steps], whose full size is `full`."""
        share = np.minimum(1.0, self.start + (1.0 - self.start) * steps / self.steps)
        return np.maximum(1, np.rint(full * share)).astype(np.int64)


@dataclass(frozen=True)
class Schedule:
    """The stages of a run, one after the other."""

    stages: tuple[StagePlan, ...]
    growth: Growth | None = None

    @property
    def total_steps(self) -> int:
        """Updates in the whole run."""
        return sum(stage.steps for stage in self.stages)

    @property
    def most_rows(self) -> int:
        """Rows of the largest batch."""
        return max(plan.rows for stage in self.stages for plan in stage.tasks)

    def at(self, step: int) -> Moment:
        """Return what step `step` does.

        Raises:
            IndexError: the run has no such step.

        """
        number, local = self._stage_of(step)
        plan = self.stages[number].tasks[int(self.stages[number].sequence[local])]
        position = sum(
            self._consumed(before, index, local if before == number else stage.steps)
            for before, stage in enumerate(self.stages[: number + 1])
            for index, other in enumerate(stage.tasks)
            if _same_cursor(other, plan)
        )
        return Moment(step, number, plan.task, plan.data, self._rows(plan, np.array([step]))[0].item(), position)

    def rows_read(self, stage: int, task: int) -> int:
        """Return the rows that a task of a stage reads, both by their numbers."""
        plan = self.stages[stage].tasks[task]
        return self._consumed(stage, task, self.stages[stage].steps) if self.growth else plan.steps * plan.rows

    def _consumed(self, stage: int, task: int, steps: int) -> int:
        """Return the rows that a task consumes in the first `steps` of a stage."""
        first, plan = sum(earlier.steps for earlier in self.stages[:stage]), self.stages[stage].tasks[task]
        mine = self.stages[stage].sequence[:steps] == task
        growing = max(0, self.growth.steps - first) if self.growth else 0
        grown = self._rows(plan, first + np.flatnonzero(mine[:growing])).sum()
        return int(grown) + int(mine[growing:].sum()) * plan.rows

    def _rows(self, plan: TaskPlan, steps: np.ndarray) -> np.ndarray:
        return self.growth.rows(plan.rows, steps) if self.growth else np.full(len(steps), plan.rows, dtype=np.int64)

    def _stage_of(self, step: int) -> tuple[int, int]:
        local = step
        for number, stage in enumerate(self.stages):
            if 0 <= local < stage.steps:
                return number, local
            local -= stage.steps
        raise IndexError(f"step {step} is not one of the {self.total_steps} steps of this run")


def _same_cursor(one: TaskPlan, other: TaskPlan) -> bool:
    return (one.task, one.data) == (other.task, other.data)


class TaskSchedule(BaseModel):
    """Stages made from a list of tasks that all get the same number of updates."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Any  # the name of the class in the table; a literal there
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    """Tasks in the order in which they join."""
    steps_per_task: Annotated[int, Field(gt=0)]
    """Updates of each task in the whole run."""

    @model_validator(mode="after")
    def _a_task_joins_once(self) -> Self:
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("a task joins once; remove the second mention")
        return self

    def stages(self) -> list[dict[str, int]]:
        """Return the updates of each task, stage by stage."""
        raise NotImplementedError


class Continual(TaskSchedule):
    """One task after the other, each in a stage of its own, so that nothing keeps the earlier ones from being forgotten.

    Source: ERNIE 2.0 (Sun et al. 2020, section 3.1.3 and table 7), the first of the methods that it compares.
    """

    kind: Literal["continual"] = "continual"

    def stages(self) -> list[dict[str, int]]:
        """Return the updates of each task, stage by stage."""
        return [{task: self.steps_per_task} for task in self.tasks]


class MultiTask(TaskSchedule):
    """All tasks from the start, in one stage.

    Source: ERNIE 2.0 (Sun et al. 2020, section 3.1.3 and table 7), the second of the methods that it compares.
    """

    kind: Literal["multi_task"] = "multi_task"

    def stages(self) -> list[dict[str, int]]:
        """Return the updates of each task, stage by stage."""
        return [dict.fromkeys(self.tasks, self.steps_per_task)]


class ContinualMultiTask(TaskSchedule):
    """Tasks join one by one, and each gets the same number of updates in all, spread so that none is forgotten.

    Source: ERNIE 2.0 (Sun et al. 2020, section 3.1.3 and table 7): of n + 1 equal parts of a task's updates, s + 1 fall into the
    stage s that introduces it, counted from 1, and one into each later stage. What does not divide goes into the first stage
    of the task.
    """

    kind: Literal["continual_multi_task"] = "continual_multi_task"

    @model_validator(mode="after")
    def _every_stage_has_every_task(self) -> Self:
        if self.steps_per_task <= len(self.tasks):
            raise ValueError(f"{len(self.tasks)} tasks need more than {len(self.tasks)} steps_per_task")
        return self

    def stages(self) -> list[dict[str, int]]:
        """Return the updates of each task, stage by stage."""
        unit = self.steps_per_task // (len(self.tasks) + 1)
        first = [self.steps_per_task - unit * later for later in reversed(range(len(self.tasks)))]
        return [dict.fromkeys(self.tasks[:number], unit) | {task: first[number]} for number, task in enumerate(self.tasks)]


SCHEDULES: Final[dict[str, type[TaskSchedule]]] = {
    "continual": Continual,
    "continual_multi_task": ContinualMultiTask,
    "multi_task": MultiTask,
}
