"""The recipe: everything that decides what a run computes, as one strict and frozen schema.

Every field has a tag of `changes`, its own or that of its class; what is tagged allowed does not enter the digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from ptm_dist.changes import ALLOWED, REASON, Change, change_of, tag_of
from ptm_dist.corpus import SOURCES, TOKENIZERS, UNITS
from ptm_dist.corpus.clean import CleanSettings
from ptm_dist.corpus.dedup import DedupSettings
from ptm_dist.corpus.split import SplitSettings
from ptm_dist.formats import FORMATS
from ptm_dist.models import FAMILIES
from ptm_dist.models.base import Family
from ptm_dist.objectives import OBJECTIVES
from ptm_dist.objectives.base import Objective
from ptm_dist.optimizers import OPTIMIZERS
from ptm_dist.optimizers.base import OptimizerSettings
from ptm_dist.plugins import plugin
from ptm_dist.recipe_budget import Slot, Steps, unsettled
from ptm_dist.recipe_checks import check_heads, check_memory, check_names, check_segments, check_task, check_task_types, known
from ptm_dist.schedule import SCHEDULES, Growth, Schedule, StagePlan, TaskPlan
from ptm_dist.store import digest

Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Count: TypeAlias = Annotated[int, Field(gt=0)]
ExtendedRate: TypeAlias = Literal["stretch", "hold", "restart"]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of a recipe: no unknown key, no silent conversion, no later change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Corpus(Section):
    """What happens to documents before any format sees them."""

    change: ClassVar[Change] = "frozen"

    clean: CleanSettings = CleanSettings()
    dedup: DedupSettings = DedupSettings()
    split: SplitSettings = SplitSettings()
    units: Annotated[Any, plugin(UNITS)] | None = None
    """What words, phrases and entities are, for masks and formats that ask for them."""


class Task(Section):
    """A format over sources, and the objectives trained on its examples."""

    change: ClassVar[Change] = "frozen"

    format: Annotated[Any, plugin(FORMATS)]
    """How documents become examples."""
    objectives: Annotated[tuple[Annotated[SerializeAsAny[Objective], plugin(OBJECTIVES)], ...], Field(min_length=1)]
    """What is trained on them."""
    sources: tuple[str, ...] = ()
    """Names of the sources; empty means all of them."""
    heads_of: str | None = None
    """Another task whose classifiers this one trains further: the same objectives over longer rows, or with other masks."""


class Stage(Section):
    """A stretch of training with its own set of tasks."""

    change: ClassVar[Change] = "frozen"

    name: Name
    steps: dict[str, Steps]
    """Updates of each task in this stage, or a budget that becomes updates when data are prepared: `40 epochs`, `137B tokens`,
    `2.5 hours`."""
    rows: Count | None = None
    """Examples in a batch of this stage, in place of `batch`."""
    tokens: Count | None = None
    """Tokens in a batch of this stage, in place of `batch`."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.rows and self.tokens:
            raise ValueError("give either rows or tokens")
        return self


@dataclass(frozen=True)
class PlannedStage:
    """A stage whose budgets have all become updates."""

    name: str
    steps: dict[str, int]
    rows: int | None = None
    tokens: int | None = None


class BatchWarmup(Section):
    """Smaller batches at the beginning of a run."""

    change: ClassVar[Change] = "frozen"

    start: Annotated[float, Field(gt=0, le=1)]
    """The first batch, as a share of the full one."""
    steps: Count
    """Steps over which batches grow in a straight line to the full size."""


class Batch(Section):
    """How much goes into one update, over all workers."""

    change: ClassVar[Change] = "frozen"

    rows: Count | None = None
    """Examples in a batch. Give this or `tokens`."""
    tokens: Count | None = None
    """Tokens in a batch; the rows are this divided by the mean length of the task's examples."""
    micro: Annotated[Count | Literal["auto"], Field(json_schema_extra=ALLOWED)] = 16
    """Most rows that a worker forwards at once; more are accumulated. auto finds how many fit when the run starts, and writes that
    into the run."""
    warmup: BatchWarmup | None = None
    """Batches that grow at the beginning of the run."""
    lanes: Count = 64
    """Virtual readers that a data set is dealt to, fixed for the run; at most its rows."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.rows is None) == (self.tokens is None):
            raise ValueError("give either rows or tokens")
        return self

    @property
    def micro_rows(self) -> int:
        """Most rows of a micro-batch; 1 until somebody has chosen."""
        return 1 if self.micro == "auto" else self.micro

    def rows_of(self, mean_tokens: float) -> int:
        """Return the rows of a batch whose examples have `mean_tokens` on average."""
        return self.rows or max(1, round((self.tokens or 0) / mean_tokens))


class Engine(Section):
    """How the work is spread and in which precision it is done."""

    change: ClassVar[Change] = "allowed"

    workers: Count = 1
    """Ranks, one a GPU or a few CPU cores."""
    threads: Count = 1
    """CPU threads of a worker."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed shards: nothing, optimizer state, gradients too, parameters too."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Field(json_schema_extra=REASON)] = "fp32"
    """What the forward pass computes in; weights and optimizer state stay fp32. fp16 has a dynamic loss scale, for GPUs without
    bf16. auto takes what this machine is good at when the run starts, and writes it into the run."""
    determinism: Literal["strict", "fast"] = "strict"
    """On GPUs: strict gives equal bits to equal runs as far as kernels allow, fast gives equal rows and masks only."""
    timeout_seconds: Count = 600
    """How long a collective waits for a worker before the run ends with exit code 60."""


class Checkpoints(Section):
    """When state is written, and how much of it is kept."""

    change: ClassVar[Change] = "allowed"

    every_steps: Count = 1000
    keep_last: Annotated[int, Field(ge=2)] = 3


class Evaluation(Section):
    """Held-out loss during training."""

    change: ClassVar[Change] = "allowed"

    every_steps: Count = 1000
    rows: Count = 512
    """Held-out examples of each task, at most; its sources share them. Their masks are the same every time."""


class Data(Section):
    """Reading examples during training."""

    change: ClassVar[Change] = "allowed"

    loader_processes: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that read ahead for each worker; 0 reads ahead in a thread. The order never depends on it."""
    prefetch_steps: Count = 4


class Metrics(Section):
    """The Prometheus endpoint of worker 0."""

    change: ClassVar[Change] = "allowed"

    host: str = "127.0.0.1"
    """Interface to listen on; the default can be reached from this machine only."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 takes a free port and says which."""


class Extension(Section):
    """A run that was made longer than planned; ptm train --extend writes it."""

    change: ClassVar[Change] = "frozen"

    after_steps: Count
    """The steps that were planned at first."""
    rate: ExtendedRate
    """The learning rate: its shape over all steps, so that it jumps up; what it was at the last planned step; a new warm-up and decay."""
    sources: tuple[Name, ...] = ()
    """Sources that have joined, in their order: they teach the tokenizer nothing, and lose what they share with those before them."""


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
        for name, task in self.tasks.items():
            if task.format.length > self.model.longest:
                raise ValueError(f"tasks.{name}.format.length {task.format.length} exceeds the model's positions {self.model.longest}")
        return self

    @model_validator(mode="after")
    def _formats_give_what_is_read(self) -> Self:
        for name, task in self.tasks.items():
            check_task(f"tasks.{name}", task, self.corpus.units is not None)
            check_memory(f"tasks.{name}", task, self.model)
            check_segments(f"tasks.{name}", task, self.model)
            own = [stage.name for stage in self.stages if name in stage.steps and (stage.rows or stage.tokens)]
            if task.format.stateful and (self.batch.rows != self.batch.lanes or self.batch.warmup or own):
                raise ValueError(
                    f"batch.rows {self.batch.rows}: the rows of tasks.{name} go on from batch to batch, one in each lane, so batch.rows "
                    f"must be batch.lanes ({self.batch.lanes}) in every stage, without batch.warmup"
                )
        return self

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
