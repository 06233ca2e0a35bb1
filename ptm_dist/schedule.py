"""What happens at which step: the task, the position in its data, the learning rate. Pure functions of the step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


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
        """The index of the task of every step, int16 [steps].

        Occurrence j of a task with n of the stage's N steps wants to stand at (j + 1/2) N / n; sorting these wishes
        spreads every task evenly, each with exactly its number of steps.
        """
        wishes = [(np.arange(plan.steps) + 0.5) * self.steps / max(plan.steps, 1) for plan in self.tasks]
        names = [np.full(plan.steps, index, dtype=np.int16) for index, plan in enumerate(self.tasks)]
        return np.concatenate(names)[np.argsort(np.concatenate(wishes), kind="stable")]


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
class Schedule:
    """The stages of a run, one after the other."""

    stages: tuple[StagePlan, ...]

    @property
    def total_steps(self) -> int:
        """Updates in the whole run."""
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> Moment:
        """Return what step `step` does.

        Raises:
            IndexError: the run has no such step.

        """
        number, local = self._stage_of(step)
        stage = self.stages[number]
        index = int(stage.sequence[local])
        plan = stage.tasks[index]
        position = int((stage.sequence[:local] == index).sum()) * plan.rows
        position += sum(
            other.steps * other.rows for earlier in self.stages[:number] for other in earlier.tasks if _same_cursor(other, plan)
        )
        return Moment(step, number, plan.task, plan.data, plan.rows, position)

    def _stage_of(self, step: int) -> tuple[int, int]:
        local = step
        for number, stage in enumerate(self.stages):
            if 0 <= local < stage.steps:
                return number, local
            local -= stage.steps
        raise IndexError(f"step {step} is not one of the {self.total_steps} steps of this run")


def _same_cursor(one: TaskPlan, other: TaskPlan) -> bool:
    return (one.task, one.data) == (other.task, other.data)


class _Rate(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Linear(_Rate):
    """Linear warm-up to the peak, then linear decay to zero at the last step.

    Source: RoBERTa (Liu et al. 2019, section 2.5), fairseq's polynomial decay of power 1: continuous at the end of the warm-up,
    and the very first update already moves.
    """

    kind: Literal["linear"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 0

    def factor(self, step: int, total_steps: int) -> float:
        """Return the share of the peak rate for update `step` of `total_steps`."""
        update = max(step, 1)
        if update <= self.warmup_steps:
            return update / self.warmup_steps
        return max(0.0, (total_steps - update) / max(1, total_steps - self.warmup_steps))


class Constant(_Rate):
    """Linear warm-up to the peak, which then stays."""

    kind: Literal["constant"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0

    def factor(self, step: int, total_steps: int) -> float:
        """Return the share of the peak rate for update `step` of `total_steps`."""
        return min(1.0, max(step, 1) / max(1, self.warmup_steps))


RATES: Final = {"linear": Linear, "constant": Constant}
