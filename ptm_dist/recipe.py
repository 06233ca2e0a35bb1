"""The recipe: everything that decides what a run computes, as one strict and frozen schema.

Every field has a tag of `changes`, its own or that of its class; what is tagged allowed does not enter the digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, Field, SerializeAsAny, model_validator

from ptm_dist.changes import ALLOWED, Change, change_of, tag_of
from ptm_dist.corpus import SOURCES, TOKENIZERS
from ptm_dist.formats.labelled import LabelledFormat
from ptm_dist.models import FAMILIES
from ptm_dist.models.base import Family
from ptm_dist.optimizers import OPTIMIZERS
from ptm_dist.optimizers.base import OptimizerSettings
from ptm_dist.plugins import plugin
from ptm_dist.recipe_budget import Slot, unsettled
from ptm_dist.recipe_checks import check_heads, check_memory, check_names, check_segments, check_task, check_task_types, known
from ptm_dist.recipe_parts import (
    Batch,
    Checkpoints,
    Corpus,
    Data,
    Engine,
    Evaluation,
    Extension,
    Metrics,
    Name,
    PlannedStage,
    Section,
    Stage,
    Task,
)
from ptm_dist.schedule import SCHEDULES, Growth, Schedule, StagePlan, TaskPlan
from ptm_dist.store import digest


class Recipe(Section):
    """One published or own system, from raw text to weights."""

    change: ClassVar[Change] = "frozen"

    name: Name
    paper: Annotated[str, Field(json_schema_extra=ALLOWED)] = ""
    """Where the setting was published."""
    seed: Annotated[int, Field(ge=0)] = 1
    init: str | None = None
    """A run, run@step or portable folder whose weights the run starts from."""
    sources: Annotated[dict[Name, Annotated[Any, plugin(SOURCES)]], Field(min_length=1)]
    corpus: Corpus = Corpus()
    tokenizer: Annotated[Any, plugin(TOKENIZERS)]
    model: Annotated[Family, plugin(FAMILIES)]
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    stages: tuple[Stage, ...] = ()
    """Give these, or a `schedule` that makes them; of both, the stages of the schedule come first."""
    schedule: Annotated[Any, plugin(SCHEDULES)] | None = None
    """How tasks join one after the other."""
    extended: Extension | None = None
    """Set when a run goes on beyond its planned steps."""
    batch: Batch
    optimizer: Annotated[SerializeAsAny[OptimizerSettings], plugin(OPTIMIZERS)]
    engine: Engine = Engine()
    checkpoint: Checkpoints = Checkpoints()
    evaluate: Evaluation = Evaluation()
    data: Data = Data()
    metrics: Metrics = Metrics()

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        if not self.all_stages:
            raise ValueError("stages: give these or a schedule")
        check_names("stages", [stage.name for stage in self.all_stages])
        for number, stage in enumerate(self.stages):
            known(f"stages.{number}.steps", stage.steps, self.tasks)
        known("schedule.tasks", self.schedule.tasks if self.schedule else (), self.tasks)
        known("extended.sources", self.later_sources, self.sources)
        check_task_types("model.task_types", self.model, self.tasks)
        for name, task in self.tasks.items():
            known(f"tasks.{name}.sources", task.sources, self.sources)
            check_heads(f"tasks.{name}.heads_of", task, self.tasks)
        return self

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        probes = {f"evaluate.downstream.{name}": probe for name, probe in self.evaluate.downstream.items()}
        for path, made in ({f"tasks.{name}": task for name, task in self.tasks.items()} | probes).items():
            if made.format.length > self.model.longest:
                raise ValueError(f"{path}.format.length {made.format.length} exceeds the model's positions {self.model.longest}")
            check_segments(path, made, self.model)
        return self

    @model_validator(mode="after")
    def _sources_suit(self) -> Self:
        if {isinstance(task.format, LabelledFormat) for task in self.tasks.values()} == {True, False}:
            raise ValueError("tasks: some read labelled items and some documents; give these to two runs, the second with init: the first")
        for name, source in self.sources.items():
            if (source.kind == "labelled") != self.is_labelled:
                wanted = "labelled items, so write kind: labelled" if self.is_labelled else "documents, so it cannot be labelled"
                raise ValueError(f"sources.{name}: the tasks read {wanted}")
        return self

    @model_validator(mode="after")
    def _formats_give_what_is_read(self) -> Self:
        for name, task in self.tasks.items():
            check_task(f"tasks.{name}", task, self.corpus.units is not None)
            check_memory(f"tasks.{name}", task, self.model)
            own = [stage.name for stage in self.stages if name in stage.steps and (stage.rows or stage.tokens)]
            if task.format.stateful and (self.batch.rows != self.batch.lanes or self.batch.warmup or own):
                raise ValueError(
                    f"batch.rows {self.batch.rows}: the rows of tasks.{name} go on from batch to batch, one in each lane, so batch.rows "
                    f"must be batch.lanes ({self.batch.lanes}) in every stage, without batch.warmup"
                )
        return self

    @property
    def is_labelled(self) -> bool:
        """Are all rows made of labelled items, and none of documents?"""
        return all(isinstance(task.format, LabelledFormat) for task in self.tasks.values())

    def names_of(self, task: str) -> tuple[str, ...]:
        """Return the classes or tags that a task tells apart, in the order of their numbers; none where it tells none by name."""
        return next((objective.names for objective in self.tasks[task].objectives if objective.names), ())

    @property
    def probe_data(self) -> dict[str, str]:
        """What the data set of each probe is called in a run, by the name of the probe."""
        return {name: probe.data_of(name) for name, probe in self.evaluate.downstream.items()}

    def owner(self, task: str) -> str:
        """Return the task that the classifiers of a task belong to."""
        return self.tasks[task].heads_of or task

    def rows_of(self, stage: Stage | PlannedStage, mean_tokens: float) -> int:
        """Return the rows of a batch of a stage whose examples have `mean_tokens` on average."""
        own = stage.rows or stage.tokens
        return (self.batch.model_copy(update={"rows": stage.rows, "tokens": stage.tokens}) if own else self.batch).rows_of(mean_tokens)

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """The stages as they are written, those that a schedule makes first."""
        made = self.schedule.stages() if self.schedule else ()
        return *(Stage(name=f"stage-{number}", steps=steps) for number, steps in enumerate(made, 1)), *self.stages

    @property
    def budgets(self) -> dict[Slot, str]:
        """The budgets that have not become updates yet. Nothing trains before there are none."""
        return {(stage.name, task): steps for stage in self.stages for task, steps in stage.steps.items() if isinstance(steps, str)}

    def with_steps(self, found: Mapping[Slot, int]) -> Recipe:
        """Return the recipe with updates in place of what stands at some tasks of some stages."""
        stages = (
            stage.model_copy(update={"steps": {t: found.get((stage.name, t), n) for t, n in stage.steps.items()}}) for stage in self.stages
        )
        return self.model_copy(update={"stages": tuple(stages)})

    @property
    def planned_stages(self) -> tuple[PlannedStage, ...]:
        """The stages, those that a schedule makes first.

        Raises:
            ConfigError: a budget has not become updates yet.

        """
        if self.budgets:
            raise unsettled(self.budgets.items())
        stages = ((stage, {task: n for task, n in stage.steps.items() if isinstance(n, int)}) for stage in self.all_stages)
        return tuple(PlannedStage(stage.name, steps, stage.rows, stage.tokens) for stage, steps in stages)

    @property
    def stage_ends(self) -> dict[int, str]:
        """The step at which each stage but the last ends, and the name that its checkpoint is kept under."""
        stages = self.planned_stages
        ends = accumulate(sum(stage.steps.values()) for stage in stages[:-1])
        return {end: f"after-{stage.name}" for end, stage in zip(ends, stages, strict=False)}

    def plan(self, mean_tokens: Mapping[str, float]) -> Schedule:
        """Return what every step does, where the examples of each task have `mean_tokens` on average."""
        stages = tuple(
            StagePlan(
                stage.name,
                tuple(
                    TaskPlan(task, steps, self.rows_of(stage, mean_tokens[task]), f"{task}.train") for task, steps in stage.steps.items()
                ),
            )
            for stage in self.planned_stages
        )
        warmup = self.batch.warmup
        return Schedule(stages, Growth(warmup.start, warmup.steps) if warmup else None)

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return sum(sum(stage.steps.values()) for stage in self.planned_stages)

    @property
    def length(self) -> str:
        """How long the whole run is: its steps, or what is written in their place."""
        if not self.budgets:
            return f"{self.total_steps:,} steps"
        parts = (
            (f"{steps:,} steps" if isinstance(steps, int) else steps, task) for s in self.all_stages for task, steps in s.steps.items()
        )
        return ", ".join(f"{steps} of {task}" for steps, task in parts)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of an update."""
        shape, more = self.optimizer.schedule, self.extended
        first, end = 0, self.total_steps
        if shape.restart == "stage":
            first, end = self._stage_around(step)
        elif more and more.rate != "stretch":
            planned = step < more.after_steps or more.rate == "hold"
            first, end = (0, more.after_steps) if planned else (more.after_steps, end)
        return self.optimizer.learning_rate * shape.factor(min(step, end - 1) - first, end - first)

    def _stage_around(self, step: int) -> tuple[int, int]:
        ends = list(accumulate(sum(stage.steps.values()) for stage in self.planned_stages))
        number = next((number for number, end in enumerate(ends) if step < end), len(ends) - 1)
        return ends[number - 1] if number else 0, ends[number]

    def sources_of(self, task: str) -> list[str]:
        """Return the names of the sources that a task reads, sorted."""
        return sorted(self.tasks[task].sources or self.sources)

    @property
    def task_numbers(self) -> dict[str, int]:
        """The row of the table of tasks that each has: they count as they are first trained, by name where several begin together.

        So tasks that join later move no other, whatever their names.
        """
        begins = {task: number for number, stage in reversed(list(enumerate(self.all_stages))) for task in stage.steps}
        order = sorted(self.tasks, key=lambda task: (begins.get(task, len(self.all_stages)), task))
        return {task: number for number, task in enumerate(order)}

    @property
    def later_sources(self) -> tuple[str, ...]:
        """The sources that joined when the run went on, in their order."""
        return self.extended.sources if self.extended else ()

    def change_of(self, key: str) -> Change:
        """Return whether a run may go on with another value at a dotted path."""
        return change_of(self, key.split("."))

    def frozen(self) -> dict[str, Any]:
        """Return the part of the recipe that decides what comes out."""
        return _without_allowed(self)

    @property
    def digest(self) -> str:
        """SHA-256 in hex of the frozen part."""
        return digest(self.frozen())


def _without_allowed(section: BaseModel) -> dict[str, Any]:
    kept = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            kept[name] = _without_allowed(value)
        elif tag_of(type(section), name) != "allowed":
            kept[name] = _plain(value)
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
